"""The plan as the last `PlanSet` fact left it, and as undo brings it back. Knows no tool."""

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.trail import Trail
from ml_intern.record.display import PlanItem
from ml_intern.record.events import Entry, ToolFinished, Undone
from ml_intern.record.facts import PlanSet


class Plan(Struct, frozen=True):
    """Items in their order; `history` holds (sequence number, items) of every version still visible."""

    items: tuple[PlanItem, ...] = ()
    history: Trail[tuple[int, tuple[PlanItem, ...]]] = field(default_factory=Trail[tuple[int, tuple[PlanItem, ...]]])


def fold_plan(plan: Plan, entry: Entry) -> Plan:
    """The plan after `entry`."""
    match entry.event:
        case ToolFinished(facts=facts):
            for fact in facts:
                if isinstance(fact, PlanSet):
                    plan = replace(plan, items=fact.items, history=plan.history.plus((entry.seq, fact.items)))
            return plan
        case Undone(upto=upto):
            kept = Trail(version for version in plan.history if version[0] <= upto)
            return Plan(kept[-1][1] if len(kept) else (), kept)
        case _:
            return plan
