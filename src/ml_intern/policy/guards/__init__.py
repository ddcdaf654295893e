"""Guards: small readers of the view, asked before each request. Each may nudge the model or end the turn."""

from collections.abc import Callable

from msgspec import Struct

from ml_intern.policy.guards.deadline import deadline
from ml_intern.policy.guards.limits import limits
from ml_intern.policy.guards.malformed import malformed
from ml_intern.policy.guards.verdicts import EndTurn, Nudge
from ml_intern.record.view import View

Guard = Callable[[View, str, int], "Nudge | EndTurn | None"]

ALL: tuple[Guard, ...] = (limits, deadline, malformed)


class Noticed(Struct, frozen=True):
    """What a guard noticed."""

    guard: str
    verdict: Nudge | EndTurn


def ask_guards(view: View, lane: str, now_ms: int, guards: tuple[Guard, ...] = ALL) -> Noticed | None:
    """The first thing a guard notices; ending a turn comes before nudging."""
    noticed = [Noticed(guard.__name__, verdict) for guard in guards if (verdict := guard(view, lane, now_ms))]
    return next((each for each in noticed if isinstance(each.verdict, EndTurn)), noticed[0] if noticed else None)
