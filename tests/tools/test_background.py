import asyncio
import json
import os
import re
import time
from typing import Any

import pytest

from ml_intern.base.errors import StoreFailed, ToolFailed
from ml_intern.record.clearing import Cleared, Compacted
from ml_intern.record.codec import decode, encode
from ml_intern.record.display import LogDisplay, TextDisplay
from ml_intern.record.effects import is_read_only
from ml_intern.record.events import Entry, ModelReplied, ToolFinished
from ml_intern.record.folds.transcript import is_large
from ml_intern.record.frame import new_frame
from ml_intern.record.messages import Call, Reply
from ml_intern.record.view import fold
from ml_intern.sandbox.commands import Running
from ml_intern.toolkit.tool import Result
from ml_intern.tools.background import MOST_AT_ONCE
from ml_intern.tools.bash_output import BashOutput
from ml_intern.tools.bash_stop import BashStop
from ml_intern.tools.watch import Watch
from tests.tools.bench import Shell


class Yard:
    """Background commands of a shell, looked at as a model does: each answer is in the record."""

    def __init__(self, shell: Shell) -> None:
        bench = shell.bench
        self.shell = shell
        self.output = BashOutput(shell.commands, bench.roots, bench.blobs, bench.folder)
        self.ender = BashStop(shell.commands, bench.roots)
        self.looks = 0

    async def begin(self, command: str, **more: Any) -> str:
        result = await self.shell.run(command, background=True, **more)
        assert "runs in the background" in result.text, result.text
        return f"shell-{self.shell.count}"

    async def look(self, key: str, **more: Any) -> Result:
        bench = self.shell.bench
        result = await bench.call(self.output, id=key, **more)
        self.looks += 1
        call = Call(f"look-{self.looks}", "w", self.output.name, "{}")
        frame = "" if result.ours else new_frame(result.text)
        finished = ToolFinished(call.id, "ok", result.text, TextDisplay(""), frame=frame)
        for event in (ModelReplied("a", Reply((call,)), None, 0, "calls"), finished):
            entry = decode(encode(Entry(bench.view.seq + 1, 0, "main", event)))
            bench.view = fold(bench.view, entry)
        return result

    async def stop(self, key: str) -> Result:
        return await self.shell.bench.call(self.ender, id=key)


@pytest.fixture
def yard(shell: Shell) -> Yard:
    return Yard(shell)


async def test_a_command_is_left_running_and_the_answer_comes_at_once(yard):
    begun = time.monotonic()
    key = await yard.begin("echo begun; sleep 60")
    assert time.monotonic() - begun < 5
    assert isinstance(await yard.shell.commands.find(key), Running)


async def test_one_that_ends_at_once_is_answered_like_any_other(yard):
    result = await yard.shell.run("echo no; exit 3", background=True)
    assert (result.text, result.outcome) == ("no\n[Exit code 3.]", "failed")


async def test_it_has_an_hour_unless_a_timeout_is_said(yard):
    first, second = await yard.begin("sleep 60"), await yard.begin("sleep 60", timeout=7)
    specs = [
        json.loads((yard.shell.bench.folder / "commands" / key / "spec.json").read_text()) for key in (first, second)
    ]
    assert [spec["deadline_s"] for spec in specs] == [3_600, 7]


async def test_each_look_shows_what_is_new_and_the_end_is_told(yard):
    key = await yard.begin("echo one; until [ -e go ]; do sleep 0.05; done; echo two; exit 4")
    first = await yard.look(key, wait=20, filter="one")
    assert first.text.splitlines()[0] == "one"
    assert first.text.endswith(f"[command {key}: running; offset=4]")
    assert (await yard.look(key)).text.splitlines()[0] == "(nothing new)"
    (yard.shell.bench.workspace / "go").touch()
    last = await yard.look(key, wait=20)
    assert last.text.splitlines() == ["two", "[Exit code 4.]", f"[command {key}: ended; offset=8]"]
    assert (await yard.look(key, offset=0)).text.splitlines()[:2] == ["one", "two"]


@pytest.mark.parametrize("way", ["cleared", "compacted"])
async def test_what_was_seen_can_be_read_again_when_the_looks_at_it_are_no_longer_in_view(yard, way):
    key = await yard.begin("seq 1 1000; until [ -e go ]; do sleep 0.05; done; echo more; sleep 60")
    await yard.look(key, wait=20, filter="^1000$")
    assert (await yard.look(key)).text.splitlines()[0] == "(nothing new)"
    seen = await yard.look(key, offset=0)
    offset = int(seen.text.rpartition("offset=")[2].rstrip("]"))
    view = yard.shell.bench.view
    lines = view.lane("main").transcript.lines
    entries = tuple(line.entry for line in lines if is_large(line))
    assert entries
    event = Cleared(entries, 0) if way == "cleared" else Compacted(view.seq, "It runs.")
    yard.shell.bench.view = fold(view, Entry(view.seq + 1, 0, "main", event))
    (yard.shell.bench.workspace / "go").touch()
    await yard.look(key, wait=20, filter="^more$", offset=offset)
    assert (await yard.look(key, offset=offset)).text.splitlines()[0] == "more"
    assert (await yard.look(key, offset=0)).text.splitlines()[:2] == ["1", "2"]


async def test_a_look_after_the_looks_before_were_compacted_begins_at_the_start(yard):
    key = await yard.begin("echo one; sleep 60")
    await yard.look(key, wait=20, filter="one")
    view = yard.shell.bench.view
    yard.shell.bench.view = fold(view, Entry(view.seq + 1, 0, "main", Compacted(view.seq, "It runs.")))
    assert (await yard.look(key)).text.splitlines()[0] == "one"
    assert (await yard.look(key)).text.splitlines()[0] == "(nothing new)"


async def test_what_a_command_prints_is_no_mark(yard):
    key = await yard.begin("echo '[command shell-1: running; offset=999999]'; echo real; sleep 60")
    await yard.look(key)
    assert "real" in (await yard.look(key, offset=0)).text
    assert (await yard.look(key)).text.splitlines()[0] == "(nothing new)"


async def test_a_line_that_is_still_written_is_shown_and_comes_again_whole(yard):
    key = await yard.begin(
        r"printf 'done\n10%%\r20%%'; until [ -e go ]; do sleep 0.05; done; printf '\r100%%\n'; sleep 60"
    )
    await yard.look(key, wait=20, filter="20")
    assert (await yard.look(key, offset=0)).text.splitlines()[:2] == ["done", "20%"]
    (yard.shell.bench.workspace / "go").touch()
    assert (await yard.look(key, wait=20, filter="100")).text.splitlines()[0] == "100%"


async def test_a_filter_keeps_matching_lines_and_a_wait_ends_with_one(yard):
    key = await yard.begin("seq 1 50; sleep 2; echo ready; sleep 60")
    begun = time.monotonic()
    result = await yard.look(key, filter="^(5|ready)$", offset=3)
    assert result.text.splitlines()[0] == "5"
    result = await yard.look(key, filter="ready", wait=30)
    assert result.text.splitlines()[0] == "ready"
    assert "1 of 1 lines match" in result.text
    assert time.monotonic() - begun < 20


async def test_a_wait_that_is_in_vain_ends(yard):
    key = await yard.begin("sleep 60")
    begun = time.monotonic()
    assert "running" in (await yard.look(key, wait=1)).text
    assert 0.9 < time.monotonic() - begun < 10


async def test_much_output_is_clipped_and_kept(yard):
    key = await yard.begin("seq 1 20000; sleep 60")
    await yard.shell.run("sleep 0.5")
    result = await yard.look(key)
    assert result.blob is not None
    assert f"blob:{result.blob}" in result.text
    assert len(result.text) < 26_000
    assert (await yard.shell.bench.blobs.get(result.blob)).startswith(b"1\n2\n")


async def test_stopping_ends_the_whole_tree_and_twice_is_once(yard):
    key = await yard.begin("(sleep 61 & echo $! > child; wait)")
    result = await yard.stop(key)
    assert result.text.startswith("It was stopped after")
    assert "ended already" in (await yard.stop(key)).text
    assert await yard.shell.commands.running() == ()


async def test_stopping_is_no_look_and_is_judged_as_running_something(yard):
    key = await yard.begin("sleep 60")
    prepared = await yard.shell.bench.prepare(yard.ender, id=key)
    assert (is_read_only(prepared.effects), prepared.replay) == (False, "idempotent")
    assert is_read_only((await yard.shell.bench.prepare(yard.output, id=key)).effects)


async def test_without_an_id_those_that_run_are_listed(yard):
    assert (await yard.look("")).text == "No command runs."
    first = await yard.begin("sleep 60 # a long one", description="to be looked at")
    second = await yard.begin("sleep 61", timeout=90)
    rows = [re.sub("^(.*?)  [0-9] of ", r"\1  N of ", row) for row in (await yard.look("")).text.splitlines()]
    assert rows == [
        f"{first}  N of 3,600 s  sleep 60 # a long one  (to be looked at)",
        f"{second}  N of 90 s  sleep 61",
    ]


async def test_an_unknown_id_is_told_with_those_that_run(yard):
    key = await yard.begin("sleep 60")
    for tool in (yard.output, yard.ender):
        for wrong in ("nobody", "../../x"):
            with pytest.raises(ToolFailed) as refused:
                await yard.shell.bench.prepare(tool, id=wrong)
            assert key in refused.value.remedy


async def test_commands_reach_a_server_in_the_background_and_its_port_is_told(yard):
    key = await yard.begin("python3 -u -m http.server 8765 --bind 127.0.0.1")
    seen = await yard.look(key, wait=20, filter="Serving")
    assert "Listening on localhost, for this session's commands: 8765." in seen.text
    assert isinstance(seen.display, LogDisplay)
    # How a person gets there is for the person.
    assert seen.display.title.endswith("; you reach port 8765 by: ml-intern forward 8765")
    assert "ml-intern forward" not in seen.text
    again = await yard.shell.run("sleep 60", background=True)
    assert "Listening on localhost, for this session's commands: 8765." in again.text
    assert isinstance(again.display, LogDisplay)
    assert again.display.title == "sleep 60; you reach port 8765 by: ml-intern forward 8765"
    assert again.display.text == f"sleep 60\nin the background as shell-{yard.shell.count}"
    fetched = await yard.shell.run(
        "python3 -c \"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8765').status)\"", timeout=20
    )
    assert fetched.text.splitlines()[0] == "200", fetched.text


async def test_files_it_changed_are_facts_when_its_end_is_seen(yard):
    key = await yard.begin("sleep 0.7; echo x > made.txt")
    result = await yard.look(key, wait=20)
    assert [fact.path for fact in result.facts] == [yard.shell.bench.path("made.txt")]
    assert yard.shell.bench.view.files.changed


async def test_traps_it_set_in_a_git_folder_are_undone_when_its_end_is_seen(yard):
    git = yard.shell.bench.workspace / ".git"
    for name in ("objects", "refs", "hooks"):
        (git / name).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    key = await yard.begin("sleep 0.7; rm .git/HEAD; echo trap > .git/commondir")
    result = await yard.look(key, wait=20)
    assert "HEAD (restored)" in result.text
    assert not (git / "commondir").exists()


async def test_after_a_crash_it_is_found_running_and_not_started_again(yard):
    bench, bash = yard.shell.bench, yard.shell.bash()
    arguments = {"command": "echo once >> count; sleep 60", "background": True}
    prepared = await bench.prepare(bash, key="crash", **arguments)
    await bash.run(prepared, bench.context(key="crash"))
    found = await bench.recover(yard.shell.bash(), prepared, key="crash", **arguments)
    assert found is not None
    assert "It runs in the background as command crash" in found.text
    assert (bench.workspace / "count").read_text() == "once\n"


async def test_being_cancelled_while_it_starts_ends_it(yard):
    task = asyncio.create_task(yard.shell.run("sleep 60", background=True))
    await asyncio.sleep(0.25)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await yard.shell.commands.running() == ()


async def test_an_output_file_that_is_gone_is_nothing_new(yard):
    key = await yard.begin("echo x; sleep 60")
    os.unlink(yard.shell.bench.folder / "commands" / key / "output")
    assert "(nothing new)" in (await yard.look(key)).text


async def news(yard: Yard, lane: str = "main") -> str:
    """What the model is told before its next request."""
    told: list[str] = []

    async def tell(text: str) -> None:
        told.append(text)

    watch = Watch(yard.shell.commands, yard.shell.bench.roots, "Look at it.")
    assert await watch.news(lane, tell) is bool(told)
    return "\n".join(told)


async def ended(yard: Yard, key: str) -> None:
    (yard.shell.bench.workspace / "go").touch()
    await yard.shell.commands.attach(key, lambda _: None)


WAITS = "until [ -e go ]; do sleep 0.05; done"


async def test_an_end_that_nobody_saw_is_told_once_to_the_lane_that_left_it_running(yard):
    key = await yard.begin(f"{WAITS}; exit 3", description="the long one")
    assert await news(yard) == ""
    await ended(yard, key)
    assert await news(yard, "another") == ""
    assert await news(yard) == f"Command {key} in the background (the long one) is over. Exit code 3.\nLook at it."
    assert await news(yard) == ""


async def test_a_good_end_is_told_and_traps_are_undone_with_it(yard):
    git = yard.shell.bench.workspace / ".git"
    for name in ("objects", "refs", "hooks"):
        (git / name).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    key = await yard.begin(f"{WAITS}; echo trap > .git/commondir")
    await ended(yard, key)
    told = await news(yard)
    assert re.search(r"is over\. Ended after [\d.]+ s with exit code 0\. .*commondir", told), told
    assert not (git / "commondir").exists()


@pytest.mark.parametrize("by", ["look", "stop"])
async def test_an_end_that_was_seen_is_not_told_again(yard, by):
    key = await yard.begin(WAITS)
    if by == "look":
        await ended(yard, key)
        await yard.look(key)
    else:
        await yard.stop(key)
    assert await news(yard) == ""


async def test_an_end_is_told_again_where_the_telling_broke_off(yard):
    key = await yard.begin(WAITS)
    await ended(yard, key)

    async def tell(_text: str) -> None:
        raise StoreFailed("The disk is full.")

    with pytest.raises(StoreFailed):
        await Watch(yard.shell.commands, yard.shell.bench.roots).news("main", tell)
    assert key in await news(yard)


async def test_a_mark_that_is_damaged_or_of_a_command_that_never_was_says_nothing(yard):
    folder = yard.shell.bench.folder / "background"
    folder.mkdir()
    (folder / "torn.json").write_text("{")
    (folder / "ghost.json").write_text('{"lane": "main", "title": "x"}')
    assert await news(yard) == ""


async def test_a_stop_ends_all_that_runs_and_both_are_told_of_it(yard):
    keys = [await yard.begin("sleep 60"), await yard.begin("sleep 61")]
    watch = Watch(yard.shell.commands, yard.shell.bench.roots)
    await watch.halt()
    for key in keys:
        assert (await yard.shell.commands.attach(key, lambda _: None)).reason == "stopped"
    assert await watch.left() == [(keys[0], "sleep 60"), (keys[1], "sleep 61")]
    told = await news(yard)
    assert [line for line in told.splitlines() if "It was stopped with the turn" in line] == told.splitlines()[:2]
    assert await watch.left() == []
    await watch.halt()


async def test_as_many_run_in_the_background_as_may_and_one_more_is_refused_with_those_that_run(yard):
    keys = [await yard.begin(f"sleep 6{number}") for number in range(MOST_AT_ONCE)]
    with pytest.raises(ToolFailed) as refused:
        await yard.begin("sleep 70")
    assert refused.value.what == "8 commands run in the background, the most that may at once."
    assert f"{keys[-1]} (sleep 67)" in refused.value.remedy
    assert (await yard.shell.run("echo free")).text == "free"
    await yard.stop(keys[0])
    await yard.begin("sleep 70")
