"""Builds the environment of a PEP 723 script with uv, from wheels only, into a store that commands see read-only.

No package's code runs here: wheels are unpacked and compiled, and the finished environment's Python is never started.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sysconfig
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from importlib.metadata import distributions
from pathlib import Path

import uv
from msgspec import Struct

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.sandbox.header import Header, header
from ml_intern.sandbox.indexes import uv_environment, uv_options
from ml_intern.sandbox.installer import Process, failure, is_unreachable
from ml_intern.sandbox.interpreters import Interpreter, choose

_KEY_CHARS = 24
_POLL_S = 0.05


class Environment(Struct, frozen=True):
    """A finished environment: its interpreter, its name in the store, what it holds (`name==version`, sorted)."""

    python: Path
    key: str
    packages: tuple[str, ...]


class _Plan(Struct, frozen=True):
    """One environment to be: what it holds, of which Python, and its files in the store."""

    store: Path
    key: str
    wanted: Header
    base: Interpreter

    @property
    def folder(self) -> Path:
        return self.store / self.key

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    # Beside the folder, not in it: a wheel can put files anywhere in its environment.
    @property
    def ready(self) -> Path:
        return self.store / f"{self.key}.ready"

    @property
    def requirements(self) -> Path:
        return self.store / f"{self.key}.txt"


async def build(
    script_text: str,
    *,
    store: Path,
    on_line: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
    timeout_s: float = 1800.0,
    offline: bool = False,
) -> Environment:
    """The environment that the script's header asks for: from the store, or built now; without a header an empty one.

    The same header, Python and platform give the same environment, also to several processes at once: one builds, the
    others wait. `on_line` gets progress; credentials of index URLs reach neither it nor an error. `environ` holds the
    person's uv and pip settings (default: ours). `offline` takes packages from the cache only.

    Raises:
        EnvironmentFailed: bad header, no fitting Python or wheel, index unreachable and cache empty, time-out.
    """
    plan = await asyncio.to_thread(_plan, script_text, store)
    found = await asyncio.to_thread(_finished, plan)
    if found is not None:
        return found
    try:
        async with asyncio.timeout(timeout_s), _locked(plan, on_line) as lock:
            found = await asyncio.to_thread(_finished, plan)
            if found is None:
                configured = os.environ if environ is None else environ
                process = Process(uv_environment(configured), plan.store, lock, on_line)
                options = (*uv_options(configured), *(("--offline",) if offline else ()))
                found = await _build(plan, process, options)
            return found
    except TimeoutError as error:
        raise EnvironmentFailed(
            f"The script's packages were not installed within {timeout_s:.0f} s.",
            "Try again: what was fetched is kept.",
        ) from error
    except OSError as error:
        raise EnvironmentFailed(
            f"The environment cannot be written: {error.strerror}.", f"Check the folder {plan.store}."
        ) from error


def _plan(script_text: str, store: Path) -> _Plan:
    wanted = header(script_text) or Header()
    base = choose(wanted.requires_python)
    return _Plan(store.resolve(), _key(wanted, base), wanted, base)


def _key(wanted: Header, base: Interpreter) -> str:
    facts = [*wanted.dependencies], wanted.requires_python, base.version, str(base.executable), sysconfig.get_platform()
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:_KEY_CHARS]


def _finished(plan: _Plan) -> Environment | None:
    try:
        told: list[str] = json.loads(plan.ready.read_bytes())
    except (OSError, ValueError):
        return None
    with contextlib.suppress(OSError):
        # Some disks note that a file was read once a day, or never: this is its last use, for who clears up.
        os.utime(plan.ready)
    # The Python it was made from may be gone since.
    return Environment(plan.python, plan.key, tuple(told)) if os.access(plan.python, os.X_OK) else None


@contextlib.asynccontextmanager
async def _locked(plan: _Plan, on_line: Callable[[str], None]) -> AsyncGenerator[int]:
    """An exclusive lock for this key. uv inherits it: if we are killed, the next builder waits for uv's end."""
    plan.store.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(plan.store / f"{plan.key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        told = False
        while not _try_lock(descriptor):
            if not told:
                on_line("Waiting for another process that builds the same environment.")
                told = True
            await asyncio.sleep(_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _build(plan: _Plan, process: Process, options: tuple[str, ...]) -> Environment:
    started = time.monotonic()
    program = _uv()
    process.on_line(f"Building the environment for {', '.join(plan.wanted.dependencies) or 'no package'}.")
    code, lines = await _install(plan, process, program, options)
    if code and is_unreachable(lines):
        process.on_line("The package index cannot be reached: trying the cache.")
        code, offline = await _install(plan, process, program, (*options, "--offline"))
        lines = [*lines, *offline]
    if code:
        await asyncio.to_thread(shutil.rmtree, plan.folder, ignore_errors=True)
        raise failure(lines, plan.base.version)
    # Compiled by the bare interpreter: the environment's own would run the .pth files of packages, here, outside.
    await process.run(
        [plan.base.executable, "-I", "-S", "-m", "compileall", "-q", "-q", "-j", "0", plan.folder / "lib"]
    )
    environment = await asyncio.to_thread(_finish, plan)
    process.on_line(f"{len(environment.packages)} packages ready in {time.monotonic() - started:.1f} s.")
    return environment


def _uv() -> str:
    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise EnvironmentFailed("The program uv is missing.", "Install ml-intern anew: uv comes with it.") from error


async def _install(plan: _Plan, process: Process, program: str, more: tuple[str, ...]) -> tuple[int, list[str]]:
    """From nothing, always: uv would start the Python of a folder that already holds packages."""
    await asyncio.to_thread(_clear, plan)
    make = [program, "venv", "--quiet", "--no-project", "--python", plan.base.executable, plan.folder]
    code, lines = await process.run(make)
    if code or not plan.wanted.dependencies:
        return code, lines
    options = ["--only-binary", ":all:", "--no-compile-bytecode", "--python", plan.python, "-r", plan.requirements]
    return await process.run([program, "pip", "install", *options, *more])


def _clear(plan: _Plan) -> None:
    plan.ready.unlink(missing_ok=True)
    if plan.folder.exists():
        shutil.rmtree(plan.folder)
    plan.requirements.write_text("".join(f"{line}\n" for line in plan.wanted.dependencies), encoding="utf-8")


def _finish(plan: _Plan) -> Environment:
    """Everything on disk, then the marker: it never stands beside half an environment, not even after a power cut."""
    sites = [str(path) for path in plan.folder.glob("lib/python*/site-packages")]
    packages = sorted(f"{found.metadata['Name']}=={found.version}" for found in distributions(path=sites))
    os.sync()
    beside = plan.ready.with_suffix(".tmp")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(packages, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(plan.ready)
    return Environment(plan.python, plan.key, tuple(packages))
