"""What arrived of a reply and was not shown yet: neighbours of one kind become one delta, halves of characters wait.

Knows no wire.
"""

import re
from collections.abc import Callable, Iterator

from ml_intern.model.port import CallDelta, Delta, TextDelta, ThinkingDelta

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HALF_AT_END = re.compile(r"[\ud800-\udbff]\Z")


class Fresh:
    """Pieces in the order of their arrival. A reader does not pay for every token."""

    def __init__(self) -> None:
        self._pieces: list[tuple[str, int, str]] = []

    def add(self, kind: str, index: int, piece: str) -> None:
        """Note a piece of `text`, of `thinking` or of the `call` with this index."""
        self._pieces.append((kind, index, piece))

    def take(self, name_of: Callable[[int], str], *, ends: bool = False) -> list[Delta]:
        """What arrived since the last time. `name_of` is the tool of a call, by its index."""
        deltas: list[Delta] = []
        runs = list(self._runs())
        self._pieces = []
        for at, (kind, index, piece) in enumerate(runs, 1):
            text = piece
            if not text.isascii() and _SURROGATE.search(text):
                if at == len(runs) and not ends and (half := _HALF_AT_END.search(text)):
                    # The other half of this character comes with the next piece.
                    self._pieces, text = [(kind, index, half.group())], text[:-1]
                text = mended(text)
            if kind == "call":
                deltas.append(CallDelta(index, name_of(index), text))
            elif text:
                deltas.append(TextDelta(text) if kind == "text" else ThinkingDelta(text))
        return deltas

    def _runs(self) -> Iterator[tuple[str, int, str]]:
        fresh, start = self._pieces, 0
        for end in range(1, len(fresh) + 1):
            kind, index, text = fresh[start]
            if end == len(fresh) or fresh[end][0] != kind or fresh[end][1] != index:
                yield kind, index, text if end == start + 1 else "".join([piece[2] for piece in fresh[start:end]])
                start = end


def mended(text: str) -> str:
    """`text` with halves of characters that came apart put together, and lone ones replaced."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
