"""What a finished call leaves for the folds: files read and changed, the plan. Knows no tool and no disk."""

from msgspec import Struct

from ml_intern.record.display import PlanItem


class FileRead(Struct, frozen=True, tag_field="kind", tag="file_read"):
    """A model saw this file's content (`whole`: all of it) when its hash was `sha`."""

    path: str
    sha: str
    whole: bool = True


class FileChange(Struct, frozen=True, tag_field="kind", tag="file_change"):
    """A file went from `before` to `after` (hex SHA-256; None: it does not exist, "?": not hashed).

    `authored`: the model gave the content itself, so it knows it; False: a command changed the file.
    """

    path: str
    before: str | None
    after: str | None
    authored: bool = True


class PlanSet(Struct, frozen=True, tag_field="kind", tag="plan_set"):
    """The plan was replaced by these items."""

    items: tuple[PlanItem, ...]


class Source(Struct, frozen=True, tag_field="kind", tag="source"):
    """A report leans on this file or page; `sha` is the file's hash, "" for a page. The lane itself saw neither."""

    target: str
    sha: str = ""


Fact = FileRead | FileChange | PlanSet | Source
