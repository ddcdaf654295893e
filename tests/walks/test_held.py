import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from ml_intern.record.events import ToolAnswered, ToolHeld
from tests.walks.walk import Done, Hearing, Running, Walk, open_ends, step

ROOT = Path(__file__).parents[2]
HIDDEN = "two GPUs\x1b[2K\u202eeerf"
PRICED = "1/4"


class Till:
    """Runs the paying door as a process, each time a new one, over the walk's real store."""

    def __init__(self, walk: Walk, double: Hearing) -> None:
        self.walk = walk
        self.witness = walk.place / "witness"
        env = {"ML_INTERN_MODEL": "openai-compatible/m", "ML_INTERN_BASE_URL": double.url, "PYTHONPATH": str(ROOT)}
        self.environ = {**walk.environ, **env}

    async def run(self, *words: str) -> Done:
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.walks.paying_door", str(self.witness), *words),
            cwd=self.walk.workspace,
            env=self.environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return await Running(process, begun).ended()

    @property
    def paid(self) -> list[str]:
        return self.witness.read_text().split() if self.witness.exists() else []


def pay(amount: int, what: str = "a job") -> tuple[str, dict[str, object]]:
    return "pay", {"amount": amount, "what": what}


async def held_calls(walk: Walk) -> list[str]:
    return [entry.event.call for entry in await walk.entries() if isinstance(entry.event, ToolHeld)]


async def test_a_held_call_ends_the_process_with_5_and_shows_all_that_an_answer_covers(walk: Walk):
    async with Hearing([step(0, pay(12_345, HIDDEN)), step(1, text="Paid.")]) as double:
        till = Till(walk, double)
        done = await till.run("pay for it")
        assert (done.code, till.paid) == (5, []), done.said
        [call] = await held_calls(walk)
        told = done.err[done.err.index(f"held call {call}: pay ") :]
        assert json.dumps({"amount": 12_345})[1:-1] in told
        for words in ("two GPUs", "because it spends up to $0.0123 of another team, another payer", "would: spends {"):
            assert words in told, told
        assert "at most $0.0123 of another team" in told
        started = (await walk.view()).started
        assert started is not None
        assert f"ml-intern resume {started.session} --approve CALL (or --deny CALL)" in told
        assert not set(done.err) & set("\x1b\u202e"), repr(done.err)
        shown = await walk.run("show")
        assert f"held call {call}: pay " in shown.out
        assert not set(shown.out) & set("\x1b\u202e")


async def test_resuming_without_an_answer_stays_held_and_asks_no_model(walk: Walk):
    async with Hearing([step(0, pay(5)), step(1, text="Paid.")]) as double:
        till = Till(walk, double)
        assert [(await till.run("pay")).code, (await till.run("--resume")).code] == [5, 5]
        assert (len(double.exchanges), till.paid) == (1, [])
        assert (await walk.run("resume", "--output-format", "json")).code == 5


async def test_an_approved_call_runs_once_in_a_new_process_and_the_turn_goes_on(walk: Walk):
    async with Hearing([step(0, pay(5)), step(1, text="Paid.")]) as double:
        till = Till(walk, double)
        await till.run("pay")
        [call] = await held_calls(walk)
        done = await till.run("--resume", "--approve", call)
        assert (done.code, done.out, till.paid) == (0, "Paid.\n", ["5"]), done.said
        again = await till.run("--resume")
        assert (again.code, again.out, till.paid) == (0, "Paid.\n", ["5"])
        assert (await walk.view()).purse.spent == 5
    assert open_ends(await walk.entries()) == []


async def test_a_refused_call_is_not_run_and_the_model_reads_the_reason(walk: Walk):
    async with Hearing([step(0, pay(5)), step(1, text="Then not.")]) as double:
        till = Till(walk, double)
        await till.run("pay")
        [call] = await held_calls(walk)
        # A refusal needs nothing of the tool: the real command line can say it.
        done = await walk.run("resume", "last", "--deny", call, "--reason", "too dear, try the small one")
        assert (done.code, till.paid) == (6, []), done.said
        assert json.loads(double.bodies[1])["messages"][-1]["content"].endswith("said: too dear, try the small one")


async def test_all_answers_everything_and_one_no_wins_over_a_yes(walk: Walk):
    async with Hearing([step(0, pay(1), pay(2), pay(3)), step(1, text="So be it.")]) as double:
        till = Till(walk, double)
        assert (await till.run("pay")).code == 5
        [first] = await held_calls(walk)
        done = await till.run("--resume", "--approve", "all")
        assert (done.code, till.paid) == (5, ["1"]), done.said
        done = await till.run("--resume", "--approve", "all", "--deny", "all")
        assert till.paid == ["1"], done.said
        done = await till.run("--resume", "--approve", "all")
        # Denied, not done: the last calls held one that a person refused.
        assert (done.code, done.out, till.paid) == (6, "So be it.\n", ["1", "3"]), done.said
    answers = [entry.event for entry in await walk.entries() if isinstance(entry.event, ToolAnswered)]
    assert [answer.approve for answer in answers] == [True, False, True]
    assert answers[0].call == first


async def test_an_approval_is_void_when_what_it_covers_has_changed(walk: Walk):
    async with Hearing([step(0, pay(5)), step(1, text="Paid.")]) as double:
        till = Till(walk, double)
        await till.run("pay")
        [call] = await held_calls(walk)
        (walk.place / "rise").write_text("7")
        done = await till.run("--resume", "--approve", call)
        assert (done.code, till.paid) == (5, []), done.said
        assert "approved before, but what it would do has changed since" in done.err
        done = await till.run("--resume", "--approve", call)
        assert (done.code, till.paid) == (0, ["5"]), done.said


@pytest.mark.parametrize("flag", ["--approve", "--deny"])
async def test_an_answer_to_a_call_that_does_not_wait_is_a_sentence_and_2(walk: Walk, flag: str):
    async with Hearing([step(0, pay(5)), step(1, text="Paid.")]) as double:
        till = Till(walk, double)
        await till.run("pay")
        [call] = await held_calls(walk)
        done = await walk.run("resume", "last", flag, "nothing-of-the-kind")
        assert done.code == 2, done.said
        assert f"No call nothing-of-the-kind waits for an answer.\nWaiting: {call}." in done.err
        assert "Traceback" not in done.err
        assert len(double.exchanges) == 1


async def test_a_message_instead_of_an_answer_is_a_no_with_its_words(walk: Walk):
    async with Hearing([step(0, pay(5)), step(1, text="As you say.")]) as double:
        till = Till(walk, double)
        await till.run("pay")
        done = await till.run("do it on this machine instead", "--resume")
        assert till.paid == []
        assert "do it on this machine instead" in double.bodies[-1].decode()
        assert done.code in {0, 6}, done.said
