"""What must be on disk before something outside follows from it: seen from outside, by strace."""

import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest

from ml_intern.record.events import CapSet, Entry, ModelAsked, ToolStarted
from tests.faults.walk import call
from tests.faults.yard import yard

pytestmark = pytest.mark.timeout(120)

_CALL = re.compile(r"^(?P<pid>\d+) (?P<what>.*)$")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_RULES = [
    {"when": {"step": 0}, "reply": {"calls": [call("bash", command="echo CALL-0 1 >> witness")]}},
    {"when": {"step": 1}, "reply": {"calls": [call("bash", command="echo CALL-1 1 >> witness")]}},
    {"when": {"step": 2}, "reply": {"text": "Done."}},
]


@dataclass(frozen=True, slots=True)
class Seen:
    """A system call: where in the trace it began, and where it had ended."""

    begun: int
    ended: int
    text: str


@dataclass(frozen=True, slots=True)
class Traced:
    """A session that ran under strace: its system calls and its record."""

    calls: list[Seen]
    entries: list[Entry]


def calls_in(trace: str) -> list[Seen]:
    """Every system call, those that were interrupted by others put together again."""
    found: list[Seen] = []
    unfinished: dict[str, tuple[int, str]] = {}
    for at, line in enumerate(trace.splitlines()):
        match = _CALL.match(line)
        if match is None:
            continue
        pid, what = match["pid"], match["what"].strip()
        if what.endswith("<unfinished ...>"):
            unfinished[pid] = (at, what.removesuffix("<unfinished ...>"))
        elif _RESUMED.match(what) and pid in unfinished:
            begun, text = unfinished.pop(pid)
            found.append(Seen(begun, at, text + _RESUMED.sub("", what)))
        else:
            found.append(Seen(at, at, what))
    # What never came back, an execve that another thread made or a process that was ended, began all the same.
    found += [Seen(begun, begun, text) for begun, text in unfinished.values()]
    return sorted(found, key=lambda seen: seen.begun)


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace (apt-get install strace)")
    folder = tmp_path_factory.mktemp("flush")
    trace = folder / "trace"
    kinds = "fsync,fdatasync,pwrite64,write,sendto,sendmsg,execve"
    through = [strace, "-f", "-y", "-s", "100000", "-e", f"trace={kinds}", "-o", str(trace)]
    may = subprocess.run([strace, "-o", str(folder / "may"), "true"], capture_output=True, text=True, check=False)
    if may.returncode:
        pytest.skip(f"needs the right to trace processes: {may.stderr.strip()}")
    with yard(folder / "yard", _RULES) as made:
        ended = made.first(through=through).wait()
        assert ended.code == 0, ended.err
        assert made.witnessed() == ["CALL-0", "CALL-1"]
        return Traced(calls_in(trace.read_text(errors="replace")), made.entries())


def stored(traced: Traced, kind: type, nth: int) -> Seen:
    """The first write of the nth entry of this kind to the write-ahead log: its page may be written again later."""
    seq = [entry.seq for entry in traced.entries if isinstance(entry.event, kind)][nth]
    return next(
        seen
        for seen in traced.calls
        if seen.text.startswith("pwrite64(") and "sessions.db-wal>" in seen.text and rf"{{\"seq\":{seq}," in seen.text
    )


def is_flushed(traced: Traced, after: Seen, before: Seen) -> bool:
    """Whether a flush of the write-ahead log began after one call and had succeeded before another began."""
    return any(
        seen.text.startswith(("fsync(", "fdatasync("))
        and "sessions.db-wal>" in seen.text
        and seen.text.endswith("= 0")
        and after.ended < seen.begun
        and seen.ended < before.begun
        for seen in traced.calls
    )


def first(traced: Traced, after: Seen, *words: str) -> Seen:
    return next(seen for seen in traced.calls if seen.begun > after.ended and all(word in seen.text for word in words))


@pytest.mark.parametrize("nth", [0, 1])
def test_the_start_of_a_call_is_on_disk_before_its_command_is_asked_for(traced, nth):
    start = stored(traced, ToolStarted, nth)
    assert is_flushed(traced, start, first(traced, start, "sendto(", r"{\"op\": \"start\""))


@pytest.mark.parametrize("nth", [0, 1])
def test_the_start_of_a_call_is_on_disk_before_its_command_is_executed(traced, nth):
    start = stored(traced, ToolStarted, nth)
    assert is_flushed(traced, start, first(traced, start, "execve(", "bwrap", "--json-status-fd"))


@pytest.mark.parametrize("nth", [0, 1, 2])
def test_an_attempt_at_the_model_is_on_disk_before_its_request_is_sent(traced, nth):
    asked = stored(traced, ModelAsked, nth)
    assert is_flushed(traced, asked, first(traced, asked, "POST /v1/chat/completions"))


def test_the_cap_is_on_disk_before_the_first_attempt(traced):
    assert is_flushed(traced, stored(traced, CapSet, 0), stored(traced, ModelAsked, 0))
