"""Tries the corpus against the walls of this machine, in a workspace of its own, with witnesses outside.

Knows no door: who asks gets a row per attempt. Nothing of the person's is touched: what is attacked was planted here.
"""

import asyncio
import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Collection, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import Struct

from ml_intern.sandbox import variables, walls
from ml_intern.sandbox.commands import Commands, Spec
from ml_intern.sandbox.corpus import ESCAPED, Attempt, attempts
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.paths import Roots, command_path, protected_again, session_roots

_PYTHON = f"{sys.base_prefix}/bin/python3"
_DEADLINE_S = 20.0
_OUTLIVES_S, _DIES_S = 1.2, 0.3
_PROTECTED = (
    ".git/config",
    ".hg/hgrc",
    ".ml-intern/settings.toml",
    ".bashrc",
    ".vscode/tasks.json",
    ".github/workflows/ci.yml",
)
_SETTINGS = "[core]\n\trepositoryformatversion = 0\n\thooksPath = githooks\n"


class Row(Struct, frozen=True):
    """One attempt at one level: `held` if the walls stood; `told` is what showed, in a line."""

    level: str
    name: str
    held: bool
    told: str


class Ground(Struct, frozen=True):
    """What was planted: `names` are filled into the attempts; the rest are witnesses outside the walls."""

    place: Path
    names: Mapping[str, str]
    bystander: subprocess.Popen[bytes]
    listeners: tuple[socket.socket, ...]

    @property
    def workspace(self) -> Path:
        """Where the attempts run."""
        return self.place / "workspace"

    def state(self) -> Mapping[str, object]:
        """Everything that no attempt may change, by name."""
        found: dict[str, object] = {"a bystander's life": self.bystander.poll()}
        found["who was reached"] = [self._was_reached(one) for one in self.listeners]
        found["shared memory"] = _bytes(Path("/dev/shm", self.names["shared"]))
        for path in (self.place / "outside", *_tree(self.place / "outside")):
            facts = path.lstat()
            found[str(path)] = (facts.st_mode, facts.st_mtime_ns, _bytes(path))
        folders = ["githooks", ".git/hooks", ".vscode", ".ml-intern", ".github/workflows"]
        found["protected"] = [(name, sorted(map(str, _tree(self.workspace / name)))) for name in folders]
        return found | {name: _bytes(self.workspace / name) for name in _PROTECTED}

    def _was_reached(self, one: socket.socket) -> bool:
        with contextlib.suppress(BlockingIOError):
            if one.type == socket.SOCK_DGRAM:
                one.recv(100)
            else:
                one.accept()[0].close()
            return True
        return False


async def attack(level: Level, bwrap: str = "", *, only: Collection[str] = ()) -> AsyncGenerator[Row]:
    """The row of each attempt (`only`: of these), at this level, which the machine must have."""
    with _ground() as ground:
        roots = await asyncio.to_thread(
            session_roots, ground.workspace, ground.place / "session", ground.place / "envs"
        )
        roots = roots if level is Level.FULL else walls.without_mounts(roots)
        async with _commands(ground, level, bwrap) as commands:
            wanted = [attempt for attempt in attempts() if not only or attempt.name in only]
            for number, attempt in enumerate(wanted):
                yield await _try(commands, f"attempt-{number}", attempt, (ground, roots, level))


@asynccontextmanager
async def _commands(ground: Ground, level: Level, bwrap: str) -> AsyncGenerator[Commands]:
    commands = Commands(ground.place / "session", level, bwrap=bwrap)
    try:
        yield commands
    finally:
        await commands.close()


async def _try(commands: Commands, key: str, attempt: Attempt, where: tuple[Ground, Roots, Level]) -> Row:
    ground, roots, level = where
    text = attempt.command
    for name, value in ground.names.items():
        text = text.replace(f"{{{name}}}", value)
    argv = (_PYTHON, "-I", "-c", text) if attempt.python else ("/bin/sh", "-c", text)
    env = variables.inside({}, roots.home, command_path())
    env |= walls.variables(ground.place / "session") if level is Level.WALLS else {}
    before = await asyncio.to_thread(ground.state)
    again = await asyncio.to_thread(protected_again, roots)
    seen: list[bytes] = []
    spec = Spec(key, argv, roots.workspace, env, _DEADLINE_S, again)
    ended = await commands.run(spec, seen.append)
    await asyncio.sleep(_settles_s(attempt))
    output = b"".join(seen).decode(errors="replace")
    after = await asyncio.to_thread(ground.state)
    changed = [name for name in before if before[name] != after.get(name)] + [
        name for name in after if name not in before
    ]
    lines = [line for line in output.splitlines() if line.strip()]
    told = ended.note or (lines[-1] if lines else f"exit code {ended.exit_code}")
    if changed:
        told = f"changed: {', '.join(changed)}"
    escaped = bool(changed) or ESCAPED in output or ground.names["token"] in output.replace(text, "")
    return Row(level.name.lower(), attempt.name, not escaped and ended.reason != "failed_to_start", told)


def _settles_s(attempt: Attempt) -> float:
    """How long after the command's end its effect may still come."""
    if "{survived}" in attempt.command:
        return _OUTLIVES_S
    return _DIES_S if "kill" in attempt.command else 0.0


@contextmanager
def _ground() -> Generator[Ground]:
    # Not below /tmp, which is another folder for commands: what is hidden there proves nothing.
    base = "/var/tmp" if os.access("/var/tmp", os.W_OK | os.X_OK) else None
    place = Path(os.path.realpath(tempfile.mkdtemp(prefix="ml-intern-attack-", dir=base)))
    token = f"canary{secrets.token_hex(12)}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        _furnish(place, token)
        shared = Path("/dev/shm", f"ml-intern-{token[6:14]}")
        with contextlib.suppress(OSError):
            shared.write_text("kept")
        stack.callback(shared.unlink, missing_ok=True)
        listeners = tuple(stack.enter_context(one) for one in _listeners(place, token))
        memory = _old_shared_memory()
        stack.callback(_forget_shared_memory, memory)
        environment = {"PATH": os.environ.get("PATH", ""), "SECRET": token}
        bystander = subprocess.Popen(["/bin/sleep", "600"], env=environment, cwd=place / "outside")
        stack.callback(bystander.wait)
        stack.callback(bystander.kill)
        yield Ground(place, _names(place, token, listeners, bystander.pid, memory), bystander, listeners)


def _names(place: Path, token: str, listeners: tuple[socket.socket, ...], pid: int, memory: int) -> Mapping[str, str]:
    tcp, udp, _, _ = listeners
    outside = place / "outside"
    paths = {"outside": outside, "secret": outside / "secret.txt", "unix": outside / "socket"}
    paths |= {"session": place / "session", "survived": place / "workspace" / "survived"}
    paths |= {"home": Path.home(), "package": Path(__file__).resolve().parents[1]}
    numbers = {"tcp": tcp.getsockname()[1], "udp": udp.getsockname()[1], "pid": pid, "shm": memory}
    named = {name: str(value) for name, value in (*paths.items(), *numbers.items())}
    return named | {"token": token} | dict.fromkeys(("abstract", "shared"), f"ml-intern-{token[6:14]}")


def _furnish(place: Path, token: str) -> None:
    for name in ("outside", "session", "envs"):
        (place / name).mkdir()
    (place / "outside" / "secret.txt").write_text(f"{token}\n")
    workspace = place / "workspace"
    for path in (*_PROTECTED, ".git/hooks/pre-commit"):
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(_SETTINGS)
    (workspace / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    for folder in ("objects", "refs"):
        (workspace / ".git" / folder).mkdir()


def _listeners(place: Path, token: str) -> Iterator[socket.socket]:
    for family, kind, address in (
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        (socket.AF_UNIX, socket.SOCK_STREAM, str(place / "outside" / "socket")),
        (socket.AF_UNIX, socket.SOCK_STREAM, f"\0ml-intern-{token[6:14]}"),
    ):
        one = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        one.bind(address)
        if kind == socket.SOCK_STREAM:
            one.listen()
        yield one


def _old_shared_memory() -> int:
    """A segment of System V; -1 where the kernel has none. Source: shmget(2)."""
    return ctypes.CDLL(None).shmget(0, 4096, 0o1600)


def _forget_shared_memory(number: int) -> None:
    ctypes.CDLL(None).shmctl(number, 0, None)


def _tree(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from sorted(folder.rglob("*"))


def _bytes(path: Path) -> bytes | str:
    try:
        return os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
    except OSError as error:
        return str(error)
