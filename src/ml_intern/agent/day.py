"""What the agent asks of the day's budget. Knows no store."""

from typing import Protocol

from msgspec import Struct

from ml_intern.base.money import Micro, show


class Day(Protocol):
    """A budget over all sessions, beside the session's own."""

    async def left(self) -> Micro | None:
        """What may still be reserved today; None without a cap."""
        ...

    async def reserve(self, key: str, amount: int) -> bool:
        """Reserve the worst case of an attempt or a call; False where the day cannot pay it."""
        ...

    def book(self, key: str, cost: int) -> None:
        """The reservation becomes what it really cost."""
        ...


class EveryDay(Struct, frozen=True):
    """No budget over sessions."""

    async def left(self) -> Micro | None:
        """There is no cap."""
        return None

    async def reserve(self, key: str, amount: int) -> bool:
        """There is nothing to reserve from."""
        return True

    def book(self, key: str, cost: int) -> None:
        """There is nothing to book."""


REMEDY = "Go on tomorrow, or raise it: [budget] day in the settings, or ML_INTERN_DAY_BUDGET."


def spent_words(left: Micro) -> str:
    """The sentence for a day that cannot pay."""
    return f"The day's budget over all sessions has {show(left)} left, which is not enough."
