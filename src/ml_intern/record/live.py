"""What is seen while it happens and never stored: text deltas, output lines, progress. Knows no door and no model."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct


class LiveItem(Struct, frozen=True):
    """A piece of something whose final event is still to come. `key` is the attempt's or the call's id.

    A door drops the items of a key when the event that closes it arrives.
    """

    lane: str
    key: str
    kind: Literal["text", "thinking", "call", "output", "progress"]
    text: str
    index: int = 0


class Live:
    """Hands live items to readers. A reader must not block; what it cannot take it drops."""

    def __init__(self) -> None:
        self._readers: tuple[Callable[[LiveItem], None], ...] = ()

    def read_with(self, reader: Callable[[LiveItem], None]) -> Callable[[], None]:
        """Send every item to `reader` from now on; returns what ends that."""
        self._readers = (*self._readers, reader)

        def leave() -> None:
            self._readers = tuple(each for each in self._readers if each is not reader)

        return leave

    @property
    def watched(self) -> bool:
        """Whether anyone reads: without readers nothing needs to be prepared."""
        return bool(self._readers)

    def send(self, item: LiveItem) -> None:
        """Hand `item` to every reader."""
        for reader in self._readers:
            reader(item)
