"""The real command line as a process, with a home, a data folder and a workspace of its own, and what it left."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_intern.record.codec import decode
from ml_intern.record.events import Entry, ModelAsked, ModelFailed, ModelReplied, ModelStopped, ToolFinished
from ml_intern.record.log import replay
from ml_intern.record.view import View
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level
from ml_intern.store.sessions import resolve
from ml_intern.store.sqlite import SqliteStore
from tests.doubles.http1 import Answer, Request
from tests.doubles.openai_server import Double

BIN = Path(sys.executable).with_name("ml-intern")
MODEL = ("--model", "openai-compatible/m")
# PYTHONPATH: the tree that is tested, where it is a copy with a planted fault.
_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "UV_CACHE_DIR", "SSL_CERT_FILE", "TMPDIR")


class Hearing(Double):
    """The model's server, which also keeps what it was sent."""

    def __init__(self, script: Sequence[Mapping[str, Any]], **more: Any) -> None:
        super().__init__(script, **more)
        self.bodies: list[bytes] = []

    async def __aenter__(self) -> "Hearing":
        await self.start()
        return self

    def answer(self, request: Request) -> Answer:
        self.bodies.append(request.body)
        return super().answer(request)


@dataclass(frozen=True)
class Done:
    """How a process ended and what it said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.out[-3000:]}\n--- stderr\n{self.err[-6000:]}"


@dataclass
class Running:
    """A process of the command line that has not ended."""

    process: asyncio.subprocess.Process
    begun: float = field(default_factory=time.monotonic)
    err: bytearray = field(default_factory=bytearray)

    @property
    def pid(self) -> int:
        return self.process.pid

    def interrupt(self) -> float:
        """Ctrl+C; the moment it was pressed. One that has just ended takes no harm."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)
        return time.monotonic()

    async def until_said(self, words: str, within_s: float = 20) -> None:
        """Wait until stderr holds `words`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(within_s):
            while words.encode() not in self.err:
                piece = await self.process.stderr.read(65536)
                assert piece, f"ended without saying {words!r}: {self.err.decode()}"
                self.err += piece

    async def ended(self, within_s: float = 50) -> Done:
        """Wait for its end. One that does not end is killed and the test fails."""
        try:
            async with asyncio.timeout(within_s):
                out, err = await self.process.communicate()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise
        seconds = time.monotonic() - self.begun
        err = bytes(self.err) + err
        return Done(self.process.returncode or 0, out.decode(), err.decode(), seconds)


@dataclass
class Walk:
    """One person's machine: `home` with its XDG folders, `data`, `workspace`, and the environment of the shell."""

    place: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in (self.home, self.workspace):
            folder.mkdir(parents=True, exist_ok=True)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own = {"HOME": str(self.home), "ML_INTERN_DATA": str(self.data)}
        own["UV_CACHE_DIR"] = kept.get("UV_CACHE_DIR", str(self.place / "uv-cache"))
        self.environ = {**kept, **own, **self.environ}

    @property
    def home(self) -> Path:
        return self.place / "person"

    @property
    def data(self) -> Path:
        return self.place / "data"

    @property
    def workspace(self) -> Path:
        return self.place / "work"

    async def start(
        self, *words: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None, **more: Any
    ) -> Running:
        """Start `ml-intern` with these words in the workspace. An empty value in `env` takes a variable away."""
        environ = {name: value for name, value in {**self.environ, **(env or {})}.items() if value}
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *more.pop("before", ()),
            str(BIN),
            *words,
            cwd=more.pop("cwd", self.workspace),
            env=environ,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            **more,
        )
        if stdin is not None and process.stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        return Running(process, begun)

    async def run(self, *words: str, **more: Any) -> Done:
        """Run `ml-intern` with these words to its end."""
        return await (await self.start(*words, **more)).ended()

    async def say(self, double: Double, *words: str, **more: Any) -> Done:
        """Run a prompt against the model's server."""
        return await self.run(*words, *MODEL, "--base-url", double.url, **more)

    async def entries(self, session: str = "last") -> list[Entry]:
        """The record, as it is on disk."""
        store = await SqliteStore.open(self.data)
        try:
            return [decode(line) for line in await store.lines(await resolve(store, session))]
        finally:
            await store.close()

    async def view(self, session: str = "last") -> View:
        return replay(await self.entries(session))

    async def answers(self, session: str = "last") -> list[ToolFinished]:
        """What the model was answered, in the order of its calls: those that look run side by side."""
        found = [entry.event for entry in await self.entries(session)]
        answered = {event.call: event for event in found if isinstance(event, ToolFinished)}
        asked = [call.id for event in found if isinstance(event, ModelReplied) for call in event.reply.calls]
        return [answered[call] for call in asked if call in answered]

    async def close(self) -> None:
        """End what supervisors are left."""
        for folder in self.data.glob("sessions/*"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await Commands(folder, Level.FULL).close()


def step(number: int, *calls: tuple[str, Mapping[str, Any]], **reply: Any) -> dict[str, Any]:
    """A rule of the script: what the model says at its `number`th reply, counted from 0."""
    made = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return {"when": {"step": number}, "reply": {**reply, **({"calls": made} if made else {})}}


def bash(command: str, **more: Any) -> tuple[str, Mapping[str, Any]]:
    return "bash", {"command": command, **more}


def story(*steps: Sequence[tuple[str, Mapping[str, Any]]], end: str = "All done.") -> list[dict[str, Any]]:
    """A script: the calls of one reply after the other, then an answer."""
    return [*(step(number, *calls) for number, calls in enumerate(steps)), step(len(steps), text=end)]


def open_ends(entries: Sequence[Entry]) -> list[str]:
    """What a record leaves open: attempts and calls without an end."""
    attempts: set[str] = set()
    calls: set[str] = set()
    for entry in entries:
        match entry.event:
            case ModelAsked(attempt=attempt):
                attempts.add(attempt)
            case ModelReplied(attempt=attempt, reply=reply):
                attempts.remove(attempt)
                calls |= {call.id for call in reply.calls}
            case ModelFailed(attempt=attempt) | ModelStopped(attempt=attempt):
                attempts.remove(attempt)
            case ToolFinished(call=call):
                calls.remove(call)
            case _:
                pass
    return sorted(attempts | calls)


async def until(true: Callable[[], bool], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.01)


def everything_in(folder: Path) -> bytes:
    """Every byte of every file below a folder, names included."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in found)
