"""Runs uv and puts its failures into one sentence. Knows no store and no script."""

import asyncio
import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from ml_intern.base.errors import EnvironmentFailed
from ml_intern.base.text import one_line, plain
from ml_intern.sandbox.credentials import mask

_KEPT_LINES = 200
_SHOWN_LINES = 12
_LINE_CHARS = 400
_LONGEST_LINE_BYTES = 1 << 24

_NETWORK = re.compile(
    r"error sending request|tcp connect error|dns error|failed to lookup address|connection (?:refused|reset|closed)"
    r"|Network is unreachable|operation timed out|Request failed after|Temporary failure in name resolution"
    r"|5\d\d (?:Bad Gateway|Service Unavailable|Gateway Timeout|Internal Server Error)",
    re.IGNORECASE,
)
_NAME = r"`?(?P<name>[A-Za-z0-9][\w.-]*(?:\[[\w,-]*\])?)"
_CHOOSE = "Choose another version of it, or another package: only wheels are installed, nothing is built from source."
_PROBLEMS = (
    # First: an index that refuses also makes uv say that it has no such package.
    (
        re.compile(r"401 Unauthorized|403 Forbidden|missing credentials|authentication credentials", re.IGNORECASE),
        "The package index refused our credentials.",
        "The person must check the index settings of uv or pip.",
    ),
    (
        re.compile(r"network was disabled|network connectivity is disabled"),
        "The package index cannot be reached, and the cache lacks what the script needs.",
        "Check the network and the index settings, or use packages that were installed before.",
    ),
    (
        re.compile(_NAME + r"\S* (?:was|were) not found in"),
        "No index has a package {name}.",
        "Check its spelling: the name to install may differ from the name to import.",
    ),
    (
        re.compile(r"Wheels are required for " + _NAME),
        "There is no wheel of {name} for Python {python} on this machine.",
        _CHOOSE,
    ),
    (
        re.compile(_NAME + r"\S* has no (?:usable )?wheels"),
        "There is no wheel of {name} for Python {python} on this machine.",
        _CHOOSE,
    ),
    (
        re.compile(r"does not satisfy Python.* we can conclude that (?:all versions of )?" + _NAME),
        "{name} does not run on Python {python}.",
        _CHOOSE,
    ),
    (
        re.compile(
            r"there (?:is|are) no versions? of "
            + _NAME
            + r"|[Oo]nly `?(?P<other>[\w.-]+?)[<>=!].* (?:is|are) available"
        ),
        "No version of {name} is what the script asks for.",
        "Ask for another version of it.",
    ),
    (
        re.compile(r"No space left on device|Disk quota exceeded"),
        "The disk is full.",
        "Make room where the caches lie (XDG_CACHE_HOME, UV_CACHE_DIR), then try again.",
    ),
    (
        re.compile(r"unsatisfiable|conflict"),
        "The script's requirements contradict each other.",
        "Relax the versions that uv names below.",
    ),
    (_NETWORK, "The package index cannot be reached.", "Check the network and the index settings."),
)


class Process(Struct, frozen=True):
    """How a program is run: environment, folder, descriptors it shares, where its lines go."""

    environ: Mapping[str, str]
    cwd: Path
    shared: int
    on_line: Callable[[str], None]

    async def run(self, argv: Sequence[str | Path]) -> tuple[int, list[str]]:
        """Run to the end: exit code and last lines, credentials masked. Cancellation kills it with all its children."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self.environ),
            cwd=self.cwd,
            pass_fds=(self.shared,),
            start_new_session=True,
            limit=_LONGEST_LINE_BYTES,
        )
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            assert process.stdout is not None
            async for raw in process.stdout:
                line = mask(plain(raw.decode(errors="replace")).rstrip(), self.environ)
                if line:
                    lines.append(line)
                    self.on_line(one_line(line, _LINE_CHARS))
            return await process.wait(), list(lines)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def is_unreachable(lines: Sequence[str]) -> bool:
    """Whether uv failed for want of a network."""
    return any(_NETWORK.search(line) for line in lines)


def failure(lines: Sequence[str], python: str) -> EnvironmentFailed:
    """uv's failure as one sentence with the package's name, the remedy, and uv's last lines."""
    text = " ".join(" ".join(lines).split())
    last = "\n".join(lines[-_SHOWN_LINES:])
    for pattern, what, remedy in _PROBLEMS:
        found = pattern.search(text)
        if found is not None:
            groups = found.groupdict()
            name = groups.get("name") or groups.get("other") or "a package"
            sentence = what.format(name=name.rstrip("."), python=python)
            return EnvironmentFailed(sentence, f"{remedy}\nuv said:", quoted=last)
    return EnvironmentFailed("uv could not install the script's packages.", "Read what it said:", quoted=last)
