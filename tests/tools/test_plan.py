import pytest

from ml_intern.base.errors import ToolFailed
from ml_intern.record.display import PlanDisplay, PlanItem
from ml_intern.record.facts import PlanSet
from ml_intern.toolkit.schema import Invalid, parse, schema_of
from ml_intern.tools.plan import Plan, PlanArgs


def todo(number: int, status: str = "pending") -> dict[str, str]:
    return {"id": str(number), "content": f"step {number}", "status": status}


async def test_the_whole_plan_is_replaced_in_its_order(bench):
    todos = [todo(2, "completed"), todo(1, "in_progress"), todo(3)]
    result = await bench.call(Plan(), todos=todos)
    items = (
        PlanItem("2", "step 2", "completed"),
        PlanItem("1", "step 1", "in_progress"),
        PlanItem("3", "step 3", "pending"),
    )
    assert result.facts == (PlanSet(items),)
    assert result.display == PlanDisplay(items)
    assert result.text == "1 of 3 done. Now: step 1"
    assert bench.view.plan.items == items
    await bench.call(Plan(), todos=[])
    assert bench.view.plan.items == ()


async def test_only_one_item_may_be_in_progress(bench):
    with pytest.raises(ToolFailed, match=r"2 items are in progress: 1, 2\. Mark one in_progress, the others pending\."):
        await bench.prepare(Plan(), todos=[todo(1, "in_progress"), todo(2, "in_progress")])


async def test_ids_are_unique(bench):
    with pytest.raises(ToolFailed, match=r"Ids stand more than once in the plan: 1\. Give each item its own id\."):
        await bench.prepare(Plan(), todos=[todo(1), todo(1)])


async def test_a_plan_only_looks_and_leaves_no_trace(bench):
    prepared = await bench.prepare(Plan(), todos=[todo(1)])
    assert (prepared.effects, prepared.replay) == ((), "pure")
    assert await bench.recover(Plan(), prepared, todos=[todo(1)]) is None


async def test_numbers_as_ids_are_taken(bench):
    await bench.call(Plan(), todos=[{"id": 1, "content": "x", "status": "pending"}])
    assert bench.view.plan.items == (PlanItem("1", "x", "pending"),)
    assert schema_of(PlanArgs)["properties"]["todos"]["items"]["properties"]["id"]["type"] == "string"


def test_a_status_that_does_not_exist_is_told():
    told = parse(PlanArgs, '{"todos": [{"id": "1", "content": "x", "status": "done"}]}')
    assert isinstance(told, Invalid)
    assert told.text.startswith(
        "`todos[0].status` is a string (\"done\"): expected one of 'completed', 'in_progress', 'pending'."
    )
