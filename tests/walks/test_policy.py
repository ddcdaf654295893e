"""Rules, trust, settings, deadline and schema through the whole command line."""

import json

import pytest

from ml_intern.record.events import LimitsSet, RulesSet, ToolFinished
from tests.walks.walk import MODEL, Hearing, Walk, bash, step, story

WRITES = ("write", {"path": "a.txt", "content": "x\n"})


def own_settings(walk: Walk, text: str) -> None:
    file = walk.workspace / ".ml-intern" / "settings.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


async def test_a_denied_call_names_its_rule_and_a_session_that_goes_on_keeps_it(walk: Walk):
    ends = [step(number, text="I may not.") for number in (1, 3)]
    async with Hearing([step(0, WRITES), step(2, WRITES), *ends]) as double:
        first = await walk.say(double, "go", "--deny", "write *.txt")
        assert first.code == 6, first.said
        again = await walk.run("resume", "last", "once more", *MODEL, "--base-url", double.url)
    assert again.code == 6, again.said
    answers = await walk.answers()
    assert all("the rule `deny write *.txt` (a flag) forbids it" in answer.text for answer in answers)
    assert not (walk.workspace / "a.txt").exists()


async def test_in_plan_nothing_is_written_or_run_and_the_model_is_told_so(walk: Walk):
    async with Hearing(story([WRITES, bash("touch b.txt")], end="I would write a.txt.")) as double:
        done = await walk.say(double, "go", "--mode", "plan")
    assert done.out == "I would write a.txt.\n"
    assert b"calls may only look" in double.bodies[0]
    assert [answer.outcome for answer in await walk.answers()] == ["denied", "denied"]
    assert not list(walk.workspace.iterdir())


async def test_only_the_named_tools_are_seen_and_an_unknown_one_is_told(walk: Walk):
    async with Hearing(story([WRITES])) as double:
        done = await walk.say(double, "go", "--tools", "read,bash")
        assert done.code == 0, done.said
        tools = json.loads(double.bodies[0])["tools"]
        wrong = await walk.say(double, "go", "--tools", "raed")
    assert sorted(tool["function"]["name"] for tool in tools) == ["bash", "read"]
    assert (wrong.code, wrong.err.endswith("There is no tool 'raed'.\nDid you mean read?\n")) == (2, True), wrong.said
    assert not [entry for entry in await walk.entries() if isinstance(entry.event, RulesSet)]


async def test_a_workspace_that_loosens_is_told_in_one_line_and_counts_once_trusted(walk: Walk):
    own_settings(walk, "max_steps = 400\n[rules]\nallow = ['publish *']\ndeny = ['write *.txt']\n")
    async with Hearing(story([WRITES])) as double:
        done = await walk.say(double, "go", "--quiet")
        assert "Not trusted, so ignored: max_steps, rules.allow in" in done.err
        entries = [entry.event for entry in await walk.entries()]
        [rules] = [event for event in entries if isinstance(event, RulesSet)]
        assert [rule.text for rule in rules.rules] == ["write *.txt"]
        assert [event.max_steps for event in entries if isinstance(event, LimitsSet)] == [300]
        unsure = await walk.run("trust")
        assert (unsure.code, "--yes" in unsure.err) == (2, True)
        given = await walk.run("trust", "--yes")
        assert given.code == 0, given.said
        assert "Loosens: max_steps, rules.allow" in given.out
        assert "sha256 " in given.out
        trusted = await walk.say(double, "go")
        assert "Not trusted" not in trusted.err
    entries = [entry.event for entry in await walk.entries()]
    assert [event.max_steps for event in entries if isinstance(event, LimitsSet)] == [400]
    assert "as it was" in (await walk.run("trust", "--list")).out
    assert (await walk.run("trust", "--revoke")).code == 0
    assert (await walk.run("trust", "--revoke")).code == 2
    assert "Not trusted" in (await walk.run("settings")).err


async def test_no_tool_and_no_command_changes_the_settings_that_bind_it(walk: Walk):
    own_settings(walk, "mode = 'ask'\n")
    yolo = {"path": ".ml-intern/settings.toml", "content": "mode = 'yolo'\n"}
    commands = bash("echo \"mode = 'yolo'\" > .ml-intern/settings.toml; rm -rf .ml-intern; mv .ml-intern x")
    async with Hearing(story([("write", yolo), commands])) as double:
        await walk.say(double, "go", "--mode", "auto")
    assert (walk.workspace / ".ml-intern" / "settings.toml").read_text() == "mode = 'ask'\n"


async def test_settings_are_listed_with_where_each_was_said(walk: Walk):
    user = walk.home / ".config" / "ml-intern" / "settings.toml"
    user.parent.mkdir(parents=True)
    user.write_text("max_steps = 40\n")
    own_settings(walk, "[budget]\nsession = 0.25\n")
    done = await walk.run("settings", "--json", env={"ML_INTERN_MODE": "plan"})
    rows = {row["name"]: (row["value"], row["origin"]) for row in map(json.loads, done.out.splitlines())}
    assert rows["max_steps"] == ("40", f"{user}:1")
    assert rows["budget.session"] == ("$0.25", f"{walk.workspace}/.ml-intern/settings.toml:2")
    assert rows["mode"] == ("plan", "ML_INTERN_MODE")
    assert (await walk.run("settings")).out.splitlines()[0].startswith("model")
    user.write_text("max_stps = 40\n")
    wrong = await walk.run("settings")
    assert (wrong.code, wrong.out) == (2, "")
    assert "settings.toml:1: there is no setting 'max_stps'.\nDid you mean max_steps?" in wrong.err


@pytest.mark.parametrize(("answer", "code"), [('{"accuracy": 0.9}', 0), ("It is 0.9.", 1)])
async def test_an_answer_must_fit_its_schema(walk: Walk, answer: str, code: int):
    (walk.workspace / "schema.json").write_text('{"type": "object", "required": ["accuracy"]}')
    async with Hearing([step(0, text="Nearly there."), step(1, text=answer)]) as double:
        done = await walk.say(double, "go", "--output-schema", "schema.json", "--append-system", "Be brief.")
    assert done.code == code, done.said
    assert done.out.strip() == answer
    assert "does not fit --output-schema" in done.err or code == 0
    system = json.loads(double.bodies[0])["messages"][0]["content"]
    assert "Be brief." in system
    assert '"required": ["accuracy"]' in system


async def test_the_deadline_is_told_with_the_first_request_and_kept(walk: Walk):
    async with Hearing(story(end="Done.")) as double:
        done = await walk.say(double, "go", "--for", "10h")
    assert done.code == 0, done.said
    assert "Deadline: 9 h 59 min left" in str(json.loads(double.bodies[0])["messages"]).replace("10 h 0", "9 h 59")
    assert (await walk.view()).settings.limits.due is not None
    assert not [entry for entry in await walk.entries() if isinstance(entry.event, ToolFinished)]


async def test_the_day_is_one_budget_over_all_sessions(walk: Walk):
    day = {"ML_INTERN_DAY_BUDGET": "0.03"}
    async with Hearing(story(end="Done.")) as double:
        paid = ("--price", "1/1")
        first = await walk.say(double, "go", *paid, env=day)
        spent = (await walk.view()).purse.spent
        second = await walk.say(double, "go on " * 3_000, *paid, env=day)
        third = await walk.say(double, "go", *paid, env={"ML_INTERN_DAY_BUDGET": f"{spent / 1_000_000 + 0.002:.6f}"})
    assert first.code == 0, first.said
    assert second.code == 3, second.said
    assert third.code == 3, third.said
    assert "The day's budget over all sessions has $0.0" in third.err
    assert "[budget] day" in third.err
