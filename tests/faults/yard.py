"""Where one fault is tried: data, workspace, home and caches of its own, the model double, the real command line."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_intern.record.codec import decode
from ml_intern.record.events import Entry, ModelReplied, UserSaid
from ml_intern.sandbox import lock
from tests.doubles import ledger
from tests.faults.launcher import VARIABLE

HERE = Path(__file__).parent
DOUBLE = HERE.parent / "doubles" / "openai_server.py"
PROMPT = "Do the walk."
MODEL = "openai-compatible/double"
PRICES = "1/5"
CAP = "50"
KILLED = -signal.SIGKILL
LIMIT_S = 60.0

Rules = Sequence[Mapping[str, Any]]
Death = Mapping[str, Any]


def eventually(holds: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
    """What `holds` returns as soon as that is true."""
    give_up = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < give_up, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.01)
    return found


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str


class Run:
    """The command line as a process, leader of a group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def err(self) -> str:
        return self._err.read_text()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        try:
            code = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"still running after {limit_s:.0f} s; it said:\n{self.err}") from None
        return Ended(code, self._out.read_text(), self._err.read_text())


class Yard:
    """One session's world. Close it at the end: supervisors outlive the command line, that is the point of them."""

    def __init__(self, folder: Path, rules: Rules, *, prices: str = PRICES, **double: str) -> None:
        self.folder = folder
        self.data, self.work = folder / "data", folder / "work"
        self.home, self.cache = folder / "home", folder / "cache"
        for each in (self.data, self.work, self.home, self.cache, folder / "runs"):
            each.mkdir(parents=True)
        self.witness = self.work / "witness"
        self.ledger = folder / "ledger.jsonl"
        self.prices = prices
        self._runs: list[Run] = []
        self._double = self._start_double(rules, double)
        self.url: str = json.loads((folder / "double.json").read_text())["url"]

    def _start_double(self, rules: Rules, more: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        script, announce = self.folder / "script.json", self.folder / "double.json"
        script.write_text(json.dumps(list(rules)))
        command = [sys.executable, DOUBLE, "--script", script, "--ledger", self.ledger, "--prices", self.prices]
        command += ["--announce", announce, *(word for pair in more.items() for word in (f"--{pair[0]}", pair[1]))]
        with (self.folder / "double.log").open("wb") as log:
            double = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        eventually(announce.exists, f"the double listens: {(self.folder / 'double.log').read_text()}")
        return double

    def environment(self) -> dict[str, str]:
        """The whole environment of the command line: nothing of the machine's own configuration counts."""
        empty = self.folder / "uv.toml"
        empty.touch()
        passed = {name: os.environ[name] for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE") if name in os.environ}
        return passed | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ML_INTERN_DATA": str(self.data),
            "XDG_CACHE_HOME": str(self.cache),
            "UV_CONFIG_FILE": str(empty),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.folder / "links"),
        }

    def start(self, *words: str, death: Death | None = None, through: Sequence[str] = ()) -> Run:
        """Start `ml-intern WORDS`, which dies as `death` says; `through` is a program that runs it (strace)."""
        number = len(self._runs)
        out, err = self.folder / "runs" / f"{number}.out", self.folder / "runs" / f"{number}.err"
        program = [str(Path(sys.executable).with_name("ml-intern"))]
        environment = self.environment()
        if death is not None:
            program = [sys.executable, str(HERE / "launcher.py")]
            environment[VARIABLE] = json.dumps(dict(death))
            root = str(HERE.parents[1])
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), root]))
        with out.open("wb") as to_out, err.open("wb") as to_err:
            process = subprocess.Popen(
                [*through, *program, *words],
                cwd=self.work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_err,
                start_new_session=True,
            )
        run = Run(process, out, err)
        self._runs.append(run)
        return run

    def first(self, *more: str, death: Death | None = None, through: Sequence[str] = (), cap: str = CAP) -> Run:
        """Say the prompt in a new session."""
        flags = ["--model", MODEL, "--base-url", self.url, "--price", self.prices, "--budget", cap]
        return self.start(PROMPT, *flags, *more, death=death, through=through)

    def go_on(self, *more: str, death: Death | None = None) -> Run:
        """What a person would do after a crash: resume, or begin anew where nothing was stored yet."""
        session = self.session()
        if not session:
            return self.first(*more, death=death)
        if any(isinstance(entry.event, UserSaid) for entry in self.entries()):
            return self.start("resume", session, *more, death=death)
        flags = ["--model", MODEL, "--base-url", self.url, "--price", self.prices, "--budget", CAP]
        return self.start("resume", session, PROMPT, *flags, *more, death=death)

    def session(self) -> str:
        """The id of the session that has entries, "" while none has."""
        rows = self._query("SELECT DISTINCT session FROM events")
        assert len(rows) < 2, "one yard, one session"
        return rows[0][0] if rows else ""

    def session_folder(self) -> Path:
        return self.data / "sessions" / self.session()

    def entries(self) -> list[Entry]:
        """The record as it is stored now."""
        rows = self._query("SELECT CAST(body AS BLOB) FROM events ORDER BY seq")
        return [decode(body) for (body,) in rows]

    def _query(self, sql: str) -> list[Any]:
        database = self.data / "sessions.db"
        if not database.exists():
            return []
        with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                # Killed before the schema was made.
                if "no such table" in str(error):
                    return []
                raise

    def asked(self) -> list[ledger.Exchange]:
        """Every request that the double got."""
        return ledger.exchanges(self.ledger)

    def owed(self) -> int:
        """What the double bills, in micro-dollars."""
        return ledger.total(self.ledger)

    def witnessed(self) -> list[str]:
        """The names of the effects that commands left in the workspace, in their order."""
        return [line.split()[0] for line in self.witness.read_text().splitlines()] if self.witness.exists() else []

    def replies(self) -> int:
        return sum(isinstance(entry.event, ModelReplied) for entry in self.entries())

    def supervisor(self) -> int | None:
        """The process id of the session's supervisor, if it has one."""
        return lock.holder(str(self.session_folder()))

    def close(self) -> None:
        """End all that was started here, by its process id."""
        for run in self._runs:
            if run.process.poll() is None:
                run.send(signal.SIGKILL)
                run.process.wait()
        for folder in (self.data / "sessions").glob("*"):
            end_supervisor(folder)
        self._double.terminate()
        self._double.wait(10)


def end_supervisor(folder: Path, limit_s: float = 15.0) -> None:
    """End the supervisor of a session's folder, and with it the session's commands."""
    pid = lock.holder(str(folder))
    give_up = time.monotonic() + limit_s
    while pid is not None:
        number = signal.SIGTERM if time.monotonic() < give_up else signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        time.sleep(0.02)
        pid = lock.holder(str(folder))


@contextlib.contextmanager
def yard(folder: Path, rules: Rules, **options: str) -> Iterator[Yard]:
    """A yard that is closed at the end."""
    made = Yard(folder, rules, **options)
    try:
        yield made
    finally:
        made.close()
