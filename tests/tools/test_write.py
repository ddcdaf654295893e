import asyncio
import os
import signal
import subprocess
import sys

import pytest

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.record.display import DiffDisplay
from ml_intern.record.effects import Writes
from ml_intern.record.facts import FileChange
from ml_intern.tools.changes import MOST_BYTES
from ml_intern.tools.read import Read
from ml_intern.tools.write import Write
from tests.tools.bench import Bench, sha

CUT_OFF = """
import os, signal, sys
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Root

os.rename = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
folder = sys.argv[1]
files.write_atomic(Place(Root(folder, folder, "write"), "a.txt", f"{folder}/a.txt"), b"one")
"""


@pytest.fixture
def read(bench: Bench) -> Read:
    return Read(bench.roots, bench.blobs)


@pytest.fixture
def write(bench: Bench) -> Write:
    return Write(bench.roots)


async def test_a_new_file_is_made_with_its_folders_exactly_as_given(bench, write):
    content = "a\r\nb\n\tünï"
    result = await bench.call(write, path="src/deep/a.txt", content=content)
    assert (bench.workspace / "src/deep/a.txt").read_bytes() == content.encode()
    assert result.text == f"Created {bench.path('src/deep/a.txt')}: 3 lines, {len(content.encode())} bytes."
    assert result.facts == (FileChange(bench.path("src/deep/a.txt"), None, sha(content.encode())),)


async def test_what_will_be_written_is_known_before_it_starts(bench, write):
    prepared = await bench.prepare(write, path="a.txt", content="one\ntwo\n")
    path = bench.path("a.txt")
    assert prepared.effects == (Writes(path),)
    assert prepared.replay == "findable"
    assert prepared.inputs == ((path, ""),)
    assert prepared.writes == (FileChange(path, None, sha(b"one\ntwo\n")),)
    assert prepared.display == DiffDisplay(path, "@@ -0,0 +1,2 @@\n+one\n+two", 2, 0)
    assert not (bench.workspace / "a.txt").exists()


async def test_a_file_that_was_not_read_is_not_replaced(bench, write):
    (bench.workspace / "a.txt").write_text("precious")
    with pytest.raises(ToolFailed) as refused:
        await bench.call(write, path="a.txt", content="new")
    assert refused.value.what == f"{bench.path('a.txt')} exists and has not been read."
    assert refused.value.remedy == "Read it first, then change it."
    assert (bench.workspace / "a.txt").read_text() == "precious"


async def test_a_file_that_was_read_in_another_lane_is_not_replaced(bench, read, write):
    (bench.workspace / "a.txt").write_text("precious")
    await bench.call(read, path="a.txt", lane="research")
    with pytest.raises(ToolFailed, match="has not been read"):
        await bench.call(write, path="a.txt", content="new")


async def test_a_file_that_changed_since_it_was_read_is_not_replaced(bench, read, write):
    (bench.workspace / "a.txt").write_text("precious")
    await bench.call(read, path="a.txt")
    (bench.workspace / "a.txt").write_text("more precious")
    with pytest.raises(ToolFailed, match=r"has changed since it was read\. Read it again"):
        await bench.call(write, path="a.txt", content="new")


async def test_a_file_that_was_read_is_replaced_and_the_diff_shows_it(bench, read, write):
    (bench.workspace / "a.txt").write_text("one\ntwo\nthree\n")
    await bench.call(read, path="a.txt")
    result = await bench.call(write, path="a.txt", content="one\n2\nthree\n")
    assert (bench.workspace / "a.txt").read_text() == "one\n2\nthree\n"
    assert result.text.startswith("Replaced ")
    assert result.display == DiffDisplay(bench.path("a.txt"), "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three", 1, 1)


async def test_what_was_written_may_be_written_again_without_a_read(bench, write):
    await bench.call(write, path="a.txt", content="one")
    await bench.call(write, path="a.txt", content="two")
    assert (bench.workspace / "a.txt").read_text() == "two"


async def test_an_empty_file_may_be_filled_without_a_read(bench, write):
    (bench.workspace / "a.txt").touch()
    await bench.call(write, path="a.txt", content="one")
    assert (bench.workspace / "a.txt").read_text() == "one"


async def test_a_change_between_preparing_and_running_stops_the_write(bench, write):
    prepared = await bench.prepare(write, path="a.txt", content="mine")
    (bench.workspace / "a.txt").write_text("theirs")
    with pytest.raises(ToolFailed, match="was changed by something else just now"):
        await write.run(prepared, bench.context())
    assert (bench.workspace / "a.txt").read_text() == "theirs"


async def test_mode_bits_stay(bench, read, write):
    script = bench.workspace / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o750)
    await bench.call(read, path="run.sh")
    await bench.call(write, path="run.sh", content="#!/bin/sh\necho\n")
    assert script.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize(
    "path", [".git/hooks/pre-commit", ".git/config", ".bashrc", ".vscode/tasks.json", "sub/.envrc", ".ml-intern/x"]
)
async def test_a_protected_path_is_refused_with_its_reason_even_where_it_does_not_exist(bench, write, path):
    with pytest.raises(PathRefused, match=r"is protected: .*tell the person what to change"):
        await bench.prepare(write, path=path, content="x")


@pytest.mark.parametrize("path", ["/etc/passwd", "/usr/lib/x", "/opt/x"])
async def test_a_read_only_path_is_refused(bench, write, path):
    with pytest.raises(PathRefused, match=r"read-only in this sandbox\. Write below"):
        await bench.prepare(write, path=path, content="x")


@pytest.mark.parametrize("path", ["/root/x", "/etc/shadow", "/var/x", "../../../../../../../../x"])
async def test_a_path_outside_the_roots_is_refused(bench, write, path):
    with pytest.raises(PathRefused, match="outside what this session may see"):
        await bench.prepare(write, path=path, content="x")


async def test_a_link_is_not_followed(bench, write, tmp_path):
    witness = tmp_path / "witness"
    witness.write_text("safe")
    (bench.workspace / "link").symlink_to(witness)
    (bench.workspace / "folder").symlink_to(tmp_path)
    for path in ("link", "folder/witness", "folder/new"):
        with pytest.raises(PathRefused, match="is a link to"):
            await bench.call(write, path=path, content="x")
    assert witness.read_text() == "safe"
    assert not (tmp_path / "new").exists()


async def test_a_folder_is_refused(bench, write):
    (bench.workspace / "folder").mkdir()
    with pytest.raises(ToolFailed, match="is a folder"):
        await bench.call(write, path="folder", content="x")


async def test_a_fifo_is_refused_and_does_not_block(bench, write):
    os.mkfifo(bench.workspace / "pipe")
    with pytest.raises(PathRefused, match="is a FIFO"):
        await bench.call(write, path="pipe", content="x")


async def test_a_huge_file_is_refused(bench, write):
    with (bench.workspace / "big").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ToolFailed, match=r"too many to change as a whole\. Change files over 16 MB with a command\."):
        await bench.call(write, path="big", content="x")


async def test_python_that_does_not_compile_is_written_and_warned_of(bench, write):
    result = await bench.call(write, path="a.py", content="def f(:\n    pass\n")
    assert result.outcome == "ok"
    assert result.text.endswith("\nWarning: this is not valid Python: invalid syntax (line 1).")


@pytest.mark.parametrize(
    "content", ["x = 1\n", "print('\\d')\n", "# /// script\n# ///\nimport nothing_here\n", "raise SystemExit(1)\n"]
)
async def test_python_that_compiles_is_not_warned_of_and_never_run(bench, write, content):
    assert "Warning" not in (await bench.call(write, path="a.py", content=content)).text


@pytest.mark.parametrize(
    "content", ["-" * 100_000 + "1", "1" + "+1" * 100_000, "[" * 100_000, "a\0b", "a" + "[0]" * 100_000, "x" * 999_999]
)
async def test_python_made_to_break_the_compiler_breaks_nothing(bench, write, content):
    result = await bench.call(write, path="a.py", content=content)
    assert result.text.startswith("Created ")


@pytest.mark.watch_loop
async def test_a_large_file_is_replaced_without_holding_the_loop(bench, read, write):
    (bench.workspace / "a.txt").write_text("".join(f"{n}\n" for n in range(200_000)))
    await bench.call(read, path="a.txt", limit=1)
    result = await bench.call(write, path="a.txt", content="".join(f"{n + 1}\n" for n in range(200_000)))
    assert isinstance(result.display, DiffDisplay)
    assert result.display.diff == "[200,000 lines out, 200,000 lines in]"


async def test_after_a_crash_a_finished_write_is_found(bench, write):
    prepared = await bench.prepare(write, path="a.txt", content="one")
    await write.run(prepared, bench.context())
    result = await bench.recover(write, prepared, path="a.txt", content="one")
    assert result is not None
    assert (result.outcome, result.facts) == ("ok", prepared.writes)
    assert result.text == f"{bench.path('a.txt')} was written as asked; the process was interrupted just after."


async def test_after_a_crash_a_write_that_did_not_begin_is_not_found(bench, write):
    prepared = await bench.prepare(write, path="a.txt", content="one")
    assert await bench.recover(write, prepared, path="a.txt", content="one") is None


async def test_after_a_crash_the_half_written_file_is_removed(bench, write):
    prepared = await bench.prepare(write, path="a.txt", content="one")
    folder = bench.roots.workspace
    cut = subprocess.run([sys.executable, "-c", CUT_OFF, folder], check=False)
    assert cut.returncode == -signal.SIGKILL
    (left,) = bench.workspace.glob(".ml-intern-write-*")
    other = bench.workspace / ".ml-intern-write-of-another"
    other.touch()
    assert await bench.recover(write, prepared, path="a.txt", content="one") is None
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize(
    ("now", "state"),
    [("other", "holds neither what it held before nor what was to be written"), (None, "does not exist")],
)
async def test_after_a_crash_a_file_that_something_else_changed_is_lost(bench, read, write, now, state):
    path = bench.workspace / "a.txt"
    path.write_text("before")
    await bench.call(read, path="a.txt")
    prepared = await bench.prepare(write, path="a.txt", content="after")
    path.unlink() if now is None else path.write_text(now)
    result = await bench.recover(write, prepared, path="a.txt", content="after")
    assert result is not None
    assert result.outcome == "lost"
    assert f"now {bench.path('a.txt')} {state}" in result.text
    bench.keep(result.facts)
    assert bench.view.files.read_as(bench.path("a.txt"), "main") is None


async def test_a_write_that_is_cancelled_has_ended_when_it_says_so(bench, write):
    prepared = await bench.prepare(write, path="a.txt", content="x" * 1_000_000)
    task = asyncio.create_task(write.run(prepared, bench.context()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left = {path.name for path in bench.workspace.iterdir()}
    await asyncio.sleep(0.05)
    assert {path.name for path in bench.workspace.iterdir()} == left
    assert left - {".ml-intern"} in (set(), {"a.txt"})
