"""A persistent append-only sequence: appending costs O(1) and leaves every older version as it was.
Knows no item type.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Trail(Generic[T]):
    """A prefix of a shared list. Versions share storage; a version that is no longer the newest copies on append.

    Folds keep one version per view: a tuple would make a long session quadratic (15 001 events: 0.8 s).
    """

    __slots__ = ("_items", "_length")

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items = list(items)
        self._length = len(self._items)

    def plus(self, *more: T) -> "Trail[T]":
        """A new version with `more` at its end."""
        # Not by way of the constructor, which would make a list in vain: this is done for each entry of a record.
        grown = object.__new__(type(self))
        grown._items = self._items if len(self._items) == self._length else self._items[: self._length]
        grown._items.extend(more)
        grown._length = len(grown._items)
        return grown

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for index in range(self._length):
            yield self._items[index]

    def __getitem__(self, index: int) -> T:
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._items[index % self._length if self._length else 0]

    def since(self, start: int) -> list[T]:
        """The items from `start` on, as a new list."""
        return self._items[start : self._length]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trail) and list(self) == list(other)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Trail({list(self)!r})"
