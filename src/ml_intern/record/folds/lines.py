"""One line of a transcript. Knows no fold."""

from msgspec import Struct

from ml_intern.record.messages import Message


class Line(Struct, frozen=True):
    """One message and the sequence number of the event with which it joined the transcript.

    `entry` is that of the event which brought the message (0: the same), `blob` where all of a clipped answer is kept.
    """

    seq: int
    message: Message
    entry: int = 0
    blob: str | None = None
