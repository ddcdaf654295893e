"""The matrix: every fault × first, middle and last step × stream or one JSON answer × both wires. What passes leaves no
trace in the result; what lasts ends the turn with one sentence, and `resume` finishes the task. Nothing is done twice,
and nobody is owed more than was booked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from ml_intern.app.choices import Played
from ml_intern.model.chaos import Chaos, Strike, at_random
from ml_intern.model.scripted import Scripted, Turn
from ml_intern.record.events import ModelAsked, ModelFailed, ModelReplied, Nudged, RetryPlanned, ToolFinished, TurnEnded
from ml_intern.record.log import replay
from tests.faults import failing
from tests.faults.cells import Cell, cell, routed
from tests.faults.failing import ANSWER, FIRST, LAST, LASTING, MIDDLE, PASSING, STEPS, Rule, Wire
from tests.faults.state import State, attempts, check_once, check_purse, check_same, state_of
from tests.faults.yard import CAP

pytestmark = pytest.mark.timeout(120)

WIRES: tuple[Wire, ...] = get_args(Wire)
EVERY = (FIRST, MIDDLE, LAST)
GOOD = (0, f"{ANSWER}\n", "")
FAILED = 1
_FAULTLESS: dict[Wire, State] = {}


class Spot(NamedTuple):
    """Where in the matrix, and what the turn comes to there when nothing goes wrong."""

    wire: Wire
    step: int
    whole: bool
    expected: State


Script = Callable[[Spot], list[Rule]]
Check = Callable[[Cell, Spot], Awaitable[None]]


async def everywhere(folder: Path, script: Script, check: Check, steps: Sequence[int] = EVERY, **more: float) -> None:
    """The turn with a fault at each of these steps, streamed and whole, over both wires, side by side."""
    spots = [
        Spot(wire, step, whole, await faultless(wire, folder))
        for wire in WIRES
        for step in steps
        for whole in (False, True)
    ]
    with routed():
        async with asyncio.TaskGroup() as group:
            for number, spot in enumerate(spots):
                group.create_task(_at(folder / str(number), spot, script, check, more))


async def _at(folder: Path, spot: Spot, script: Script, check: Check, more: dict[str, float]) -> None:
    async with cell(folder, spot.wire, script(spot), whole=spot.whole, **more) as made:
        try:
            await check(made, spot)
        except AssertionError as error:
            error.add_note(f"{spot.wire}, step {spot.step}, {'whole' if spot.whole else 'stream'}: {made.asked()}")
            raise


async def faultless(wire: Wire, folder: Path) -> State:
    """What the turn comes to when nothing goes wrong."""
    if wire not in _FAULTLESS:
        async with cell(folder / f"faultless-{wire}", wire, failing.rules()) as made:
            with routed():
                assert await made.say() == GOOD
            assert made.witnessed() == ["CALL-1"]
            _FAULTLESS[wire] = state_of(made)
    return _FAULTLESS[wire]


def struck(faults: failing.Faults, spot: Spot) -> list[Rule]:
    """The turn whose attempt at this spot goes wrong once."""
    return failing.faulty(spot.step, 1, faults[spot.wire])


def check_books(made: Cell, learned: int = 0) -> None:
    """Every attempt is booked at the server's bill, or, where it sent none, at its marked bound; all within the cap."""
    check_purse(made, learned)
    view = replay(made.entries())
    ends = [entry.event for entry in made.entries() if isinstance(entry.event, ModelReplied | ModelFailed)]
    told = sum(event.cost for event in ends if not event.bound)
    bound = sum(event.cost for event in ends if event.bound)
    assert view.purse.spent == told + bound <= float(CAP) * 1_000_000
    assert not any(isinstance(event, ModelReplied) and event.bound for event in ends)
    if not bound:
        assert made.owed() == view.purse.spent


def check_finished(made: Cell, spot: Spot) -> None:
    """What was to be done is done, each effect once, though the conversation may have gone another way."""
    found, expected = state_of(made), spot.expected
    assert (found.disk, found.answers, found.ending) == (expected.disk, expected.answers, "done")
    assert made.witnessed() == ["CALL-1"]
    check_once(made.entries())
    check_books(made)


async def check_passes(made: Cell, spot: Spot) -> None:
    assert await made.say() == GOOD
    events = [type(entry.event) for entry in made.entries()]
    assert (events.count(ModelFailed), events.count(RetryPlanned)) == (1, 1)
    assert len(made.asked()) == len(STEPS) + 1
    check_same(state_of(made), spot.expected, ())
    check_finished(made, spot)


async def check_lasts(made: Cell, spot: Spot, words: str) -> None:
    ended = await made.say()
    assert (ended.code, ended.out) == (FAILED, "")
    sentence, *rest = ended.err.splitlines()
    assert words in sentence
    assert "Traceback" not in ended.err
    assert len(rest) <= 2
    assert rest[-1] == f"Go on with: ml-intern resume {made.session()}"
    [last] = [entry.event for entry in made.entries() if isinstance(entry.event, TurnEnded)]
    assert last.remedy.endswith(".")
    assert sentence == f"{last.reason}: {last.what} {last.remedy}"
    assert len(made.asked()) == spot.step + 1, "a lasting fault is not tried again"
    assert await made.say(resume=True) == GOOD
    check_finished(made, spot)


@pytest.mark.parametrize("name", PASSING)
async def test_a_passing_fault_leaves_no_trace_in_the_result(name: str, tmp_path: Path):
    steps = (FIRST, MIDDLE) if name in failing.NEEDS_CALLS else EVERY
    patience = {"idle_s": 1.0} if name in failing.SILENT else {}
    await everywhere(tmp_path, partial(struck, PASSING[name]), check_passes, steps, **patience)


@pytest.mark.parametrize("name", LASTING)
async def test_a_lasting_fault_ends_the_turn_with_one_sentence_and_resume_finishes_it(name: str, tmp_path: Path):
    faults, words = LASTING[name]
    await everywhere(tmp_path, partial(struck, faults), partial(check_lasts, words=words))


async def test_a_stale_signature_is_left_out_by_the_wire_that_knows_signatures_and_told_by_the_other(tmp_path: Path):
    async def check(made: Cell, spot: Spot) -> None:
        if spot.wire == "chat":
            await check_lasts(made, spot, "rejects the form of the request")
            return
        assert await made.say() == GOOD
        assert (len(made.asked()), attempts(made)) == (len(STEPS) + 1, len(STEPS))
        check_same(state_of(made), spot.expected, ())
        check_once(made.entries())
        check_books(made, learned=1)

    await everywhere(tmp_path, partial(struck, failing.STALE), check)


def silent(times: int, spot: Spot) -> list[Rule]:
    return failing.rules({"when": {"step": spot.step}, "reply": {"text": ""}, "times": times})


async def test_an_empty_reply_is_asked_for_once_more(tmp_path: Path):
    async def check(made: Cell, spot: Spot) -> None:
        assert await made.say() == GOOD
        assert [entry.event.guard for entry in made.entries() if isinstance(entry.event, Nudged)] == ["silence"]
        check_finished(made, spot)

    await everywhere(tmp_path, partial(silent, 1), check)


async def test_a_model_that_stays_silent_ends_the_turn_with_one_sentence_and_resume_finishes_it(tmp_path: Path):
    async def check(made: Cell, spot: Spot) -> None:
        ended = await made.say()
        assert (ended.code, ended.out) == (FAILED, "")
        assert ended.err.startswith("failed: The model's reply was empty 3 times. Resume the session")
        assert await made.say(resume=True) == GOOD
        check_finished(made, spot)

    await everywhere(tmp_path, partial(silent, 3), check)


async def test_a_truncated_call_is_not_run_and_the_model_makes_it_again(tmp_path: Path):
    async def check(made: Cell, spot: Spot) -> None:
        assert await made.say() == GOOD
        finished = [entry.event for entry in made.entries() if isinstance(entry.event, ToolFinished)]
        assert [event.outcome for event in finished].count("invalid") == 1
        assert state_of(made).disk == spot.expected.disk
        assert made.witnessed() == ["CALL-1"]
        check_once(made.entries())
        check_books(made)

    await everywhere(tmp_path, lambda spot: failing.mended(spot.step, ANSWER), check, (FIRST, MIDDLE))


SOON = tuple(Strike(each, moment, retry_after_s=0.0) for each in ("cut", "overloaded") for moment in ("text", "call"))


@pytest.mark.parametrize("seed", range(3))
async def test_a_long_turn_of_which_every_tenth_attempt_fails_comes_to_the_same(seed: int, tmp_path: Path):
    turns = [Turn(f"{n}. ", calls=[("bash", {"command": f"echo CALL-{n} >> witness"})]) for n in range(30)]
    model = Scripted([*turns, Turn(ANSWER)])
    async with cell(tmp_path / "cell", "chat", failing.rules()) as made:
        made.played = Played(Chaos(model, at_random(0.1, seed, SOON)), model.info)
        with routed():
            assert await made.say() == GOOD
        assert made.witnessed() == [f"CALL-{n}" for n in range(30)]
        events = [type(entry.event) for entry in made.entries()]
        assert 0 < events.count(ModelFailed) < 15
        assert events.count(ModelAsked) == 31 + events.count(ModelFailed)
        check_once(made.entries())
