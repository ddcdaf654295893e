"""What a finished call leaves for the folds: files read and changed, the plan. Knows no tool and no disk."""

from dataclasses import dataclass
from typing import Literal

from ml_intern.record.display import PlanItem


@dataclass(frozen=True, slots=True)
class FileRead:
    """A model saw this file's content (`whole`: all of it) when its hash was `sha`."""

    path: str
    sha: str
    whole: bool = True
    kind: Literal["file_read"] = "file_read"


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file went from `before` to `after` (hex SHA-256; None: it does not exist, "?": not hashed).

    `authored`: the model gave the content itself, so it knows it; False: a command changed the file.
    """

    path: str
    before: str | None
    after: str | None
    authored: bool = True
    kind: Literal["file_change"] = "file_change"


@dataclass(frozen=True, slots=True)
class PlanSet:
    """The plan was replaced by these items."""

    items: tuple[PlanItem, ...]
    kind: Literal["plan_set"] = "plan_set"


Fact = FileRead | FileChange | PlanSet
