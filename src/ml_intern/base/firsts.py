"""A persistent map of what was first seen when: growing costs what is new and leaves every older version as it was.
Knows no key's meaning.
"""

from collections.abc import Iterable, Iterator


class Firsts:
    """Keys with the number of what brought them first. Numbers grow from one version to the next.

    Versions share storage; one that is no longer the newest copies as it grows. A plain dict in each of a long
    session's views would be copied for every entry.
    """

    __slots__ = ("_length", "_numbers", "_upto")

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._length = 0
        self._upto = 0

    def plus(self, keys: Iterable[str], number: int) -> "Firsts":
        """A new version with those of `keys` that are not there yet, brought by `number`."""
        fresh = [key for key in keys if key not in self]
        if not fresh:
            return self
        grown = Firsts()
        newest = self._length == len(self._numbers) and number > self._upto
        grown._numbers = self._numbers if newest else {key: self._numbers[key] for key in self}
        grown._numbers.update(dict.fromkeys(fresh, number))
        grown._length, grown._upto = len(grown._numbers), number
        return grown

    def get(self, key: str) -> int | None:
        """The number that brought the key; None where it is not there."""
        number = self._numbers.get(key)
        return number if number is not None and number <= self._upto else None

    def __contains__(self, key: object) -> bool:
        number = self._numbers.get(key) if isinstance(key, str) else None
        return number is not None and number <= self._upto

    def __iter__(self) -> Iterator[str]:
        return (key for key, number in list(self._numbers.items()) if number <= self._upto)

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Firsts) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Firsts({list(self)!r})"
