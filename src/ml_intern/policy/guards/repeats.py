"""Notices that a model goes in circles: the same calls with the same results, one by one or in rounds. Only the latest
calls count, and only what came after the last nudge. Knows no tool.

A call that took ten seconds and failed is either a wait that says "not yet" by its exit code or work that fails the
same way each time, and nothing tells which. So it may come twice as often before the model is told, and it is told
only, every so many rounds: the first must not end a night, and the second must not go unnoticed.
"""

import json
from typing import Any

from ml_intern.policy.guards.verdicts import Nudge, Pause
from ml_intern.record.folds.conduct import Deed
from ml_intern.record.view import View

LONGEST_ROUND = 5
COOLDOWN_STEPS = 20
"""A model that goes in circles again so soon after a nudge did not take it in."""

_SLOWLY = 2
_REMEDY = "Resume the session and say what to do instead; --guard-repeats N allows more (off: any number)."


def repeats(view: View, lane: str, now_ms: int) -> Nudge | Pause | None:
    """Nudge at so many equal calls or rounds of 2 to 5 calls; the next time it is for a person to look."""
    most, conduct = view.settings.guards.repeats, view.lane(lane).conduct
    if most is None:
        return None
    fresh = conduct.deeds[len(conduct.deeds) - min(conduct.fresh, len(conduct.deeds)) :]
    length, times = round_of(fresh, most)
    if not length:
        return None
    names = ", ".join(dict.fromkeys(deed.tool for deed in conduct.deeds[-length:]))
    what = f"the same call ({names})" if length == 1 else f"the same {length} calls ({names}) in turn"
    told = conduct.told.get("repeats")
    if told is not None and conduct.steps - told <= COOLDOWN_STEPS and times == most:
        return Pause(
            f"The model made {what} {times} times with the same result, and again after it was told so.", _REMEDY
        )
    return Nudge(
        f"You have made {what} {times} times, each time with the same result. Doing it again will not change that. "
        "Say to yourself what you expected and why it did not come, then take another way: look at something else, "
        "change the arguments, wait longer in one call, or answer with what is done and what stands in the way."
    )


def round_of(deeds: tuple[Deed, ...], most: int) -> tuple[int, int]:
    """Of how many calls the round is that the latest calls repeat, and how often they did; 0, 0: there is none."""
    for length in range(1, LONGEST_ROUND + 1):
        times = _SLOWLY * most if any(deed.slow for deed in deeds[-length:]) else most
        tail = deeds[-length * times :]
        pairs = zip(tail, tail[length:], strict=False)
        if len(tail) == length * times and all(_is_same(one, other) for one, other in pairs):
            return length, times
    return 0, 0


def _is_same(one: Deed, other: Deed) -> bool:
    """A call that waited is none: time went by, as it should. Nor is one that changed something."""
    if one.moved or other.moved or one.tool != other.tool or one.result != other.result:
        return False
    return one.arguments == other.arguments or _canonical(one.arguments) == _canonical(other.arguments)


def _canonical(arguments: str) -> str:
    try:
        value: Any = json.loads(arguments)
        return json.dumps(value, sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
