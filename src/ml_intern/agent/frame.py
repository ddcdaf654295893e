"""Frames for texts that join a prompt and are trusted less than the user. Pure; knows no file.

The marks hold a hash of the text, so no text can close its own frame: it would have to hold its own hash.
"""

import hashlib

from ml_intern.base.text import one_line, visible, visible_line

MOST_BYTES = 32_768
"""Of one text, however large the model's window is."""
_LEAST_BYTES = 2_048
_NAME_CHARS = 200


def budget(window: int | None, most: int = MOST_BYTES) -> int:
    """Bytes that one text may take of a prompt: an eighth of a window (tokens) at about four bytes a token."""
    return most if window is None else max(_LEAST_BYTES, min(most, window // 2))


def clipped(text: str, limit: int, path: str) -> str:
    """The beginning of `text` within `limit` bytes, cut at a line's end, and a sentence on what is left out."""
    data = text.encode()
    if len(data) <= limit:
        return text
    head = data[:limit].decode(errors="ignore")
    head = head[: head.rfind("\n") + 1] if "\n" in head[len(head) // 2 :] else head
    left = len(data) - len(head.encode())
    return f"{head.rstrip()}\n[{left:,} of {len(data):,} bytes left out here: the rest stands in {path}]"


def framed(kind: str, path: str, text: str) -> str:
    """`text` between marks that only we can have written. Characters that nobody sees are spelled out."""
    shown = visible(text).strip()
    mark = hashlib.sha256(shown.encode()).hexdigest()[:12]
    name = one_line(visible_line(path), _NAME_CHARS)
    return f"[{kind} {mark}: {name}]\n{shown}\n[end of {kind} {mark}]"
