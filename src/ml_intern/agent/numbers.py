"""Numbers with names, as commands print them: `eval_loss=0.31`, `"accuracy": 0.91`. Knows no metric's meaning."""

import re
from itertools import islice

from ml_intern.record.clearing import Told
from ml_intern.record.folds.memory import measures

_MOST_EACH = 40
_HEAD_CHARS = 2_000
_TAIL_CHARS = 8_000
_NUMBERED = re.compile(r"\s*\d+\t")
_TOLD = re.compile(
    r"""(?<![\w.$/-])(?P<name>[A-Za-z][\w./@%-]{0,47}(?:\ [A-Za-z(][\w./@()-]{0,23}){0,2})
    ['"]?\ {0,8}(?:=|:)\ {0,8}
    (?P<value>[-+]?\d{1,15}(?:,\d{3}){0,5}(?:\.\d{1,17})?(?:[eE][-+]?\d{1,3})?%?)(?![\w:/]|[.-]\w)""",
    re.VERBOSE,
)


def told_numbers(text: str, entry: int) -> list[Told]:
    """The numbers that `text`, the answer of this entry, tells: of many those that measure something, then the last.

    Of a long text only its beginning and its end are looked at; the numbered lines of a file are no output.
    """
    parts = [text] if len(text) <= _HEAD_CHARS + _TAIL_CHARS else [text[:_HEAD_CHARS], text[-_TAIL_CHARS:]]
    rows = (row for part in parts for row in part.splitlines() if not _NUMBERED.match(row))
    found = [Told(each["name"], each["value"], entry) for row in rows for each in islice(_TOLD.finditer(row), 20)]
    if len(found) <= _MOST_EACH:
        return found
    metrics = [each for each in found if measures(each.name)][-_MOST_EACH:]
    return metrics or found[-_MOST_EACH // 4 :]
