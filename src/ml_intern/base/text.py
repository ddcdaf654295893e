"""Text that must fit: clip head and tail, strip control sequences. Knows no tool and no screen."""

import re
from typing import NamedTuple

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_EMOJI = r"\xa9\xae\u203c\u2049\u2122\u2139\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_UNSEEN = (
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\U000e0000-\U000e007f]"
    # Inside an emoji these two join what is seen; anywhere else they hide.
    rf"|(?<![{_EMOJI}\ufe0f])\u200d|\u200d(?![{_EMOJI}])|(?<![{_EMOJI}])\ufe0f(?!\u20e3)"
)
_UNSEEN_IN_LINE = rf"[\t\n]|{_UNSEEN}"


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
    """`text` with control, zero-width and bidirectional characters spelled out (`\\x1b`, `\\u202e`): for approvals.

    Line ends and tabs stay; where a text must not begin a line of its own, take `visible_line`.
    """
    return text if _is_plain(text) else re.sub(_UNSEEN, _spelled, text)


def visible_line(text: str) -> str:
    """What `visible` makes of `text`, with line ends and tabs spelled out as well: it cannot forge a line."""
    return text if _is_plain(text) else re.sub(_UNSEEN_IN_LINE, _spelled, text)


def _is_plain(text: str) -> bool:
    """Whether there is nothing to look for: most texts are such, and the patterns take long to make."""
    return text.isascii() and text.isprintable()


def _spelled(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()


def one_line(text: str, width: int) -> str:
    """The text on one line of at most `width` characters, with an ellipsis where it was cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)[bB]?")


def size_of(text: str) -> int | None:
    """The bytes that `800MB`, `1.5 GB` or `20G` says, None where it says none."""
    found = _SIZE.fullmatch(text.strip())
    return round(float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " ")) if found else None


def size(count: int) -> str:
    """Bytes for a person: `0 B`, `812 kB`, `1.5 GB` (thousands, as disks are sold)."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}" if unit != "B" and number < 10 else f"{number:.0f} {unit}"
