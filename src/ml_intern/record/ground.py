"""Where a session begins, as its system text tells it: the machine, and texts that join it. Knows no file."""

from typing import Literal

from msgspec import Struct


class Accelerator(Struct, frozen=True):
    """A card as its driver names it; `memory_bytes` 0: not known."""

    name: str
    memory_bytes: int


class Machine(Struct, frozen=True):
    """What the session's commands may use of the machine; `disk_bytes` is what was free where the workspace lies."""

    cores: int
    memory_bytes: int
    disk_bytes: int
    accelerators: tuple[Accelerator, ...] = ()


Kind = Literal["instructions", "skills", "memory"]


class Joined(Struct, frozen=True):
    """A text that follows the system text and is trusted less than the user: `text` as the model is told it, `sha` of
    the whole file (empty: of no single one), `size` its bytes (0: all of them are
    told).
    """

    kind: Kind
    path: str
    sha: str
    text: str
    size: int = 0


class GroundSet(Struct, frozen=True, tag_field="type", tag="ground_set"):
    """What the system text says of the session's beginning. It stays, so that prefixes stay cached: what changes
    later is told as a message. `cap` is in micro-dollars, `due` in milliseconds since 1970; `kinds` are those of texts
    that may join.
    """

    machine: Machine | None = None
    joined: tuple[Joined, ...] = ()
    cap: int | None = None
    due: int | None = None
    kinds: tuple[Kind, ...] = ()
