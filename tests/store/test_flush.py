import re
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest

from tests.store.conftest import ACTOR

_LINE = re.compile(r"^\d+\s+(?P<at>\d+\.\d+) (?P<what>.*)$")


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace (apt-get install strace)")
    folder = tmp_path_factory.mktemp("traced")
    command = [strace, "-f", "-y", "-ttt", "-e", "trace=fsync,fdatasync,write", "-o", str(folder / "trace")]
    command += [sys.executable, str(ACTOR), "flushes", str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    if "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("needs the right to trace processes")
    assert done.returncode == 0, done.stderr
    return happenings((folder / "trace").read_text())


def happenings(trace: str) -> list[tuple[float, str]]:
    """(seconds, what): what the actor said, and the end of every flush of the database's log."""
    found: list[tuple[float, str]] = []
    unfinished: dict[str, bool] = {}
    for text in trace.splitlines():
        match = _LINE.match(text)
        if match is None:
            continue
        thread, at, what = text.split()[0], float(match["at"]), match["what"]
        if what.startswith("write(1"):
            found.append((at, what.split('"')[1].removesuffix("\\n")))
        elif what.startswith(("fsync(", "fdatasync(")):
            is_log = "sessions.db-wal>" in what
            if "unfinished" in what:
                unfinished[thread] = is_log
            elif is_log and what.endswith("= 0"):
                found.append((at, "flush"))
        elif "sync resumed" in what and unfinished.pop(thread, False) and what.endswith("= 0"):
            found.append((at, "flush"))
    return found


def between(found: list[tuple[float, str]], first: str, last: str) -> list[str]:
    words = [what for _, what in found]
    return words[words.index(first) + 1 : words.index(last)]


def test_a_flushed_append_is_on_disk_before_it_returns(traced):
    assert "flush" in between(traced, "begin 1", "end 1")
    assert "flush" in between(traced, "begin 3", "end 3")


def test_an_unflushed_append_does_not_wait_for_the_disk(traced):
    assert between(traced, "begin 2", "end 2") == []


def test_an_unflushed_append_is_on_disk_within_a_second(traced):
    ended = next(at for at, what in traced if what == "end 2")
    flushed = next(at for at, what in traced if what == "flush" and at > ended)
    print(f"flushed {flushed - ended:.3f} s after the append")
    assert flushed - ended < 1


def test_a_stream_of_unflushed_appends_is_flushed_all_the_while(traced):
    began = next(at for at, what in traced if what == "end 3") + 1.2
    ended = next(at for at, what in traced if what == "stream ended")
    flushes = [at for at, what in traced if what == "flush" and began <= at <= ended]
    moments = [began, *flushes, ended]
    assert ended - began > 1.5
    assert max(after - before for before, after in pairwise(moments)) < 1


def test_nothing_is_flushed_without_need(traced):
    begun = next(at for at, what in traced if what == "end 1")
    ended = next(at for at, what in traced if what == "begin 2")
    assert [at for at, what in traced if what == "flush" and begun < at < ended] == []


def test_closing_flushes(traced):
    words = [what for _, what in traced]
    assert "flush" in words[words.index("stream ended") :]
