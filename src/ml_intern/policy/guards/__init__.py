"""Guards: small readers of the view, asked before each request. Each may nudge the model, let a person look, or end the
turn.
"""

from collections.abc import Callable

from msgspec import Struct

from ml_intern.policy.guards.deadline import deadline
from ml_intern.policy.guards.limits import limits
from ml_intern.policy.guards.malformed import malformed
from ml_intern.policy.guards.repeats import repeats
from ml_intern.policy.guards.stall import stall
from ml_intern.policy.guards.truncated import truncated
from ml_intern.policy.guards.verdicts import EndTurn, Nudge, Pause, Verdict
from ml_intern.record.events import Nudged, Paused, TurnEnded
from ml_intern.record.view import MAIN, View

Guard = Callable[[View, str, int], "Verdict | None"]

ALL: tuple[Guard, ...] = (limits, deadline, truncated, malformed, repeats, stall)


_URGENT: tuple[type[Verdict], ...] = (EndTurn, Pause, Nudge)


class Noticed(Struct, frozen=True):
    """What a guard noticed."""

    guard: str
    verdict: Verdict


def ask_guards(view: View, lane: str, now_ms: int, guards: tuple[Guard, ...] = ALL) -> Noticed | None:
    """The first thing a guard notices; ending a turn comes before pausing it, that before nudging."""
    noticed = [Noticed(guard.__name__, verdict) for guard in guards if (verdict := guard(view, lane, now_ms))]
    return min(noticed, key=lambda each: _URGENT.index(type(each.verdict)), default=None)


def outcome(noticed: Noticed, view: View, lane: str) -> Nudged | Paused | TurnEnded:
    """What is recorded of it. Only the main agent waits for a person, and only where one may come."""
    match noticed.verdict:
        case Nudge(text=text):
            return Nudged(noticed.guard, text)
        case Pause(what=what, remedy=remedy) if lane == MAIN and _may_come(view):
            return Paused(noticed.guard, what, remedy)
        case Pause(what=what, remedy=remedy) | EndTurn(what=what, remedy=remedy):
            return TurnEnded("limit", what, remedy)


def _may_come(view: View) -> bool:
    mode = view.settings.mode
    return mode is not None and mode.on_ask == "hold"
