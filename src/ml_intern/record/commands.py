"""What a person may ask of a session. Each has an id: one that is already in the record is dropped. Knows no door."""

from typing import Literal

from msgspec import Struct

from ml_intern.record.messages import Image


class Say(Struct, frozen=True):
    """A message. `seen` is the last sequence number the door had shown when it was written."""

    id: str
    text: str
    seen: int = 0
    when: Literal["now", "after"] = "now"
    images: tuple[Image, ...] = ()


class Answer(Struct, frozen=True):
    """Yes or no to the held call `call`, as it was shown under `binding`; `text` goes to the model with a no."""

    id: str
    call: str
    binding: str
    approve: bool
    text: str = ""
    by: str = "user"


class Permit(Struct, frozen=True):
    """Allow the next `times` calls like the held one (None: every one of this session), without being asked again."""

    id: str
    call: str
    binding: str
    times: int | None = None


class Stop(Struct, frozen=True):
    """End the turn now: a person's wish, or the turn's time is up.

    What the present step left running in the background ends with it; with `commands`, or when the time is up, all.
    """

    id: str
    reason: Literal["interrupted", "limit"] = "interrupted"
    commands: bool = False


class Lift(Struct, frozen=True):
    """Let a turn go on that a guard has paused."""

    id: str


class Rename(Struct, frozen=True):
    """Give the session a title."""

    id: str
    title: str


class Undo(Struct, frozen=True):
    """Hide the last `turns` turns from the model. What they cost, changed and were answered stays."""

    id: str
    turns: int = 1


class Compact(Struct, frozen=True):
    """Make a summary of what was said before the model is asked again."""

    id: str


Command = Say | Answer | Permit | Stop | Lift | Rename | Undo | Compact
