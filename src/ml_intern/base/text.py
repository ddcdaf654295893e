"""Text that must fit: clip head and tail, strip control sequences. Knows no tool and no screen."""

import re
from typing import NamedTuple

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


class Clipped(NamedTuple):
    """A text cut to a budget, and how many characters were left out of its middle."""

    text: str
    omitted_chars: int


def clip(text: str, budget_chars: int, *, head_share: float = 0.25, note: str = "") -> Clipped:
    """Keep the head and the tail of `text` within about `budget_chars`, cut at line ends where one is near.

    `note` joins the marker in the gap (for example how to page the rest). The marker itself is not counted.
    """
    if len(text) <= budget_chars:
        return Clipped(text, 0)
    head = text[: int(budget_chars * head_share)]
    tail = text[len(text) - (budget_chars - len(head)) :]
    head = head[: head.rfind("\n") + 1] if "\n" in head[len(head) // 2 :] else head
    tail = tail[tail.find("\n") + 1 :] if "\n" in tail[: len(tail) // 2] else tail
    omitted = len(text) - len(head) - len(tail)
    marker = f"\n[... {omitted:,} characters left out{'; ' + note if note else ''} ...]\n"
    return Clipped(f"{head}{marker}{tail}", omitted)


def plain(text: str) -> str:
    """`text` without ANSI escape sequences; carriage-return progress bars keep only their last state."""
    text = _ANSI.sub("", text).replace("\r\n", "\n")
    if "\r" not in text:
        return text
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def visible(text: str) -> str:
    """`text` with control, zero-width and bidirectional characters spelled out (`\\x1b`, `\\u202e`): for approvals."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def one_line(text: str, width: int) -> str:
    """The text on one line of at most `width` characters, with an ellipsis where it was cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"
