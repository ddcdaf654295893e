"""What a person sees of a call, by kind. Doors draw kinds; nothing here knows a tool or a screen."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class TextDisplay:
    """A title and plain text."""

    title: str
    text: str = ""
    kind: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class DiffDisplay:
    """A unified diff of one file, with the lines it adds and removes."""

    path: str
    diff: str
    added: int
    removed: int
    kind: Literal["diff"] = "diff"


@dataclass(frozen=True, slots=True)
class TableDisplay:
    """A table: one title, column names, rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kind: Literal["table"] = "table"


@dataclass(frozen=True, slots=True)
class LogDisplay:
    """A command and what it printed; `exit_code` is None while it runs or where it had none."""

    title: str
    text: str = ""
    exit_code: int | None = None
    seconds: float | None = None
    kind: Literal["log"] = "log"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One line of the plan."""

    id: str
    content: str
    status: Literal["pending", "in_progress", "completed"]


@dataclass(frozen=True, slots=True)
class PlanDisplay:
    """The plan as it stands now."""

    items: tuple[PlanItem, ...]
    kind: Literal["plan"] = "plan"


@dataclass(frozen=True, slots=True)
class LinkDisplay:
    """A place to open."""

    title: str
    url: str
    kind: Literal["link"] = "link"


@dataclass(frozen=True, slots=True)
class ImageDisplay:
    """A picture kept as a blob."""

    title: str
    sha: str
    mime: str
    kind: Literal["image"] = "image"


Display = TextDisplay | DiffDisplay | TableDisplay | LogDisplay | PlanDisplay | LinkDisplay | ImageDisplay
