"""Which Pythons commands can see, and which of them a script may have. Knows no package."""

import functools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from ml_intern.base.errors import EnvironmentFailed

_SYSTEM = (Path("/usr/local/bin"), Path("/usr/bin"))
_NAME = re.compile(r"python3\.\d+")
_ASK_S = 10


class Interpreter(NamedTuple):
    """A Python outside any virtual environment, and its full version."""

    executable: Path
    version: str


def choose(requires_python: str) -> Interpreter:
    """Ours if it satisfies, else one of the system's: commands see no others. Blocks: may start Pythons.

    Raises:
        EnvironmentFailed: none satisfies; the message names those there are.
    """
    wanted = SpecifierSet(requires_python)
    if wanted.contains(own().version, prereleases=True):
        return own()
    others = _system()
    fitting = [found for found in others if wanted.contains(found.version, prereleases=True)]
    if fitting:
        return max(fitting, key=lambda found: Version(found.version))
    there = ", ".join(dict.fromkeys([own().version, *(found.version for found in others)]))
    raise EnvironmentFailed(
        f"The script asks for Python {requires_python}; this machine has {there}.",
        "Relax requires-python in the script's header.",
    )


@functools.cache
def own() -> Interpreter:
    """The Python that our own environment was made from."""
    named = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    executable = named if os.access(named, os.X_OK) else Path(os.path.realpath(sys.executable))
    return Interpreter(executable, platform.python_version())


@functools.cache
def _system() -> tuple[Interpreter, ...]:
    return tuple(_ask())


def _ask() -> Iterator[Interpreter]:
    for folder in _SYSTEM:
        for path in sorted(folder.glob("python3.*")):
            if not _NAME.fullmatch(path.name):
                continue
            command = [str(path), "-I", "-S", "-c", "import platform; print(platform.python_version())"]
            try:
                told = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=True)
                yield Interpreter(path, str(Version(told.stdout.strip())))
            except (OSError, subprocess.SubprocessError, InvalidVersion):
                continue
