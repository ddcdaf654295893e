"""A title for a session that nobody named: the first words of its first message, cleaned. Pure; asks no model."""

import re

from ml_intern.base.text import one_line, plain, visible

MOST_CHARS = 60

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_LEADING = re.compile(r"^[\s#>*+\-\d.)`\"']*(?=\w)")
_COURTESY = re.compile(
    r"^(?:(?:hi|hello|hey|please|kindly|ok(?:ay)?|(?:can|could|would|will) you|i(?:'d| would) like you to|"
    r"i (?:want|need) you to)\b(?: there)?[\s,.!:]*)+(?=\w)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?:;](?=\s)")
_SHORTEST_CHARS = 12


def title_of(text: str) -> str:
    """At most `MOST_CHARS` characters on one line, "" where `text` has no words.

    Marks of Markdown and words of courtesy go; the first sentence stands alone where it says something.
    """
    prose = _LINK.sub(r"\1", _FENCE.sub(" ", plain(text)))
    lines = (_LEADING.sub("", line).strip() for line in prose.splitlines())
    first = next((line for line in lines if any(each.isalnum() for each in line)), "")
    first = _COURTESY.sub("", first.replace("`", "").replace("**", ""))
    end = _SENTENCE_END.search(first, _SHORTEST_CHARS)
    first = visible(first[: end.start()] if end else first).rstrip(" .,:;")
    return _cut(one_line(first, len(first) + 1))


def clean_title(text: str) -> str:
    """A title as a person gave it, on one line, without control characters, at most twice as long as our own."""
    return one_line(visible(plain(text)), 2 * MOST_CHARS)


def _cut(line: str) -> str:
    if len(line) <= MOST_CHARS:
        return line
    head = line[: MOST_CHARS - 1]
    whole, _, _ = head.rpartition(" ")
    return f"{(whole if len(whole) > MOST_CHARS // 2 else head).rstrip(' ,;:')}…"
