"""A long turn of which every tenth attempt fails, in every way there is, while two of its three models die: it comes to
its end, no effect happens twice, and every attempt is booked at its bill or its marked bound."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import pytest
from msgspec.structs import replace

from ml_intern.app.choices import Played
from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.wire import open_session
from ml_intern.headless.run import Run, _run
from ml_intern.model.catalog import describe, resolve
from ml_intern.model.chaos import Chaos, Fault, Strike, at_random, planned
from ml_intern.model.port import Delta, Finished, Model, Request
from ml_intern.model.wire.chat import ChatModel
from ml_intern.record.clearing import Compacted
from ml_intern.record.codec import decode
from ml_intern.record.events import ModelAsked, ModelChosen, ModelFailed, ModelReplied, Role
from ml_intern.record.log import replay
from ml_intern.store.sqlite import SqliteStore
from tests.doubles.openai_server import Double
from tests.faults.state import check_once
from tests.faults.yard import PRICES, end_supervisor
from tests.walks.long_story import SUMMING

pytestmark = pytest.mark.timeout(180)

STEPS = 60
IDS = tuple(f"openai-compatible/{name}" for name in "abc")
EVERY = tuple(
    Strike(fault, moment, retry_after_s=0.0) for fault in get_args(Fault) for moment in ("start", "text", "call")
)


@dataclass
class Door:
    """Notes which attempts reached the server: what is struck at once does not."""

    model: Model
    reached: list[bool]
    inner: bool = field(default=False)

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        if self.inner:
            self.reached[-1] = True
        else:
            self.reached.append(False)
        async for item in self.model.ask(request):
            yield item

    async def aclose(self) -> None:
        await self.model.aclose()


def script(*, dying: bool = True) -> list[dict]:
    """Each step adds a line to the witness; which comes next is read from the answers. Two models die on the way."""
    dead = [
        {"when": {"model": "a", "any_contains": "did-15."}, "fault": {"status": 401}},
        {"when": {"model": "b", "any_contains": "did-35."}, "fault": {"status": 404}},
    ]
    steps = [
        {
            "when": {"any_contains": f"did-{n - 1}."} if n else {},
            "reply": {
                "text": f"Step {n}.",
                "calls": [{"name": "bash", "arguments": {"command": f"echo CALL-{n} >> witness; echo did-{n}."}}],
            },
        }
        for n in range(STEPS)
    ]
    over = {"when": {"any_contains": f"did-{STEPS - 1}."}, "reply": {"text": "All is done."}}
    summing = {
        "when": {"system_contains": SUMMING},
        "reply": {"text": "Goal: every step. State: one follows the other."},
    }
    return [*(dead if dying else ()), summing, over, *reversed(steps)]


MET = {
    0: "compacted",
    1: "compacted",
    2: "model_chosen: The server rejects the form of the request (HTTP 400)",
    3: "compacted",  # by an overflow so early that what may be kept is more than half of all there is
    12: "model_chosen: The server has no room for a request of this length",  # nothing yet that could be compacted
    18: "model_chosen: it is asked in spite of its failure before",  # the last one that lives said that its key is bad
}
"""The seeds, and what the record of each must hold, so that it goes on meeting what it is there for."""


@pytest.mark.parametrize("seed", MET)
async def test_two_of_three_models_die_and_every_tenth_attempt_fails_in_every_way(seed, tmp_path: Path, capsys):
    reached: list[bool] = []
    async with Double(script(), prices=PRICES) as double:

        def player(name: str) -> Played:
            endpoint = resolve(name, double.url, {})
            inner = Door(ChatModel(endpoint), reached, inner=True)
            plan = at_random(0.1, seed * 100 + IDS.index(name), EVERY)
            return Played(Door(Chaos(inner, plan), reached), describe(name, double.url, PRICES, {}))

        code, entries = await _worked(tmp_path, IDS, {name: lambda name=name: player(name) for name in IDS})
        exchanges = double.exchanges
    assert (code, capsys.readouterr().out) == (0, "All is done.\n")
    lines = [line.split()[0] for line in (tmp_path / "work" / "witness").read_text().splitlines()]
    assert lines == [f"CALL-{n}" for n in range(STEPS)]
    check_once(entries)
    events = [entry.event for entry in entries]
    answered = {event.reply.by for event in events if isinstance(event, ModelReplied)}
    assert answered == set(IDS)
    moved = [event.model for event in events if isinstance(event, ModelChosen) and event.why]
    assert moved[-1] == IDS[2]
    asked = [event for event in events if isinstance(event, ModelAsked)]
    ends = {e.attempt: e for e in events if isinstance(e, ModelReplied | ModelFailed)}
    assert len(asked) == len(ends) == len(reached)
    assert sum(isinstance(end, ModelFailed) for end in ends.values()) >= 5
    billed = iter(exchanges)
    for event, was_there in zip(asked, reached, strict=True):
        end, bill = ends[event.attempt], next(billed).cost if was_there else 0
        assert bill <= end.cost if end.bound else bill == end.cost
    assert next(billed, None) is None
    view = replay(entries)
    assert view.purse.spent == sum(end.cost for end in ends.values())
    assert not view.purse.reserved
    assert set(view.down) == set(IDS[:2]), "both are dead for good, the third one is not"
    kind, _, why = MET[seed].partition(": ")
    assert any(event.__struct_config__.tag == kind and (not why or why in repr(event)) for event in events)


SUMMERS = ("openai-compatible/dead", "openai-compatible/alive")


async def test_the_models_of_summaries_have_a_chain_of_their_own_that_leaves_the_main_one_alone(tmp_path: Path, capsys):
    dead = {"when": {"model": "dead"}, "fault": {"status": 401}}
    async with Double([dead, *script(dying=False)], prices=PRICES) as double:

        def player(name: str) -> Played:
            model = ChatModel(resolve(name, double.url, {}))
            plan = planned({25: [Strike("overflow")]} if name == IDS[0] else {})
            return Played(Chaos(model, plan), describe(name, double.url, PRICES, {}))

        players = {name: lambda name=name: player(name) for name in (*IDS[:2], *SUMMERS)}
        code, entries = await _worked(tmp_path, IDS[:2], players, {"compaction": SUMMERS})
        exchanges = double.exchanges
    assert (code, capsys.readouterr().out) == (0, "All is done.\n")
    events = [entry.event for entry in entries]
    assert [each.model for each in events if isinstance(each, ModelAsked) and each.role == "compaction"] == [*SUMMERS]
    assert [each.model for each in events if isinstance(each, ModelChosen) and each.why] == [SUMMERS[1]]
    [made] = [each for each in events if isinstance(each, Compacted)]
    assert "> Goal: every step." in made.summary
    assert [each.model for each in exchanges if each.model != "a"] == ["dead", "alive"]
    view = replay(entries)
    assert view.purse.spent == sum(each.cost for each in exchanges)
    assert not view.purse.reserved


async def _worked(folder: Path, ids, players, roles: Mapping[Role, tuple[str, ...]] = MappingProxyType({})):
    for name in ("work", "home"):
        (folder / name).mkdir()
    environ = {
        "ML_INTERN_DATA": str(folder / "data"),
        "HOME": str(folder / "home"),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
    }
    flags = Flags(cwd=str(folder / "work"), budget="50", model=ids[0], fallback=ids[1:])
    launch = replace(make_launch(flags, environ), roles=roles)

    @asynccontextmanager
    async def opener():
        async with open_session(launch, players=players) as opened:
            yield opened

    try:
        code = await _run(Run("Do it.", quiet=True), opener)
        store = await SqliteStore.open(folder / "data")
        (session,) = (path.name for path in (folder / "data" / "sessions").iterdir())
        entries = [decode(line) for line in await store.lines(session)]
        await store.close()
    finally:
        for supervisor in (folder / "data" / "sessions").glob("*"):
            end_supervisor(supervisor)
    return int(code), entries
