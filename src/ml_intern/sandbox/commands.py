"""A session's commands: start or find them by key, follow their output, stop them. They outlive this process.

Knows no tool and no model; the walls come from the roots it is given.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.errors import SandboxError, SupervisorLost
from ml_intern.sandbox import bubblewrap, devices, groups, launch, lock, outcome
from ml_intern.sandbox.broker.doors import PLACEHOLDER
from ml_intern.sandbox.broker.reach import Reach, to_text
from ml_intern.sandbox.clients import Message
from ml_intern.sandbox.connection import Link, connect, connect_or_start
from ml_intern.sandbox.devices import Devices
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.limits import Limits
from ml_intern.sandbox.outcome import Outcome, Reason
from ml_intern.sandbox.paths import Roots
from ml_intern.sandbox.profiles import Profile
from ml_intern.sandbox.walls import rules as walls_rules

OnOutput = Callable[[bytes], None]

_CHUNK = 1024 * 1024
_TRIES = 20
_AGAIN_S = 0.02
_CLOSE_MARGIN_S = 10.0


class Spec(Struct, frozen=True):
    """A command. `key` (letters, digits, `-_.`, at most 100) makes it start at most once per session.

    `cwd` is a path as commands see it, `env` their whole environment. `pushes` is what it may write to the Hub, as
    lines of `broker/pushes.py`.
    """

    key: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    deadline_s: float
    roots: Roots
    profile: Profile = Profile.WORK
    pushes: tuple[str, ...] = ()


MakeSpec = Callable[[], Spec]
"""Makes it in a thread, just before it is started: what it looks at there may block."""


class Ended(Struct, frozen=True):
    """How a command ended. `output_path` holds what it wrote, stdout and stderr in order, up to the limit.

    `exit_code` is a shell's: 128 + n for signal n; None where it is not known or the command never began.
    """

    reason: Reason
    exit_code: int | None
    output_path: Path
    output_bytes: int
    dropped_bytes: int
    duration_s: float
    note: str = ""


class Running(Struct, frozen=True):
    """A command that has not ended."""

    key: str
    output_path: Path


class Commands:
    """The commands of one session folder. Any number of processes may hold one; a single supervisor does the work."""

    def __init__(
        self, folder: Path, level: Level, *, bwrap: str = "", limits: Limits | None = None, reach: Reach | None = None
    ) -> None:
        """`bwrap` is the binary that the probe found; without it the first on this machine is taken.

        `reach` is what the broker lets through at the full level; without it, nothing.
        """
        self._folder = folder.absolute()
        self._level = level
        self._bwrap = bwrap
        self._limits = limits or Limits()
        self.reach = reach
        self._told = 0
        self._devices: Devices | None = None

    @property
    def folder(self) -> Path:
        """The session's own."""
        return self._folder

    @property
    def level(self) -> Level:
        """The level they run at."""
        return self._level

    async def run(self, spec: Spec | MakeSpec, on_output: OnOutput) -> Ended:
        """Start the command, or find it if its key was ever started, and wait for its end.

        Being cancelled does not stop it. Raises SandboxError.
        """
        key, state, request = await asyncio.to_thread(self._ready, spec)
        return await self._until_ended(key, state, request, on_output)

    async def start(self, spec: Spec | MakeSpec) -> Ended | Running:
        """Start the command, or find it if its key was ever started; returns once the supervisor owns it.

        Raises SandboxError.
        """
        key, state, request = await asyncio.to_thread(self._ready, spec)
        for _ in range(_TRIES):
            match state or await self._begin(request):
                case Outcome() as found:
                    return self._ended(key, found)
                case Running() as running:
                    return running
                case None:
                    await asyncio.sleep(_AGAIN_S)
            state = await asyncio.to_thread(self._state, key)
        raise SupervisorLost(f"The supervisor of command {key} does not answer.", "Try again.")

    async def attach(self, key: str, on_output: OnOutput) -> Ended:
        """Follow a command from its first byte to its end. Raises SandboxError if the key is unknown."""
        return await self._until_ended(key, await asyncio.to_thread(self._state, key), None, on_output)

    async def find(self, key: str) -> Ended | Running | None:
        """How the command stands, without waiting; None if it was never started."""
        match await asyncio.to_thread(self._state, key):
            case Outcome() as found:
                return self._ended(key, found)
            case state:
                return state

    async def running(self) -> tuple[str, ...]:
        """Keys of the commands that run now."""
        link = connect(self._folder)
        if link is None:
            return ()
        async with link:
            await link.ask({"op": "hello"})
            answer = await link.answer()
        return tuple(str(key) for key in cast("list[object]", answer["running"])) if answer else ()

    async def stop(self, key: str) -> None:
        """End the command with its whole tree: SIGTERM now, SIGKILL after the grace. Returns without waiting."""
        if link := connect(self._folder):
            async with link:
                await link.ask({"op": "stop", "key": key})
                await link.answer()

    async def close(self) -> None:
        """End every command and the supervisor; returns when they are gone. More than once is allowed."""
        if not await asyncio.to_thread(self._folder.is_dir):
            return
        if link := connect(self._folder):
            async with link:
                await self._close(link)
        await asyncio.to_thread(groups.sweep, str(self._folder))

    async def _close(self, link: Link) -> None:
        try:
            async with asyncio.timeout(self._limits.grace_s + _CLOSE_MARGIN_S):
                await link.ask({"op": "close"})
                while await link.answer():
                    continue
                await self._until_free()
        except TimeoutError:
            # Deaf or stopped. Its commands die with it.
            if await asyncio.to_thread(lock.holder, str(self._folder)) == link.peer:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(link.peer, signal.SIGKILL)
                await self._until_free()

    def _place(self, key: str) -> Path:
        if not launch.is_key(key):
            raise SandboxError(f"{key!r} cannot name a command.")
        return self._folder / "commands" / key

    def _ready(self, wanted: Spec | MakeSpec) -> tuple[str, Outcome | Running | None, Message]:
        """All that is looked at before a start, in one hop to a thread: each is a wait where much goes on."""
        spec = wanted if isinstance(wanted, Spec) else wanted()
        return spec.key, self._state(spec.key), self._request(spec)

    def _request(self, spec: Spec) -> Message:
        cwd, walls, rules, profile = spec.cwd, list[str](), None, self._profile(spec)
        token = ""
        if spec.pushes:
            # By this the broker tells it from the session's other commands.
            token = f"{PLACEHOLDER}.{spec.key}.{secrets.token_hex(16)}"
            spec = replace(spec, env={**spec.env, "HF_TOKEN": token})
        if self._level is Level.FULL:
            self._bwrap = self._bwrap or next(iter(bubblewrap.binaries()), "")
            if not self._bwrap:
                raise SandboxError("There is no bubblewrap on this machine.", "Install bubblewrap.")
            walls = [self._bwrap, *bubblewrap.options(spec.roots, spec.cwd, spec.env, profile, self._devices)]
        else:
            cwd = bubblewrap.outside(spec.roots, spec.cwd)
            made = walls_rules(spec.roots, profile, self._devices) if self._level is Level.WALLS else None
            rules = made._asdict() if made else None
        what: Message = {"op": "start", "key": spec.key, "argv": spec.argv, "env": dict(spec.env), "cwd": cwd}
        what |= {"pushes": spec.pushes, "token": token}
        return what | {"deadline_s": spec.deadline_s, "walls": walls, "rules": rules}

    def _profile(self, spec: Spec) -> Profile:
        """What works may train, where there is something to train on."""
        if self._devices is None:
            self._devices = devices.find()
        return Profile.TRAIN if spec.profile is Profile.WORK and self._devices.accelerators else spec.profile

    async def _until_ended(
        self, key: str, state: Outcome | Running | None, request: Message | None, on_output: OnOutput
    ) -> Ended:
        tail = _Tail(self._place(key) / outcome.OUTPUT, on_output)
        for _ in range(_TRIES):
            if state is None and request is None:
                raise SandboxError(f"No command {key} was ever started in this session.")
            found = state if isinstance(state, Outcome) else await self._ask(key, request, tail)
            if found:
                if tail.offset < found.output_bytes:
                    await tail.read()
                return self._ended(key, found)
            await asyncio.sleep(_AGAIN_S)
            state = await asyncio.to_thread(self._state, key)
        raise SupervisorLost(f"The supervisor of command {key} cannot be followed.", "Try again.")

    async def _ask(self, key: str, request: Message | None, tail: "_Tail") -> Outcome | None:
        """Follow over one connection; None if it ends before the command does."""
        if request:
            link = await connect_or_start(self._folder, self._level.name.lower(), self._limits)
        elif (link := connect(self._folder)) is None:
            return None
        async with link:
            await self._tell_reach(link)
            await link.ask(request or {"op": "follow", "key": key})
            return await _listen(link, tail)

    async def _begin(self, request: Message) -> Outcome | Running | None:
        """Who owns the command answers; None where it hung up before."""
        key = str(request["key"])
        async with await connect_or_start(self._folder, self._level.name.lower(), self._limits) as link:
            await self._tell_reach(link)
            await link.ask(request)
            while message := await link.answer():
                match message.get("event"):
                    case "network":
                        continue
                    case "started" | "following":
                        return Running(key, self._place(key) / outcome.OUTPUT)
                    case _:
                        return _end_in(message)
        return None

    async def _tell_reach(self, link: Link) -> None:
        if self.reach and self._level is Level.FULL and self._told != link.peer:
            await link.ask({"op": "network", "reach": to_text(self.reach)})
            self._told = link.peer

    def _state(self, key: str) -> Outcome | Running | None:
        place = self._place(key)
        if not place.is_dir():
            return None
        # Asked in this order: an end that is written between the two looks is seen by the second.
        owner = lock.holder(str(self._folder))
        try:
            found = outcome.load_outcome(str(place))
        except (OSError, ValueError) as error:
            raise SandboxError(f"How command {key} ended cannot be read: {error}.", f"See {place}.") from error
        if found:
            return found
        if owner is not None:
            return Running(key, place / outcome.OUTPUT)
        if not (place / outcome.SPEC).exists():
            return None
        output = place / outcome.OUTPUT
        size = output.stat().st_size if output.exists() else 0
        return Outcome("lost", output_bytes=size, note="the process that owned it is gone")

    def _ended(self, key: str, found: Outcome) -> Ended:
        path = self._place(key) / outcome.OUTPUT
        size, dropped = found.output_bytes, found.dropped_bytes
        return Ended(found.reason, found.exit_code, path, size, dropped, found.duration_s, found.note)

    async def _until_free(self) -> None:
        # The kernel tells nobody when a lock becomes free.
        while True:
            if await asyncio.to_thread(lock.holder, str(self._folder)) is None:
                return
            await asyncio.sleep(_AGAIN_S)


class _Tail:
    """Hands on what was added to a file since the last time."""

    def __init__(self, path: Path, on_output: OnOutput) -> None:
        self._path = path
        self._on_output = on_output
        self.offset = 0

    async def read(self) -> None:
        """All there is now; what is added meanwhile is told of, too, or it would be followed crumb by crumb."""
        while chunk := await asyncio.to_thread(self._next):
            self.offset += len(chunk)
            self._on_output(chunk)
            if len(chunk) < _CHUNK:
                return

    def _next(self) -> bytes:
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self.offset)
                return file.read(_CHUNK)
        except FileNotFoundError:
            return b""


async def _listen(link: Link, tail: _Tail) -> Outcome | None:
    while message := await link.answer():
        if found := _end_in(message):
            return found
        match message.get("event"):
            case "unknown":
                return None
            case "started" | "network":
                continue
            case _:
                await tail.read()
    return None


def _end_in(message: Message) -> Outcome | None:
    """How the command ended, if that is what is said. Raises SandboxError where it was refused."""
    match message.get("event"):
        case "ended":
            return outcome.to_outcome(message.get("result"))
        case "refused":
            raise SandboxError(f"The command was refused: {message.get('why')}.")
        case _:
            return None
