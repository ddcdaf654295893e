"""Hooks through the whole command line: asked before a call, told of the rest, never looser, never in the way."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from ml_intern.record.events import Nudged, ToolHeld
from ml_intern.record.hooks import HookRan
from tests.walks.walk import MODEL, Done, Hearing, Walk, bash, story, until

WRITES = ("write", {"path": "a.txt", "content": "x\n"})


def hook(walk: Walk, answer: str, *, event: str = "before_call", more: str = "", name: str = "guard") -> Path:
    """A hook in the user's file, which keeps what it was told; the file that it keeps it in."""
    heard, script = walk.place / f"{name}.{event}.jsonl", walk.place / f"{name}.{event}.sh"
    # In one write: hooks that are told side by side keep theirs in the same file.
    script.write_text(f"told=$(cat)\nprintf '%s\\n' \"$told\" >> {heard}\n{answer}\n")
    user = walk.home / ".config" / "ml-intern" / "settings.toml"
    user.parent.mkdir(parents=True, exist_ok=True)
    table = f"[[hooks]]\nname = '{name}'\nevent = '{event}'\ncommand = 'sh {script}'\n{more}\n"
    user.write_text((user.read_text() if user.exists() else "") + table)
    return heard


def told(heard: Path) -> list[dict]:
    return [json.loads(line) for line in heard.read_text().splitlines() if line] if heard.exists() else []


def says(**answer: str) -> str:
    return f"echo '{json.dumps(answer)}'"


async def go(walk: Walk, *flags: str) -> Done:
    async with Hearing(story([WRITES])) as model:
        return await walk.say(model, "go", *flags)


def peak_kb(pid: int) -> int:
    """The most memory that the process has ever held."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


async def ran(walk: Walk) -> list[HookRan]:
    return [entry.event for entry in await walk.entries() if isinstance(entry.event, HookRan)]


async def test_a_hook_that_denies_is_told_what_would_be_done_and_the_model_why_not(walk: Walk):
    heard = hook(walk, says(decision="deny", reason="never on a Friday"))
    done = await go(walk, "--allow", "write *")
    [answer] = await walk.answers()
    assert (answer.outcome, "the user's hook 'guard' forbids it: never on a Friday" in answer.text) == ("denied", True)
    assert not (walk.workspace / "a.txt").exists(), done.said
    [data] = told(heard)
    assert (data["event"], data["call"]["tool"], data["lane"]) == ("before_call", "write", "main")
    assert data["effects"][0]["kind"] == "writes"
    assert data["workspace"] == str(walk.workspace)
    assert json.loads(data["call"]["arguments"])["path"] == "a.txt"
    [event] = await ran(walk)
    assert (event.hook, event.decision, event.call) == ("guard", "deny", answer.call)


async def test_a_hook_can_make_a_call_wait_for_a_person_whose_yes_then_counts(walk: Walk):
    hook(walk, says(decision="ask", reason="look at it"))
    async with Hearing(story([WRITES])) as model:
        held = await walk.say(model, "go", "--on-ask", "hold")
        assert (held.code, "says the user's hook 'guard': look at it" in held.err) == (5, True), held.said
        done = await walk.run("resume", "last", "--approve", "all", *MODEL, "--base-url", model.url)
    assert done.code == 0, done.said
    assert (walk.workspace / "a.txt").exists()
    assert len([entry for entry in await walk.entries() if isinstance(entry.event, ToolHeld)]) == 1


async def test_what_a_hook_allows_is_judged_as_ever_and_its_note_reaches_the_model(walk: Walk):
    hook(walk, says(decision="allow", note="Use tabs here."))
    async with Hearing(story([WRITES, ("write", {"path": "/etc/x", "content": "x"})])) as model:
        done = await walk.say(model, "go", "--deny", "write b*")
        assert b"A hook of the user's says of this call: Use tabs here." in model.bodies[-1], done.said
    first, second = await walk.answers()
    assert (first.outcome, second.outcome) == ("ok", "failed"), second.text
    (walk.workspace / "a.txt").unlink()
    denied = await go(walk, "--deny", "write *")
    assert denied.code == 6, denied.said


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("echo nonsense; exit 0", "its answer cannot be read"),
        ('echo \'{"decision": "perhaps"}\'', "its answer cannot be read"),
        ("echo no luck >&2; exit 3", "failed (code 3: no luck)"),
        ("sleep 60", "no answer within 1 s"),
        ("setsid sleep 60 & sleep 60", "no answer within 1 s"),
        ("yes", "no answer within 1 s"),
        ("yes >&2", "no answer within 1 s"),
        ("yes | head -c 10000000", "it printed more than 64 kB"),
        ("kill -9 $$", "failed (code 137"),
    ],
)
async def test_a_hook_that_fails_lets_nothing_pass_unasked_unless_it_may_be_ignored(walk: Walk, answer: str, why: str):
    hook(walk, answer, more="timeout = '1s'")
    done = await go(walk)
    [denied] = await walk.answers()
    assert (denied.outcome, why in denied.text) == ("denied", True), denied.text
    assert f"hook    The hook 'guard' ({walk.home}/.config/ml-intern/settings.toml:1) failed (" in done.err, done.said
    assert why in done.err
    assert "settings.toml" not in denied.text
    assert done.seconds < 20
    (walk.home / ".config" / "ml-intern" / "settings.toml").unlink()
    hook(walk, answer, more="timeout = '1s'\non_error = 'ignore'")
    done = await go(walk)
    assert ((await walk.answers())[0].outcome, why in done.err) == ("ok", True), done.said


async def test_a_refusal_says_in_one_sentence_which_hook_stands_in_the_way(walk: Walk):
    hook(walk, "echo oops >&2; exit 3")
    await go(walk)
    [denied] = await walk.answers()
    why = "the user's hook 'guard' failed (code 3: oops), so a person must allow this call, and nobody is there."
    assert denied.text == f"Denied: {why} Find another way."
    (walk.home / ".config" / "ml-intern" / "settings.toml").unlink()
    hook(walk, says(decision="ask", reason="look at it"))
    await go(walk)
    [denied] = await walk.answers()
    why = "the user's hook 'guard' has it asked (look at it), so a person must allow this call, and nobody is there."
    assert denied.text == f"Denied: {why} Find another way."


@pytest.mark.parametrize("leaves", ["sleep 60 &", "setsid sleep 60 &", "setsid yes 2> /dev/null &"])
async def test_a_hook_has_answered_when_it_ends_whatever_it_leaves_behind(walk: Walk, leaves: str):
    hook(walk, f"{says(decision='deny', reason='never')}\n{leaves}\nsleep 0.2")
    done = await go(walk)
    [answer] = await walk.answers()
    why = "printed more than 64 kB" if "yes" in leaves else "forbids it: never"
    assert (answer.outcome, why in answer.text) == ("denied", True), answer.text
    assert (done.seconds < 20, "Traceback" in done.err) == (True, False), done.said


async def test_a_hook_that_floods_its_output_costs_no_memory(walk: Walk):
    hook(walk, "yes", more="timeout = '3s'")
    async with Hearing(story([WRITES])) as model:
        running = await walk.start("go", *MODEL, "--base-url", model.url)
        most_kb = 0
        while running.process.returncode is None:
            most_kb = max(most_kb, peak_kb(running.pid))
            await asyncio.sleep(0.05)
        done = await running.ended()
    assert done.code == 6, done.said
    assert 0 < most_kb < 120_000


async def test_it_is_told_only_of_what_it_asked_for(walk: Walk):
    one = hook(walk, "", name="one", more="effects = ['write *.md', 'publish']")
    two = hook(walk, "", name="two", more="tools = ['ba*']")
    three = hook(walk, "", name="three", more="effects = 'execute touch*'\ntools = ['write']")
    steps = [[WRITES], [("write", {"path": "b.md", "content": "x"})], [bash("touch c")]]
    async with Hearing(story(*steps)) as model:
        done = await walk.say(model, "go")
    assert done.code == 0, done.said
    assert [Path(each["effects"][0]["target"]).name for each in told(one)] == ["b.md"]
    assert [each["call"]["tool"] for each in told(two)] == ["bash"]
    assert told(three) == []


async def test_the_others_are_told_of_turn_and_call_without_being_waited_for(walk: Walk):
    events = ("before_turn", "after_call", "after_turn", "held", "answered")
    heard = {event: hook(walk, "sleep 0.7", event=event) for event in events}
    async with Hearing(story([WRITES], [bash("true", hub=["push me/x"])])) as model:
        await walk.say(model, "go on")
    after = told(heard["after_call"])
    assert sorted((each["call"]["tool"], each["outcome"]) for each in after) == [("bash", "failed"), ("write", "ok")]
    assert [each["text"] for each in told(heard["before_turn"])] == ["go on"]
    assert [each["reason"] for each in told(heard["after_turn"])] == ["done"]
    assert told(heard["held"]) == told(heard["answered"]) == []
    assert {event.on for event in await ran(walk)} == {"before_turn", "after_call", "after_turn"}
    finished = [entry.at for entry in await walk.entries() if entry.event.__struct_config__.tag == "turn_ended"]
    told_at = [entry.at for entry in await walk.entries() if isinstance(entry.event, HookRan)]
    assert min(told_at) >= 700 + (await walk.entries())[0].at
    assert finished[0] < max(told_at)


async def test_the_end_says_for_which_hook_it_waits(walk: Walk):
    hook(walk, "sleep 2.5", event="after_turn", name="slow")
    done = await go(walk, "--allow", "write *")
    assert (done.code, "Waiting for the hook 'slow' (after_turn), 10 s at most.\n" in done.err) == (0, True), done.said
    (walk.home / ".config/ml-intern/settings.toml").write_text("[[hooks]]\nevent = 'after_turn'\ncommand = 'true'\n")
    done = await go(walk, "--allow", "write *")
    assert "Waiting" not in done.err, done.said


async def test_a_stop_ends_a_hook_that_is_waited_for_at_once(walk: Walk):
    heard = hook(walk, "sleep 50", more="timeout = '2m'")
    async with Hearing(story([WRITES])) as model:
        running = await walk.start("go", *MODEL, "--base-url", model.url)
        await until(heard.exists)
        pressed = running.interrupt()
        done = await running.ended()
    assert time.monotonic() - pressed < 3, done.said
    assert [answer.outcome for answer in await walk.answers()] == ["stopped"]
    assert not (walk.workspace / "a.txt").exists()


async def test_a_hook_of_the_workspace_runs_only_once_a_person_trusts_its_file(walk: Walk):
    witness = walk.place / "ran"
    file = walk.workspace / ".ml-intern" / "settings.toml"
    file.parent.mkdir()
    file.write_text(f"[[hooks]]\nevent = 'before_call'\ncommand = 'touch {witness}'\n")
    done = await go(walk)
    assert ("Not trusted, so ignored: hooks in" in done.err, witness.exists()) == (True, False), done.said
    given = await walk.run("trust", "--yes")
    assert "Loosens: hooks" in given.out, given.said
    assert f"touch {witness}" in (await walk.run("settings")).out
    assert "hooks.before_call" in (await walk.run("settings", "--json")).out
    (walk.workspace / "a.txt").unlink()
    await go(walk)
    assert witness.exists()
    file.write_text(file.read_text() + "# changed\n")
    witness.unlink()
    (walk.workspace / "a.txt").unlink()
    await go(walk)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("event = 'before_cal'\ncommand = 'x'", "there is no 'before_cal'.\nDid you mean before_call?"),
        ("event = 'held'", "a hook needs command, a text."),
        ("event = 'held'\ncommand = ' '", "a hook without a command."),
        ("event = 'held'\ncommand = 'x'\ntimout = 3", "a hook has no 'timout'.\nDid you mean timeout?"),
        ("event = 'held'\ncommand = 'x'\ntimeout = '1h'", "a hook may take 600 s at most."),
        ("event = 'held'\ncommand = 'x'\non_error = 'deny'", "there is no 'deny'."),
        ("event = 'held'\ncommand = 'x'\neffects = ['publsh x']", "did you mean 'publish'?"),
        ("event = 'held'\ncommand = 'x'\ntools = [3]", "tools is a list of texts."),
        ("event = 'before_turn'\ncommand = 'x'\ntools = ['bash']", "is about no call, so no tools would ever fit."),
        ("event = 'after_turn'\ncommand = 'x'\neffects = 'publish'", "is about no call, so no effects would ever fit."),
    ],
)
async def test_a_hook_that_is_written_wrongly_is_told_with_its_line_before_anything_starts(
    walk: Walk, table: str, why: str
):
    user = walk.home / ".config" / "ml-intern" / "settings.toml"
    user.parent.mkdir(parents=True)
    user.write_text(f"[[hooks]]\nevent = 'held'\ncommand = 'true'\n[[hooks]]\n{table}\n")
    done = await walk.run("settings")
    assert (done.code, "settings.toml:4" in done.err, why in done.err) == (2, True, True), done.said
    user.write_text("hooks = 'x'\n")
    assert "hooks is a list of tables." in (await walk.run("settings")).err


async def test_doctor_names_a_hook_whose_program_is_not_there(walk: Walk):
    user = walk.home / ".config" / "ml-intern" / "settings.toml"
    user.parent.mkdir(parents=True)
    user.write_text("[[hooks]]\nevent = 'held'\ncommand = 'no-such-program now'\n")
    done = await walk.run("doctor")
    assert "no-such-program" in done.out, done.said


async def test_what_a_hook_notes_is_no_word_of_the_persons(walk: Walk):
    hook(walk, says(note="hello"), event="before_turn")
    await go(walk)
    nudges = [entry.event for entry in await walk.entries() if isinstance(entry.event, Nudged)]
    assert [each.text for each in nudges if each.guard == "hook"] == ["A hook of the user's says: hello"]
