import asyncio
import json
import os
import re
from typing import Any

import pytest

from ml_intern.record.codec import decode
from ml_intern.record.events import LimitsSet, ModelReplied, ToolFinished, TurnEnded, UserSaid
from tests.doubles.chaos import PERMANENT
from tests.walks.walk import Hearing, Walk, bash, open_ends, step, story

ODD = "\x1b[31mred\x07\u202eoverride"


async def test_a_prompt_is_an_argument_or_stdin_or_a_dash(walk: Walk):
    async with Hearing(story(end="It is 42.")) as double:
        spoken = [
            await walk.say(double, "what is it?"),
            await walk.say(double, stdin=b"what is\nit?\n"),
            await walk.say(double, "-", stdin="was ist das für 1? 🙂".encode()),
            await walk.say(double, "run", "what is it?"),
        ]
    assert [(done.code, done.out) for done in spoken] == [(0, "It is 42.\n")] * 4, spoken
    said = [json.loads(body)["messages"][-1]["content"] for body in double.bodies]
    assert said == ["what is it?", "what is\nit?\n", "was ist das für 1? 🙂", "what is it?"]


async def test_what_costs_nothing_is_called_free_and_says_whose_machine_it_is(walk: Walk):
    async with Hearing(story(end="Done.")) as double:
        done = await walk.run("do it", "--model", "vllm/m", "--base-url", double.url)
        other = await walk.say(double, "do it", "--price", "0/0")
    assert "vllm/m, free (this machine)" in done.err, done.said
    assert "openai-compatible/m, free (the server)" in other.err, other.said


async def test_progress_is_a_line_per_step_with_what_seconds_tokens_and_money(walk: Walk):
    script = story([bash("echo hello > made.txt")], end="Made.")
    async with Hearing(script, prices="1/4") as double:
        done = await walk.say(double, "make it", "--price", "1/4")
    first, *lines, last = done.err.splitlines()
    assert first.startswith("session ")
    assert "openai-compatible/m, paid by the server" in first
    assert "budget $5.00 · sandbox full" in first
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 2
    assert all(re.search(r" s  .* tokens(, \d+ % cached)?  \$0\.0", line) for line in steps), steps
    assert any("ok      echo hello > made.txt" in line for line in lines), lines
    assert last.startswith("2 steps, ")
    assert "of $5.00 spent; session " in last


async def test_quiet_says_nothing_but_the_answer(walk: Walk):
    async with Hearing(story([bash("true")], end="Made.")) as double:
        done = await walk.say(double, "make it", "--quiet")
    assert (done.code, done.out, done.err) == (0, "Made.\n", "")


async def test_json_is_one_object_and_nothing_else(walk: Walk):
    script = story([bash("echo hello > made.txt")], end="Made: « é ».")
    async with Hearing(script, prices="1/4") as double:
        done = await walk.say(double, "make it", "--output-format", "json", "--price", "1/4")
        owed, exchanges = double.ledger.total(), double.exchanges
    found = json.loads(done.out)
    assert found["text"] == "Made: « é »."
    assert (found["type"], found["result"], found["exit_code"], found["steps"]) == ("result", "done", 0, 2)
    assert found["cost_usd"] == found["session_cost_usd"] == owed / 1_000_000
    assert found["prompt_tokens"] == sum(exchange.prompt_tokens for exchange in exchanges)
    assert found["output_tokens"] == sum(exchange.output_tokens for exchange in exchanges)
    assert found["files"] == [str(walk.workspace / "made.txt")]
    assert found["held"] == []


async def test_every_line_of_stream_json_is_an_event_and_the_last_is_the_result(walk: Walk):
    async with Hearing(story([bash("echo hello")], end="Said.")) as double:
        done = await walk.say(double, "say it", "--output-format", "stream-json")
    *lines, last = done.out.splitlines()
    told = [decode(line.encode()) for line in lines]
    assert isinstance(told[0].event, UserSaid)
    assert isinstance(told[-1].event, TurnEnded)
    assert told == [entry for entry in await walk.entries() if entry.seq >= told[0].seq]
    assert json.loads(last)["text"] == "Said."


async def test_a_workspace_is_named_by_cwd(walk: Walk):
    other = walk.place / "other"
    other.mkdir()
    async with Hearing(story([bash("pwd > where")])) as double:
        done = await walk.say(double, "look", "--cwd", str(other))
        beside = await walk.say(double, "look", "--cwd", "../other")
    assert (done.code, beside.code) == (0, 0), done.said
    assert (other / "where").read_text() == f"{other}\n"


async def test_variables_stand_for_flags_and_a_flag_wins(walk: Walk):
    variables = {"ML_INTERN_MODEL": "openai-compatible/named", "ML_INTERN_BUDGET": "1.50", "ML_INTERN_MODE": "ask"}
    async with Hearing(story(end="Yes.")) as double:
        env = {**variables, "ML_INTERN_BASE_URL": double.url}
        done = await walk.run("hello", env=env)
        flagged = await walk.run("hello", "--budget", "2.50", "--model", "openai-compatible/flagged", env=env)
        assert [exchange.model for exchange in double.exchanges] == ["named", "flagged"]
    assert (done.code, flagged.code) == (0, 0), done.said
    assert "mode ask · budget $1.50" in done.err
    assert "budget $2.50" in flagged.err


async def test_a_turn_ends_at_its_most_steps_and_resume_goes_on(walk: Walk):
    script = [{"when": {"step_below": 5}, "reply": {"calls": [{"name": "plan", "arguments": {"todos": []}}]}}]
    script += [step(5, text="There.")]
    async with Hearing(script) as double:
        done = await walk.say(double, "go", "--max-steps", "2")
        assert (done.code, len(double.exchanges)) == (4, 2), done.said
        assert "limit: The turn has used its 2 steps. Resume" in done.err
        more = await walk.run("resume", "last", "--max-steps", "9")
    assert (more.code, more.out) == (0, "There.\n"), more.said
    limits = [entry.event for entry in await walk.entries() if isinstance(entry.event, LimitsSet)]
    assert [event.max_steps for event in limits] == [2, 9]


async def test_the_time_of_a_turn_ends_it_in_mid_command(walk: Walk):
    async with Hearing(story([bash("touch began; sleep 50")])) as double:
        done = await walk.say(double, "wait", "--max-time", "2s")
    assert done.code == 4, done.said
    assert done.seconds < 8
    assert (walk.workspace / "began").exists()
    assert "limit: The time for this turn is up. Resume the session, with a longer --max-time" in done.err
    assert open_ends(await walk.entries()) == []
    assert (await walk.answers())[0].outcome == "stopped"


async def test_the_time_of_a_turn_ends_it_in_mid_stream(walk: Walk):
    async with Hearing([step(0, text="and so on ", repeat=500, chunk_delay_ms=50)]) as double:
        done = await walk.say(double, "talk", "--max-time", "2s")
    assert done.code == 4, done.said
    assert done.seconds < 6
    assert open_ends(await walk.entries()) == []


@pytest.mark.parametrize("name", PERMANENT)
async def test_a_fault_that_stays_is_a_sentence_and_exit_1(walk: Walk, name: str):
    async with Hearing([{"fault": PERMANENT[name]}]) as double:
        done = await walk.say(double, "hello")
        assert len(double.exchanges) == 1
    assert (done.code, done.out) == (1, "\n" if done.out else ""), done.said
    assert "Traceback" not in done.err
    ending = "overflow: " if name == "overflow" else "failed: "
    told = [line for line in done.err.splitlines() if line.startswith(ending)]
    assert len(told) == 1, done.said
    assert told[0].count(". ") >= 1, told
    assert "Go on with: ml-intern resume " in done.err


async def test_a_budget_that_cannot_pay_ends_with_3_and_a_higher_one_goes_on(walk: Walk):
    async with Hearing(story(end="Rich."), prices="100/400") as double:
        price = ("--price", "100/400")
        done = await walk.say(double, "hello", *price, "--budget", "0.10")
        assert (done.code, double.exchanges) == (3, []), done.said
        assert "budget: The budget cannot pay for another reply: $0.10 of $0.10 is left." in done.err
        more = await walk.run("resume", "--budget", "9")
    assert (more.code, more.out) == (0, "Rich.\n"), more.said


async def test_replies_that_are_cut_again_and_again_are_a_failure_that_says_so(walk: Walk):
    async with Hearing([{"when": {}, "reply": {"text": "half of it", "finish": "length"}}]) as double:
        done = await walk.say(double, "hello")
        assert 1 < len(double.bodies) < 10
    assert (done.code, done.out) == (1, "half of it\n"), done.said
    assert "cut at the output limit" in done.err


async def test_a_reader_that_leaves_early_gets_no_traceback(walk: Walk):
    script = story(*([bash("echo hello")] for _ in range(5)), end="long " * 5_000)
    async with Hearing(script) as double:
        for shape in ("text", "stream-json", "json"):
            words = f'"$0" "$@" --output-format {shape} | head -c 5 >/dev/null; echo "${{PIPESTATUS[0]}}"'
            flags = ("go", "--model", "openai-compatible/m", "--base-url", double.url)
            done = await walk.run(*flags, before=("bash", "-c", words))
            assert not {"Traceback", "Exception", "failed"} & set(re.findall(r"\w+", done.err)), done.said
            # The pipe's reader left, the run did not: its own exit code is what the shell saw.
            assert done.out == "0\n", done.said


async def test_listing_into_a_reader_that_leaves_early_gets_no_traceback(walk: Walk):
    async with Hearing([step(0, text="long " * 50_000)]) as double:
        await walk.say(double, "go")
    for words in (("show", "--json"), ("show",), ("sessions", "--json"), ("--help",)):
        done = await walk.run(*words, before=("bash", "-c", '"$0" "$@" | head -c 5 >/dev/null'))
        assert (done.code, done.err) == (0, ""), done.said


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.ISO-8859-1"])
async def test_another_locale_than_utf_8_works(walk: Walk, locale: str):
    env = {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "", "PYTHONIOENCODING": ""}
    async with Hearing(story([bash("echo 'größer 🙂' > 'ü.txt'; cat 'ü.txt'")], end="größer 🙂")) as double:
        done = await walk.say(double, "wie groß? 🙂", env=env)
        shown = await walk.run("show", env=env)
        listed = await walk.run("sessions", env=env)
    for each in (done, shown, listed):
        assert (each.code, "Traceback" in each.err) == (0, False), each.said
    assert done.out == "größer 🙂\n"
    assert (walk.workspace / "ü.txt").read_text() == "größer 🙂\n"


async def test_an_ascii_terminal_that_cannot_show_a_character_is_no_failure(walk: Walk):
    async with Hearing(story(end="größer 🙂")) as double:
        done = await walk.say(double, "hello", env={"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.out) == (0, "gr\\xf6\\xdfer \\U0001f642\n"), done.said
    assert "Traceback" not in done.err


@pytest.mark.parametrize("as_argument", [True, False])
async def test_a_prompt_that_is_no_utf_8_is_said_all_the_same(walk: Walk, as_argument: bool):
    prompt = b"caf\xe9 \xff"
    async with Hearing(story(end="Yes.")) as double:
        words = (os.fsdecode(prompt),) if as_argument else ()
        done = await walk.say(double, *words, stdin=None if as_argument else prompt)
        assert (done.code, done.out) == (0, "Yes.\n"), done.said
        shown = await walk.run("show")
    assert (shown.code, shown.err) == (0, ""), shown.said


async def test_control_characters_of_the_model_are_spelled_out_for_people(walk: Walk):
    script = [
        step(0, ("bash", {"command": f"echo '{ODD}'", "description": ODD}), (ODD, {}), text=f"I say {ODD}"),
        step(1, text=f"So {ODD}."),
    ]
    async with Hearing(script) as double:
        done = await walk.say(double, "hello")
        shown = await walk.run("show")
        listed = await walk.run("sessions")
    for text in (done.err, shown.out, listed.out):
        assert not set(text) & set("\x1b\x07\u202e"), repr(text)
    assert "\\x1b[31mred\\x07\\u202eoverride" in done.err
    assert "\\x1b[31mred" in shown.out


async def test_help_and_version_need_no_session(walk: Walk):
    for words in (("--help",), ("run", "--help"), ("resume", "-h"), ("sessions", "--help"), ("show", "--help")):
        done = await walk.run(*words)
        assert (done.code, done.err) == (0, ""), done.said
    assert "Exit codes: 0 done" in (await walk.run("--help")).out
    assert (await walk.run("--version")).out.startswith("ml-intern, version ")
    assert not walk.data.exists()


async def test_two_runs_side_by_side_have_their_own_sessions(walk: Walk):
    async with Hearing(story([bash("sleep 0.3")], end="Done.")) as double:
        both = await asyncio.gather(walk.say(double, "one"), walk.say(double, "two"))
    assert [done.code for done in both] == [0, 0], both
    listed: list[dict[str, Any]] = [
        json.loads(line) for line in (await walk.run("sessions", "--json")).out.splitlines()
    ]
    assert {each["preview"] for each in listed} == {"one", "two"}
    for each in listed:
        kinds = [type(entry.event) for entry in await walk.entries(each["id"])]
        assert (kinds.count(ModelReplied), kinds.count(ToolFinished)) == (2, 1)
