"""How a transcript gets shorter: answers that become references, summaries, undo; and numbers that must not be lost.

Knows no fold and no model.
"""

from msgspec import Struct


class Told(Struct, frozen=True):
    """A number under its name, as a command printed it; `entry` is where."""

    name: str
    value: str
    entry: int


class Compacted(Struct, frozen=True, tag_field="type", tag="compacted"):
    """Entries of this lane up to `upto` are seen by the model as `summary` from here on. They stay in the record.

    `numbers` are those that the hidden answers told.
    """

    upto: int
    summary: str
    numbers: tuple[Told, ...] = ()


class Cleared(Struct, frozen=True, tag_field="type", tag="cleared"):
    """The model sees what these entries of its lane brought as references from here on: `shown` characters of each at
    the most, no images. `numbers` are those that they told. The entries stay in the record.
    """

    entries: tuple[int, ...]
    shown: int = 0
    numbers: tuple[Told, ...] = ()


class Undone(Struct, frozen=True, tag_field="type", tag="undone"):
    """Entries of this lane after `upto` are hidden from transcript and plan; money, answers and file facts stay."""

    command: str
    upto: int


class CompactAsked(Struct, frozen=True, tag_field="type", tag="compact_asked"):
    """A person wants the transcript of this lane compacted before the model is asked again."""

    command: str
