import asyncio
import os
import time

import pytest

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.record.display import LogDisplay
from ml_intern.record.effects import Executes
from ml_intern.record.facts import FileChange, FileRead
from ml_intern.sandbox import lock
from ml_intern.sandbox.commands import Running, Spec
from ml_intern.toolkit.schema import Invalid, parse
from ml_intern.tools.bash import BashArgs
from ml_intern.tools.edit import Edit
from ml_intern.tools.read import Read
from tests.tools.bench import Shell, sha


async def test_output_comes_back_in_order_with_both_streams(shell):
    result = await shell.run("echo one; echo two >&2; echo three")
    assert (result.text, result.outcome) == ("one\ntwo\nthree", "ok")
    assert isinstance(result.display, LogDisplay)
    assert (result.display.title, result.display.text, result.display.exit_code) == (
        "echo one; echo two >&2; echo three",
        "one\ntwo\nthree",
        0,
    )


async def test_silence_is_told(shell):
    assert (await shell.run("true")).text == "(no output)"


@pytest.mark.parametrize("silent", ["true", "exit 3", "kill -9 $$", "echo; echo", "touch 'a file'"])
async def test_what_only_we_say_of_a_command_is_no_data(shell, silent):
    assert (await shell.run(silent)).ours


@pytest.mark.parametrize(
    "told",
    [
        "echo hello",
        "echo no >&2; exit 3",
        "touch .envrc",
        "git init -q . && echo evil > .git/hooks/pre-commit",
    ],
)
async def test_what_a_command_said_or_named_is_data(shell, told):
    assert not (await shell.run(told)).ours


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("echo no; exit 3", "no\n[Exit code 3.]"),
        ("kill -9 $$", "(no output)\n[Exit code 137 (signal SIGKILL).]"),
        ("no-such-program", "/bin/bash: line 1: no-such-program: command not found\n[Exit code 127.]"),
    ],
)
async def test_a_failure_is_told_by_its_exit_code(shell, command, text):
    result = await shell.run(command)
    assert (result.text, result.outcome) == (text, "failed")


async def test_escapes_and_progress_bars_are_cleaned(shell):
    result = await shell.run(r"printf '\033[31mred\033[0m\n'; printf '10%%\r50%%\r100%%\n'; printf 'a\0\007b'")
    assert result.text == "red\n100%\nab"


async def test_output_is_seen_while_it_is_printed(shell):
    result = await shell.run("echo first; sleep 0.4; echo second")
    assert "".join(shell.bench.live) == "first\nsecond\n"
    assert len(shell.bench.live) == 2
    assert result.text == "first\nsecond"


async def test_a_character_cut_between_two_writes_is_whole(shell):
    result = await shell.run(r"printf '\303'; sleep 0.3; printf '\251\n'")
    assert "".join(shell.bench.live) == "é\n"
    assert result.text == "é"


async def test_long_output_keeps_head_and_tail_and_the_whole_can_be_paged(shell):
    result = await shell.run("seq 1 100000")
    assert len(result.text) < 25_200
    assert result.text.startswith("1\n2\n")
    assert result.text.endswith("\n99999\n100000")
    head, _, tail = result.text.partition("\n[... ")
    assert len(head) * 2.8 < len(tail)
    assert f"the whole output has 100,000 lines; read blob:{result.blob} for all of it ...]" in result.text
    read = Read(shell.bench.roots, shell.bench.blobs)
    page = await shell.bench.call(read, path=f"blob:{result.blob}", offset=54_321, limit=1)
    assert page.text.startswith("54321\t54321\n")


async def test_at_the_deadline_everything_printed_so_far_is_told(shell):
    begun = time.monotonic()
    result = await shell.run("echo before; sleep 60; echo after", timeout=1)
    assert time.monotonic() - begun < 8
    assert result.text.startswith(
        "before\n[Ended at its deadline; this is all it printed until then. If it needs longer"
    )
    assert result.outcome == "failed"


async def test_each_call_starts_in_the_workspace_or_where_it_says(shell):
    (shell.bench.workspace / "sub").mkdir()
    assert (await shell.run("pwd")).text == str(shell.bench.workspace)
    assert (await shell.run("pwd", work_dir="sub")).text == shell.bench.path("sub")
    with pytest.raises(ToolFailed, match=r"none is not there\. Name an existing folder"):
        await shell.run("pwd", work_dir="none")
    with pytest.raises(PathRefused, match="outside what this session may see"):
        await shell.run("pwd", work_dir="/root/.ssh")


async def test_what_it_would_do_is_known_before_it_starts(shell):
    prepared = await shell.bench.prepare(shell.bash(), command="echo hi > a", description="greet")
    assert prepared.effects == (Executes("echo hi > a"),)
    assert prepared.replay == "findable"
    assert prepared.display == LogDisplay("echo hi > a", "greet")
    assert not (shell.bench.workspace / "a").exists()


@pytest.mark.parametrize(("command", "words"), [("  ", "is empty"), ("a\0b", "NUL"), ("x" * 100_001, "too long")])
async def test_what_is_no_command_is_refused(shell, command, words):
    with pytest.raises(ToolFailed, match=words):
        await shell.bench.prepare(shell.bash(), command=command)


@pytest.mark.parametrize("timeout", [0, 36_001])
def test_the_deadline_has_bounds(timeout):
    told = parse(BashArgs, f'{{"command": "true", "timeout": {timeout}}}')
    assert isinstance(told, Invalid)
    assert told.text.startswith(f"`timeout` is a number ({timeout}): expected `int` ")


async def test_changes_in_the_workspace_are_facts(shell):
    for name in ("kept", "changed", "removed"):
        (shell.bench.workspace / name).write_text(name)
    result = await shell.run("echo more >> changed; rm removed; mkdir d; echo new > d/made; truncate -s 2M large")
    path = shell.bench.path
    assert set(result.facts) == {
        FileChange(path("changed"), "?", sha(b"changedmore\n"), authored=False),
        FileChange(path("removed"), "?", None, authored=False),
        FileChange(path("d/made"), None, sha(b"new\n"), authored=False),
        FileChange(path("large"), None, "?", authored=False),
    }


async def test_a_change_of_a_file_that_was_read_names_what_it_was(shell):
    (shell.bench.workspace / "a").write_text("a")
    await shell.bench.call(Read(shell.bench.roots, shell.bench.blobs), path="a")
    result = await shell.run("echo b > a")
    assert result.facts == (FileChange(shell.bench.path("a"), sha(b"a"), sha(b"b\n"), authored=False),)


async def test_a_file_that_a_command_changed_must_be_read_again(shell):
    read, edit = Read(shell.bench.roots, shell.bench.blobs), Edit(shell.bench.roots)
    (shell.bench.workspace / "a").write_text("one\n")
    await shell.bench.call(read, path="a")
    await shell.run("echo two >> a")
    with pytest.raises(
        ToolFailed, match=r"was changed by a command or another agent and not read since\. Read it first"
    ):
        await shell.bench.call(edit, path="a", old_str="two", new_str="2")
    await shell.bench.call(read, path="a")
    await shell.bench.call(edit, path="a", old_str="two", new_str="2")
    assert (shell.bench.workspace / "a").read_text() == "one\n2\n"


async def test_many_new_files_do_not_flood_the_record(shell):
    result = await shell.run("for n in $(seq 300); do echo > $n; done")
    assert len(result.facts) == 200


async def test_file_names_that_are_no_text_stay_out_of_the_record(shell):
    result = await shell.run(r"touch $'\377' fine")
    assert [fact.path for fact in result.facts] == [shell.bench.path("fine")]


async def test_a_repository_that_a_command_made_is_walled_for_the_next(shell):
    assert (await shell.run("git init -q . && echo fine > .git/hooks/made")).outcome == "ok"
    result = await shell.run("echo evil > .git/hooks/pre-commit; git config core.fsmonitor evil")
    assert "A wall of the sandbox: only" in result.text
    assert not (shell.bench.workspace / ".git" / "hooks" / "pre-commit").exists()
    assert "fsmonitor" not in (shell.bench.workspace / ".git" / "config").read_text()


async def test_a_trap_set_for_the_persons_git_is_undone_and_told_to_both(shell):
    await shell.run("git init -q .")
    result = await shell.run("echo ../evil > .git/commondir; rm .git/HEAD")
    assert not (shell.bench.workspace / ".git" / "commondir").exists()
    assert (shell.bench.workspace / ".git" / "HEAD").exists()
    for text in (result.text, result.display.text):
        assert text.count("[The command changed .git so that git") == 1
        assert "commondir (removed), HEAD (restored)" in text


async def test_a_trap_of_a_command_that_was_stopped_is_undone_too(shell):
    await shell.run("git init -q .")
    trap = shell.bench.workspace / ".git" / "commondir"
    task = asyncio.create_task(shell.run("echo ../evil > .git/commondir; sleep 60"))
    while not trap.exists():
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not trap.exists()


async def test_what_acts_outside_the_walls_is_told_where_a_command_made_it(shell):
    result = await shell.run(
        "mkdir -p sub/.vscode; echo evil > .envrc; git init -q . && git config core.fsmonitor evil"
    )
    for text in (result.text, result.display.text):
        assert ".envrc (direnv runs it when a person enters the folder)" in text
        assert "sub/.vscode (an editor" in text
        assert ".git (git runs what is named by its fsmonitor)" in text
    result = await shell.run("echo worse >> .envrc; touch sub/.vscode/tasks.json")
    assert "acts outside" not in result.text
    assert (shell.bench.workspace / ".envrc").read_text() == "evil\n"
    assert not (shell.bench.workspace / "sub" / ".vscode" / "tasks.json").exists()


async def test_a_repository_whose_name_is_no_text_is_walled_and_told_of(shell):
    assert (await shell.run(r"git init -q $'\377'")).outcome == "ok"
    result = await shell.run(r"cd $'\377'; echo ../evil > .git/commondir; touch .envrc; echo x > .git/hooks/pre-commit")
    assert "commondir (removed)" in result.text
    assert ".envrc (direnv" in result.text
    assert result.text.encode()
    assert "A wall of the sandbox: only" in result.text


async def test_a_workspace_that_is_gone_is_told(shell):
    shell.bench.workspace.rename(shell.bench.folder.parent / "moved")
    with pytest.raises(ToolFailed, match="is not there"):
        await shell.run("true")


async def test_stopping_the_turn_ends_the_whole_tree(shell):
    witness = shell.bench.workspace / "witness"
    task = asyncio.create_task(shell.run("(setsid sh -c 'while :; do date >> witness; sleep 0.05; done' &) ; sleep 60"))
    while not witness.exists():
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    size = witness.stat().st_size
    await asyncio.sleep(0.3)
    assert witness.stat().st_size == size


async def test_after_a_crash_an_ended_command_is_found_and_not_run_again(shell):
    arguments = {"command": "echo ran >> witness; echo done; exit 4"}
    prepared = await shell.bench.prepare(shell.bash(), **arguments)
    before = await shell.bash().run(prepared, shell.bench.context())
    found = await shell.bench.recover(shell.bash(), prepared, **arguments)
    assert found is not None
    assert (found.text, found.outcome) == (before.text, before.outcome) == ("done\n[Exit code 4.]", "failed")
    assert (shell.bench.workspace / "witness").read_text() == "ran\n"


async def test_after_a_crash_a_running_command_is_attached_to(shell):
    arguments = {"command": "echo early; sleep 1; echo late; echo ran >> witness"}
    prepared = await shell.bench.prepare(shell.bash(), **arguments)
    bash = shell.bash()
    first = asyncio.create_task(shell.commands.run(_spec(shell, arguments["command"]), lambda _: None))
    while not isinstance(await shell.commands.find("call-1"), Running):
        await asyncio.sleep(0.02)
    # Cancelling whoever waits leaves the command alone, as a killed process does.
    first.cancel()
    shell.bench.live.clear()
    found = await shell.bench.recover(bash, prepared, **arguments)
    assert found is not None
    assert (found.text, found.outcome) == ("early\nlate", "ok")
    assert "".join(shell.bench.live) == "early\nlate\n"
    assert (shell.bench.workspace / "witness").read_text() == "ran\n"


async def test_after_a_crash_the_files_a_command_changed_are_told_to_the_record(shell):
    bench, folder = shell.bench, shell.bench.workspace
    for name in ("kept", "changed", "gone", "rewritten"):
        (folder / name).write_text(name)
        os.utime(folder / name, (1, 1))
        bench.keep((FileRead(bench.path(name), sha(name.encode())),))
    (folder / "unknown").write_text("x")
    os.utime(folder / "unknown", (1, 1))
    arguments = {"command": "echo b > changed; rm gone; printf rewritten > rewritten; echo n > new"}
    prepared = await bench.prepare(shell.bash(), **arguments)
    await shell.commands.run(_spec(shell, arguments["command"]), lambda _: None)
    found = await bench.recover(shell.bash(), prepared, **arguments)
    assert found is not None
    told = {fact.path: (fact.before, fact.after) for fact in found.facts}
    assert told == {
        bench.path("changed"): (sha(b"changed"), sha(b"b\n")),
        bench.path("gone"): (sha(b"gone"), None),
        bench.path("new"): ("?", sha(b"n\n")),
    }


async def test_after_a_crash_a_command_that_never_began_is_not_found(shell):
    prepared = await shell.bench.prepare(shell.bash(), command="true")
    assert await shell.bench.recover(shell.bash(), prepared, command="true") is None


async def test_a_command_whose_owner_is_gone_is_lost_and_its_traces_are_named(shell):
    (shell.bench.workspace / "old").touch()
    os.utime(shell.bench.workspace / "old", (1, 1))
    arguments = {"command": "echo begun; touch trace; sleep 60"}
    prepared = await shell.bench.prepare(shell.bash(), **arguments)
    first = asyncio.create_task(shell.commands.run(_spec(shell, arguments["command"]), lambda _: None))
    while not (shell.bench.workspace / "trace").exists():
        await asyncio.sleep(0.02)
    first.cancel()
    await kill_supervisor(shell)
    found = await shell.bench.recover(shell.bash(), prepared, **arguments)
    assert found is not None
    assert found.outcome == "lost"
    assert found.text.startswith("begun\n[The process that owned this command is gone, and the command with it")
    assert found.text.endswith("[Changed in the workspace since it began: trace.]")


def _spec(shell: Shell, command: str) -> Spec:
    bench = shell.bench
    return Spec(
        "call-1", ("/bin/bash", "-c", command), str(bench.workspace), {"PATH": "/usr/bin:/bin"}, 60, bench.roots
    )


async def kill_supervisor(shell: Shell) -> None:
    holder = lock.holder(str(shell.bench.folder))
    assert holder is not None
    os.kill(holder, 9)
    while lock.holder(str(shell.bench.folder)) is not None:
        await asyncio.sleep(0.02)
