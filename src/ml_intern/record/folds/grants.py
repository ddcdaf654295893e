"""What a person allowed within bounds, and how much of it is used. Knows no rule and no effect."""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.record.events import Entry, Granted, GrantEnded, ToolFinished, ToolStarted, TurnEnded


class Given(Struct, frozen=True):
    """One grant: calls that used it, micro-dollars they cost or may still cost; `ended` says why it holds no longer."""

    granted: Granted
    used: int = 0
    spent: int = 0
    reserved: Mapping[str, int] = field(default_factory=dict[str, int])
    ended: str = ""

    @property
    def committed(self) -> int:
        """What of `total` is gone."""
        return self.spent + sum(self.reserved.values())


Grants = Mapping[str, Given]


def fold_grants(grants: Grants, entry: Entry) -> Grants:
    """The grants after `entry`. A turn of the main agent ends what was given for it."""
    if not grants:
        return {entry.event.grant: Given(entry.event)} if isinstance(entry.event, Granted) else grants
    match entry.event:
        case ToolStarted(call=call, reserved=amount, grants=used):
            return {**grants, **{key: _used(grants[key], call, amount) for key in used if key in grants}}
        case ToolFinished(call=call, cost=cost):
            return {key: _booked(given, call, cost) for key, given in grants.items()}
        case Granted(grant=key) as granted:
            return {**grants, key: Given(granted)}
        case GrantEnded(grant=key, why=why) if key in grants:
            return {**grants, key: replace(grants[key], ended=why)}
        case TurnEnded() if entry.lane == "main":
            return {key: _after_turn(given) for key, given in grants.items()}
        case _:
            return grants


def _after_turn(given: Given) -> Given:
    return replace(given, ended=given.ended or "its turn is over") if given.granted.turn else given


def _used(given: Given, call: str, amount: int) -> Given:
    return replace(given, used=given.used + 1, reserved={**given.reserved, call: amount})


def _booked(given: Given, call: str, cost: int) -> Given:
    if call not in given.reserved:
        return given
    left = {other: amount for other, amount in given.reserved.items() if other != call}
    return replace(given, spent=given.spent + cost, reserved=left)
