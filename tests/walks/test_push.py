"""Publishing through the whole command line: named by the call, allowed by a person, counted, done by the broker."""

import json
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ml_intern.record.events import Granted, ToolHeld
from ml_intern.sandbox.levels import Level
from tests.doubles.hub_server import HubDouble, Repo, hub
from tests.walks.walk import MODEL, Done, Hearing, Walk, bash, everything_in, step, story

TOKEN = "hf_theRealTokenOfThePerson0123456789"
PUSH = ["push me/model-x"]
RULE = "publish hub:me/*, private, 2 times"


@pytest.fixture
def double() -> Generator[HubDouble]:
    with hub(TOKEN, "127.0.0.3") as double:
        double.repos = {"models/me/model-x": Repo(private=True)}
        yield double


@pytest.fixture
async def walk(tmp_path: Path, walls: Level, double: HubDouble) -> AsyncGenerator[Walk]:
    if walls < Level.FULL:
        pytest.skip(f"this machine's sandbox level is {walls.name}: there is no broker")
    walk = Walk(tmp_path, {"HF_TOKEN": TOKEN, "HF_ENDPOINT": double.endpoint})
    yield walk
    await walk.close()


def upload(name: str) -> str:
    line = json.dumps({"key": "file", "value": {"path": name, "content": "YQ==", "encoding": "base64"}})
    return f"curl -sS -H \"Authorization: Bearer $HF_TOKEN\" -d '{line}' $HF_ENDPOINT/api/models/me/model-x/commit/main"


def uploads(*names: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [bash(upload(name), hub=PUSH) for name in names]


async def play(walk: Walk, model: Hearing, *flags: str, words: str = "go") -> Done:
    return await walk.run(words, *flags, *MODEL, "--base-url", model.url)


def pushed(double: HubDouble) -> list[str]:
    return sorted(path for _, path in double.repos["models/me/model-x"].files)


async def test_without_a_permission_the_model_is_told_which_would_allow_it(walk: Walk, double: HubDouble):
    async with Hearing(story(uploads("a"), [bash(upload("b"))])) as model:
        done = await play(walk, model)
    assert done.code == 0, done.said
    first, second = [answer.text for answer in await walk.answers()]
    assert "publishes to hub:me/model-x (push), which only a person may allow" in first
    assert "--allow 'publish hub:me/model-x, private, push only'" in first
    assert "Publishing needs a permission" in second
    assert pushed(double) == []


async def test_a_permission_of_a_flag_is_counted_named_shown_and_used_up(walk: Walk, double: HubDouble):
    async with Hearing(story(uploads("a"), uploads("b"), uploads("c"))) as model:
        done = await play(walk, model, "--allow", RULE)
    first, second, third = await walk.answers()
    assert pushed(double) == ["a", "b"], done.said
    assert first.text.endswith(f"[Allowed beforehand by `{RULE}` (a flag): 1 of 2 used.]")
    assert "2 of 2 used" in second.text
    assert (third.outcome, f"`{RULE}` would allow it, but it is used up (2 of 2)" in third.text) == ("denied", True)
    shown = await walk.run("show")
    assert f"allowed: {RULE}\n" in shown.out
    assert f"permission `{RULE}` (a flag): 2 of 2 used; it is used up (2 of 2)\n" in shown.out
    egress = await walk.run("show", "--egress")
    assert egress.out.count("POST /api/models/me/model-x/commit/main") == 2
    assert "push me/model-x" in egress.out
    assert TOKEN.encode() not in everything_in(walk.data)


async def test_what_is_left_of_a_permission_is_there_after_a_resume(walk: Walk, double: HubDouble):
    async with Hearing([*story(uploads("a")), *_later(2, uploads("b"), uploads("c"))]) as model:
        await play(walk, model, "--allow", RULE)
        done = await walk.run("resume", "last", "more", *MODEL, "--base-url", model.url)
    assert done.code == 6, done.said
    assert pushed(double) == ["a", "b"]


def _later(first: int, *steps: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, object]]:
    return [*(step(first + at, *calls) for at, calls in enumerate(steps)), step(first + len(steps), text="Done.")]


@pytest.mark.parametrize(
    ("flags", "there"), [(("--times", "1"), ["a", "b"]), (("--always-this-session",), ["a", "b", "c"])]
)
async def test_a_yes_with_a_number_allows_so_many_more_of_the_same(
    walk: Walk, double: HubDouble, flags: tuple[str, ...], there: list[str]
):
    async with Hearing(story(uploads("a"), uploads("b"), uploads("c"))) as model:
        held = await play(walk, model, "--on-ask", "hold")
        assert (held.code, pushed(double)) == (5, []), held.said
        assert 'would: publishes {"target": "hub:me/model-x", "public": false, "verb": "push"}' in held.err
        assert "With --times N the next N calls like it are allowed, too" in held.err
        done = await walk.run("resume", "last", "--approve", "all", *flags, *MODEL, "--base-url", model.url)
    assert pushed(double) == there, done.said
    assert done.code == (0 if len(there) == 3 else 5), done.said
    entries = [entry.event for entry in await walk.entries()]
    [granted] = [event for event in entries if isinstance(event, Granted)]
    assert granted.rules[0].text == "publish hub:me/model-x, private, push only"
    assert len([event for event in entries if isinstance(event, ToolHeld)]) == (1 if len(there) == 3 else 2)


async def test_what_anyone_could_see_is_asked_each_time(walk: Walk, double: HubDouble):
    double.repos["models/me/open"] = Repo(private=False)
    public = bash("true", hub=["push me/open, public"])
    async with Hearing(story([public])) as model:
        await play(walk, model, "--on-ask", "hold", "--allow", "publish *, 9 times", "--mode", "yolo")
        wrong = await walk.run("resume", "last", "--approve", "all", "--times", "2", *MODEL, "--base-url", model.url)
        assert (wrong.code, "makes hub:me/open public: that is asked each time." in wrong.err) == (2, True), wrong.said
        done = await walk.run("resume", "last", "--approve", "all", *MODEL, "--base-url", model.url)
    assert done.code == 0, done.said


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--times", "2"), "belong to a call that is allowed"),
        (("--approve", "all", "--times", "2", "--always-this-session"), "say how many, twice"),
        (("--approve", "all", "--times", "0"), "0 is not in the range"),
    ],
)
async def test_numbers_that_mean_nothing_are_a_sentence_and_2(walk: Walk, flags: tuple[str, ...], why: str):
    done = await walk.run("resume", "last", *flags)
    assert (done.code, why in done.err) == (2, True), done.said


@pytest.mark.parametrize(
    ("lines", "env", "why"),
    [
        (["shove me/x"], {}, "'shove me/x' names no write to the Hub. Write 'push OWNER/NAME'"),
        (["push me"], {}, "names no write"),
        (["push ../me/x"], {}, "names no write"),
        (["create me/x@dev"], {}, "a branch cannot be created"),
        (PUSH, {"HF_TOKEN": ""}, "There is no token of the Hub."),
        (PUSH, {"ML_INTERN_OFFLINE": "1"}, "This session runs offline."),
    ],
)
async def test_a_write_that_cannot_be_is_told_before_anything_runs(
    walk: Walk, lines: list[str], env: dict[str, str], why: str
):
    async with Hearing(story([bash("touch ran", hub=lines)])) as model:
        await walk.run("go", *MODEL, "--base-url", model.url, env=env)
    [answer] = await walk.answers()
    assert (answer.outcome, why in answer.text) == ("failed", True), answer.text
    assert not (walk.workspace / "ran").exists()
