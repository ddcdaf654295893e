"""How a lane has behaved since a person last spoke: its last calls with their results, steps without a change, replies
that were cut, what guards said. Knows no guard and no tool.
"""

import re
from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.record.asides import ASIDES
from ml_intern.record.display import PlanItem
from ml_intern.record.events import Entry, Lifted, ModelReplied, Nudged, ToolFinished, TurnEnded, UserSaid
from ml_intern.record.facts import FileChange, PlanSet
from ml_intern.record.folds.calls import Calls

KEPT = 60
"""How many calls are remembered."""
WAITED_MS = 10_000
"""A call that took as long as this has waited for something or worked: it is no standing still. One that failed may
be a wait, too: `sleep 60; grep -q DONE log` says "not yet" by its exit code.
"""

_SHORT_CHARS = 1_000
_TIMES = re.compile(
    r"(?<![\d.,])(?:\d[\d.,]*+(?= ?(?:ms|s|sec|seconds)\b| ?min\b(?!\W{0,3}\d[\d.]*+(?! ?s\b)))"
    r"|\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?|\d{4}-\d\d-\d\d)|\b[0-7](?i:[0-9a-hjkmnp-tv-z]{25})\b"
)
"""Also the ids that we make (base/ids.py): a command started in the background has a new one each time. `min` before a
number is the least of something.
"""


class Deed(Struct, frozen=True):
    """A call and its result as the model read it; in a short one times are left out, they change by themselves.

    `moved`: it went well and waited, or it changed a file. `slow`: it took as long as a wait, and failed.
    """

    tool: str
    arguments: str
    result: str
    moved: bool = False
    slow: bool = False


class Conduct(Struct, frozen=True):
    """`fresh` of the `deeds` came after the last nudge about repeats. `still` steps in a row changed nothing and showed
    nothing new; `cuts` replies in a row were cut. `told`: at which step of its turn each guard last spoke.
    """

    deeds: tuple[Deed, ...] = ()
    fresh: int = 0
    still: int = 0
    cuts: int = 0
    steps: int = 0
    told: Mapping[str, int] = field(default_factory=dict[str, int])
    plan: tuple[PlanItem, ...] = ()


def fold_conduct(conduct: Conduct, calls: Calls, entry: Entry) -> Conduct:
    """The conduct after `entry`; `calls` were open before it."""
    event = entry.event
    match event:
        case ToolFinished(call=key) if key in calls:
            call = calls[key].call
            waited, well = event.total_ms >= WAITED_MS, event.outcome == "ok"
            moved, slow = (waited and well) or _changes(event), waited and not well
            return _done(*_steadied(conduct, Deed(call.tool, call.arguments, event.text, moved, slow)), event)
        case ModelReplied(role=role) if role in ASIDES:
            return conduct
        case ModelReplied(finish=finish):
            cuts = conduct.cuts + 1 if finish == "length" else 0
            return replace(conduct, steps=conduct.steps + 1, still=conduct.still + 1, cuts=cuts)
        case Nudged(guard=guard):
            return _nudged(conduct, guard)
        case UserSaid(when="now") | Lifted() | TurnEnded():
            return Conduct(plan=conduct.plan)
        case _:
            return conduct


def _nudged(conduct: Conduct, guard: str) -> Conduct:
    told = {**conduct.told, guard: conduct.steps}
    match guard:
        case "repeats":
            return replace(conduct, told=told, fresh=0)
        case "stall":
            return replace(conduct, told=told, still=0)
        case _:
            return replace(conduct, told=told)


def _done(conduct: Conduct, deed: Deed, event: ToolFinished) -> Conduct:
    moved = deed.moved or deed.slow or deed.result not in [each.result for each in conduct.deeds]
    plan = next((fact.items for fact in event.facts if isinstance(fact, PlanSet)), conduct.plan)
    moved = moved or plan != conduct.plan
    told = {guard: step for guard, step in conduct.told.items() if guard != "stall"} if moved else conduct.told
    still = 0 if moved else conduct.still
    deeds = (*conduct.deeds[1 - KEPT :], deed)
    return replace(conduct, deeds=deeds, fresh=conduct.fresh + 1, still=still, told=told, plan=plan)


def _changes(event: ToolFinished) -> bool:
    return any(isinstance(fact, FileChange) and fact.before != fact.after for fact in event.facts)


def _steadied(conduct: Conduct, deed: Deed) -> tuple[Conduct, Deed]:
    """Times are left out only where a call came twice: to look for them costs more than the rest of the fold."""
    if deed.arguments not in [each.arguments for each in conduct.deeds]:
        return conduct, deed
    deeds = tuple(_without_times(each) if _is_same_call(deed, each) else each for each in conduct.deeds)
    return replace(conduct, deeds=deeds), _without_times(deed)


def _is_same_call(one: Deed, other: Deed) -> bool:
    return one.tool == other.tool and one.arguments == other.arguments


def _without_times(deed: Deed) -> Deed:
    steady = _steady(deed.result)
    return deed if steady == deed.result else replace(deed, result=steady)


def _steady(text: str) -> str:
    return _TIMES.sub("~", text) if len(text) <= _SHORT_CHARS else text
