"""Replaces the plan. Knows no file and no person; the record keeps it."""

from typing import Annotated, Literal

from msgspec import Meta

from ml_intern.base.errors import ToolFailed
from ml_intern.record.display import PlanDisplay, PlanItem
from ml_intern.record.events import ToolStarted
from ml_intern.record.facts import PlanSet
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools.texts import text_of

_MOST_ITEMS = 100


class Todo(Arguments, frozen=True):
    """One item as the model sends it; numbers as ids are taken."""

    id: Annotated[str, Meta(min_length=1, description="Short and unique.")] | int
    content: Annotated[str, Meta(min_length=1, description="What is to be done.")]
    status: Literal["pending", "in_progress", "completed"]


class PlanArgs(Arguments, frozen=True):
    """What the model sends."""

    todos: Annotated[list[Todo], Meta(max_length=_MOST_ITEMS, description="The whole plan, in order.")]


class Plan:
    """See plan.md."""

    name = "plan"
    args = PlanArgs

    def __init__(self) -> None:
        self.text = text_of(__file__)

    async def prepare(self, args: PlanArgs, context: Context) -> Prepared:
        """The plan as it would be.

        Raises:
            ToolFailed: two items have one id, or more than one is in progress.
        """
        items = tuple(PlanItem(str(todo.id), todo.content, todo.status) for todo in args.todos)
        ids = [item.id for item in items]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            raise ToolFailed(f"Ids stand more than once in the plan: {', '.join(twice)}.", "Give each item its own id.")
        current = [item.id for item in items if item.status == "in_progress"]
        if len(current) > 1:
            raise ToolFailed(
                f"{len(current)} items are in progress: {', '.join(current)}.",
                "Mark one in_progress, the others pending.",
            )
        return Prepared((), PlanDisplay(items), "pure", items)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """Make it the plan."""
        items: tuple[PlanItem, ...] = prepared.payload
        done = sum(item.status == "completed" for item in items)
        now = next((f" Now: {item.content}" for item in items if item.status == "in_progress"), "")
        return Result(f"{done} of {len(items)} done.{now}", PlanDisplay(items), facts=(PlanSet(items),), ours=True)

    async def recover(self, args: PlanArgs, started: ToolStarted, context: Context) -> Result | None:
        """Nothing happened: the plan is in the record alone."""
        return None
