"""Runs one program against the model double and takes its times and its memory from outside. Knows no target.

Times are of the monotonic clock, one for all processes of a machine; memory is what the kernel says at the end.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[[str, str], list[str]]
_START_S = 10.0
_EVENTS = ("arrived", "ended")


@dataclass(frozen=True, slots=True)
class Ended:
    """One process from outside. `peak_kb` is the largest of the program and what it has waited for."""

    began_ns: int
    ended_ns: int
    peak_kb: int


@dataclass(frozen=True, slots=True)
class Played:
    """One whole run: the process, when each of its requests arrived at the double, when each answer was out."""

    process: Ended
    arrivals_ns: tuple[int, ...]
    answered_ns: tuple[int, ...]

    @property
    def first_ms(self) -> float:
        """From the start of the process to its first request."""
        return (self.arrivals_ns[0] - self.process.began_ns) / 1e6

    @property
    def rest_ms(self) -> float:
        """From the first request to the end of the process."""
        return (self.process.ended_ns - self.arrivals_ns[0]) / 1e6

    def steps_ms(self, around: int) -> list[float]:
        """The times from one request to the next, ten steps to either side of one step, as far as there are."""
        return [(later - earlier) / 1e6 for earlier, later in pairwise(self.arrivals_ns[_near(around)])]

    def between_ms(self) -> list[float]:
        """From each answer to the request after it: the program's own time, whatever it sends."""
        return [
            (later - answered) / 1e6 for answered, later in zip(self.answered_ns, self.arrivals_ns[1:], strict=False)
        ]

    def served_ms(self, around: int) -> list[float]:
        """What the double itself took of those steps."""
        near = _near(around)
        spans = zip(self.arrivals_ns[near], self.answered_ns[near], strict=True)
        return [(answered - arrived) / 1e6 for arrived, answered in spans]


def _near(step: int) -> slice:
    return slice(max(step - 10, 1), step + 11)


def run(command: Sequence[str], env: dict[str, str], cwd: Path) -> Ended:
    """Start a program, read its output as it comes, wait for its end.

    Raises:
        SystemExit: it did not end with 0; what it wrote is shown.
    """
    with tempfile.TemporaryFile() as errors:
        began_ns = time.monotonic_ns()
        process = subprocess.Popen(command, env=env, cwd=cwd, stdin=-3, stdout=-1, stderr=errors)
        assert process.stdout is not None
        tail = bytearray()
        reader = threading.Thread(target=_drain, args=(process.stdout, tail))
        reader.start()
        _, status, used = os.wait4(process.pid, 0)
        ended_ns = time.monotonic_ns()
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
        process.stdout.close()
        if process.returncode:
            errors.seek(0)
            said = f"{bytes(tail[-2000:]).decode(errors='replace')}\n{errors.read()[-2000:].decode(errors='replace')}"
            raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{said}")
    return Ended(began_ns, ended_ns, used.ru_maxrss)


def _drain(stream: IO[bytes], tail: bytearray) -> None:
    number = stream.fileno()
    while data := os.read(number, 65_536):
        tail[:] = (tail + data)[-4000:]


class Server:
    """The double as a process of its own, playing one script."""

    def __init__(self, script: Path, folder: Path, prices: str) -> None:
        own = Path(tempfile.mkdtemp(dir=folder, prefix=f"{script.stem}-"))
        self._ledger = own / "ledger.jsonl"
        self._ledger.touch()
        announced = own / "announced.json"
        program = [sys.executable, str(ROOT / "tests" / "doubles" / "openai_server.py")]
        files = ["--script", str(script), "--ledger", str(self._ledger), "--announce", str(announced)]
        self._process = subprocess.Popen([*program, *files, "--prices", prices], stdout=subprocess.DEVNULL)
        self.url = self._wait_for(announced)["url"]

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def play(self, command: Command, prompt: str, env: dict[str, str], cwd: Path) -> Played:
        """Run a program against the double; every request of the run must have been answered in full."""
        seen = self._ledger.stat().st_size
        process = run(command(self.url, prompt), env, cwd)
        with self._ledger.open("rb") as file:
            file.seek(seen)
            lines = [json.loads(line) for line in file]
        if any(line.get("how", "completed") != "completed" for line in lines):
            raise SystemExit(f"a request was not completed: {[line for line in lines if 'how' in line][-3:]}")
        times = {event: tuple(line["at_ns"] for line in lines if line["event"] == event) for event in _EVENTS}
        return Played(process, *times.values())

    def _wait_for(self, announced: Path) -> dict[str, Any]:
        until = time.monotonic() + _START_S
        while not announced.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the model double does not start")
            time.sleep(0.01)
        return json.loads(announced.read_text())
