"""The purse: cap, spent, and what is reserved by whom. Knows no price and no policy."""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.record.events import (
    CapSet,
    Event,
    ModelAsked,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    ToolFinished,
    ToolStarted,
)


class Purse(Struct, frozen=True):
    """Micro-dollars. `reserved` maps an attempt's or a call's id to its worst case;
    `cap` None means none was set yet.
    """

    cap: int | None = None
    spent: int = 0
    reserved: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def committed(self) -> int:
        """Spent plus everything that open attempts and calls may still cost."""
        return self.spent + sum(self.reserved.values())

    @property
    def free(self) -> int:
        """What may still be reserved; never below zero, and zero where no cap was set."""
        return max(0, (self.cap or 0) - self.committed)


def fold_purse(purse: Purse, event: Event) -> Purse:
    """The purse after `event`."""
    match event:
        case ModelAsked(attempt=key, reserved=amount) | ToolStarted(call=key, reserved=amount):
            return _reserve(purse, key, amount)
        case ModelReplied(attempt=key) | ToolFinished(call=key) | ModelFailed(attempt=key) | ModelStopped(attempt=key):
            return _book(purse, key, event.cost)
        case CapSet(cap=cap):
            return replace(purse, cap=cap)
        case _:
            return purse


def _reserve(purse: Purse, key: str, amount: int) -> Purse:
    return replace(purse, reserved={**purse.reserved, key: amount}) if amount else purse


def _book(purse: Purse, key: str, cost: int) -> Purse:
    if key not in purse.reserved:
        return replace(purse, spent=purse.spent + cost) if cost else purse
    left = {other: amount for other, amount in purse.reserved.items() if other != key}
    return replace(purse, spent=purse.spent + cost, reserved=left)
