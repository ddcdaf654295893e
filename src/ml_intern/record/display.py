"""What a person sees of a call, by kind. Doors draw kinds; nothing here knows a tool or a screen."""

from typing import Literal

from msgspec import Struct


class TextDisplay(Struct, frozen=True, tag_field="kind", tag="text"):
    """A title and plain text."""

    title: str
    text: str = ""


class DiffDisplay(Struct, frozen=True, tag_field="kind", tag="diff"):
    """A unified diff of one file, with the lines it adds and removes."""

    path: str
    diff: str
    added: int
    removed: int


class TableDisplay(Struct, frozen=True, tag_field="kind", tag="table"):
    """A table: one title, column names, rows of cells."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class LogDisplay(Struct, frozen=True, tag_field="kind", tag="log"):
    """A command and what it printed; `exit_code` is None while it runs or where it had none."""

    title: str
    text: str = ""
    exit_code: int | None = None
    seconds: float | None = None


class PlanItem(Struct, frozen=True):
    """One line of the plan."""

    id: str
    content: str
    status: Literal["pending", "in_progress", "completed"]


class PlanDisplay(Struct, frozen=True, tag_field="kind", tag="plan"):
    """The plan as it stands now."""

    items: tuple[PlanItem, ...]


class LinkDisplay(Struct, frozen=True, tag_field="kind", tag="link"):
    """A place to open."""

    title: str
    url: str


class ImageDisplay(Struct, frozen=True, tag_field="kind", tag="image"):
    """A picture kept as a blob."""

    title: str
    sha: str
    mime: str


Display = TextDisplay | DiffDisplay | TableDisplay | LogDisplay | PlanDisplay | LinkDisplay | ImageDisplay
