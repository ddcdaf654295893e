import base64
import json

import pytest

from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.wire import open_session
from ml_intern.base.ids import new_id
from ml_intern.record.commands import Say
from ml_intern.record.next import Rest, Wait
from tests.tools.test_read_media import pdf, png
from tests.walks.walk import MODEL, Hearing, Walk, bash, step, story, until


def sent(double: Hearing) -> list[dict[str, object]]:
    """The messages of the last request."""
    return json.loads(double.bodies[-1])["messages"]


async def test_names_and_lines_are_found_from_the_command_line_on(walk: Walk):
    (walk.workspace / "src").mkdir()
    (walk.workspace / "src" / "train.py").write_text("import torch\nloss = 0.1\n")
    (walk.workspace / ".gitignore").write_text("*.log\n")
    (walk.workspace / "a.log").write_text("loss\n")
    calls = [("find", {"pattern": "loss", "glob": "*.{py,log}"}), ("find", {"glob": "**/*.py"})]
    async with Hearing(story(calls)) as double:
        done = await walk.say(double, "where is the loss?")
        assert done.code == 0, done.said
    names, lines = sorted((answer for answer in await walk.answers()), key=lambda answer: "searched" in answer.text)
    assert lines.text.splitlines()[:2] == ["src/train.py", "2: loss = 0.1"]
    assert "a.log" not in lines.text
    assert names.text.startswith("src/train.py  (")


async def test_what_was_said_and_printed_is_recalled_after_a_resume(walk: Walk):
    first = [step(0, bash("seq 1 9000 | sed 's/^/row /'; echo the needle")), step(1, text="Ran it.")]
    async with Hearing(first) as double:
        assert (await walk.say(double, "print much")).code == 0
    calls = ("recall", {"query": "needle", "kinds": ["answer"]}), ("recall", {"query": "print much"})
    second = [step(2, *calls), step(3, text="Found.")]
    async with Hearing(second) as double:
        done = await walk.run("resume", "last", "find it again", "--base-url", double.url)
        assert done.code == 0, done.said
    printed, *found = await walk.answers()
    said, output = sorted(found, key=lambda answer: "blob:" in answer.text)
    assert printed.blob is not None
    assert f"blob:{printed.blob}" in output.text
    assert "  9001: the needle" in output.text
    assert "user" in said.text
    assert "print much" in said.text


async def test_an_image_that_is_read_reaches_the_model_as_it_is(walk: Walk):
    (walk.workspace / "plot.png").write_bytes(png(40, 30))
    async with Hearing(story([("read", {"path": "plot.png"})], [("read", {"path": "."})])) as double:
        done = await walk.say(double, "look at the plot")
        assert done.code == 0, done.said
        urls = [part["image_url"]["url"] for part in parts(double) if part["type"] == "image_url"]
    assert urls == [f"data:image/png;base64,{base64.b64encode(png(40, 30)).decode()}"]
    async with Hearing([step(3, text="Still there.")]) as double:
        done = await walk.run("resume", "last", "and now?", "--base-url", double.url)
        assert done.code == 0, done.said
        assert [part["image_url"]["url"] for part in parts(double) if part["type"] == "image_url"] == urls


def parts(double: Hearing) -> list[dict[str, dict[str, str]]]:
    return [part for message in sent(double) if isinstance(message["content"], list) for part in message["content"]]


async def test_a_pdf_and_a_notebook_are_read_as_text(walk: Walk):
    (walk.workspace / "paper.pdf").write_bytes(pdf("Attention", "Residuals"))
    cell = {"cell_type": "code", "source": "1 + 1", "outputs": [{"output_type": "stream", "text": "2\n"}]}
    (walk.workspace / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
    async with Hearing(story([("read", {"path": "paper.pdf"}), ("read", {"path": "a.ipynb"})])) as double:
        done = await walk.say(double, "read them")
        assert done.code == 0, done.said
    notebook, paper = sorted((answer for answer in await walk.answers()), key=lambda answer: "Residuals" in answer.text)
    assert "Residuals" in paper.text
    assert "--- output of cell 1" in notebook.text


LEFT = {"command": "echo up; sleep 600 # left", "background": True}


async def test_a_command_in_the_background_is_watched_and_ends_with_the_run(walk: Walk):
    script = [
        step(0, ("bash", LEFT)),
        step(1, ("bash_output", {"id": r"{{answer:-1:/as command (\w+)/}}", "wait": 20, "filter": "up"})),
        step(2, text="It is up."),
    ]
    async with Hearing(script) as double:
        done = await walk.say(double, "start it")
        assert done.code == 0, done.said
    started, seen = await walk.answers()
    key = started.call
    assert f"as command {key}" in started.text
    assert seen.text.splitlines()[0] == "up"
    assert f"background command {key} ended with the run: echo up; sleep 600 # left" in done.err
    [folder] = walk.data.glob("sessions/*")
    assert json.loads((folder / "commands" / key / "exit.json").read_text())["reason"] == "closed"


async def test_a_command_in_the_background_is_found_again_after_the_process_was_killed(walk: Walk):
    calls = [step(0, ("bash", LEFT)), {**step(1, text="Hm."), "fault": {"hang": True}}]
    async with Hearing(calls) as double:
        running = await walk.start("start it", *MODEL, "--base-url", double.url)
        await until(lambda: any(walk.data.glob("sessions/*/commands/*/before.json")) and len(double.bodies) == 2)
        running.process.kill()
        await running.process.wait()
    [key] = [path.parent.name for path in walk.data.glob("sessions/*/commands/*/before.json")]
    script = [step(1, ("bash_output", {"id": key}), ("bash_stop", {"id": key})), step(2, text="Stopped.")]
    async with Hearing(script) as double:
        done = await walk.run("resume", "last", "--base-url", double.url)
        assert done.code == 0, done.said
    *_, seen, stopped = await walk.answers()
    assert (seen.text.splitlines()[0], seen.text.splitlines()[-1]) == ("up", f"[command {key}: running; offset=3]")
    assert stopped.text.startswith("It was stopped after")
    assert "background command" not in done.err


async def test_what_runs_in_the_background_is_put_away_at_rest_and_kept_while_a_turn_is_open(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
):
    for name, value in walk.environ.items():
        monkeypatch.setenv(name, value)
    async with Hearing([step(0, ("bash", LEFT)), step(1, ASKED), step(2, text="Done.")]) as double:
        launch = make_launch(Flags(cwd=str(walk.workspace), model=MODEL[1], base_url=double.url, on_ask="hold"))
        async with open_session(launch) as opened:
            await opened.session.send(Say(new_id(), "start it"))
            assert isinstance(await opened.session.run(), Wait)
            [(key, _)] = await opened.background()
        [folder] = walk.data.glob("sessions/*")
        ended = folder / "commands" / key / "exit.json"
        assert not ended.exists()
        async with open_session(launch, resume="last") as opened:
            assert [each for each, _ in await opened.background()] == [key]
            await opened.session.send(Say(new_id(), "never mind", seen=opened.session.log.view.seq))
            assert isinstance(await opened.session.run(), Rest)
    assert json.loads(ended.read_text())["reason"] == "closed"


ASKED = ("ask_user", {"question": "Which split?", "options": ["the official one", "a new one"]})


async def test_a_question_with_nobody_there_is_decided_by_the_model(walk: Walk):
    async with Hearing(story([ASKED], end="I took the official one.")) as double:
        done = await walk.say(double, "split it")
        assert done.code == 0, done.said
    [answer] = await walk.answers()
    assert (answer.outcome, "Decide yourself" in answer.text) == ("ok", True)


async def test_a_question_waits_for_the_person_and_resume_answers_it(walk: Walk):
    async with Hearing(story([ASKED], end="Done.")) as double:
        done = await walk.say(double, "split it", "--on-ask", "hold")
        assert done.code == 5, done.said
        assert "Which split?" in done.err
        done = await walk.run("resume", "last", "--approve", "all", "--reason", "2", "--base-url", double.url)
        assert done.code == 0, done.said
        assert sent(double)[-1]["content"] == "The user chose: a new one"


async def test_an_end_in_the_background_is_told_before_the_next_request(walk: Walk):
    left = {"command": "until [ -e go ]; do sleep 0.05; done; exit 3", "background": True, "description": "the trainer"}
    script = [step(0, ("bash", left)), step(1, bash("touch go; sleep 1")), step(2, text="It failed.")]
    async with Hearing(script) as double:
        done = await walk.say(double, "train")
        assert done.code == 0, done.said
        last = sent(double)[-1]
    started, _ = await walk.answers()
    told = f"Command {started.call} in the background (the trainer) is over. Exit code 3."
    assert (last["role"], str(last["content"]).splitlines()[0]) == ("user", told)
    assert told in done.err
    assert "ended with the run" not in done.err


async def test_ctrl_c_ends_what_runs_in_the_background_and_a_resume_tells_the_model(walk: Walk):
    script = [step(0, ("bash", LEFT)), {**step(1, text="Hm."), "fault": {"hang": True}}]
    async with Hearing(script) as double:
        running = await walk.start("start it", *MODEL, "--base-url", double.url)
        await until(lambda: len(double.bodies) == 2)
        running.interrupt()
        done = await running.ended()
    assert done.code == 130, done.said
    [started] = await walk.answers()
    assert f"background command {started.call} ended with the run: echo up; sleep 600 # left" in done.err
    [folder] = walk.data.glob("sessions/*")
    assert json.loads((folder / "commands" / started.call / "exit.json").read_text())["reason"] == "stopped"
    async with Hearing([{"when": {"any_contains": "go on"}, "reply": {"text": "I know."}}]) as double:
        done = await walk.run("resume", "last", "go on", "--base-url", double.url)
        assert done.code == 0, done.said
        said = [str(message["content"]) for message in sent(double)[-2:]]
    told = f"Command {started.call} in the background (echo up; sleep 600 # left) is over. It was stopped with the turn"
    assert any(told in each for each in said)
