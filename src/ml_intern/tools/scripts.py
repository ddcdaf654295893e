"""The PEP 723 scripts that a command runs: found before it starts, their environments built outside it.

Knows no installer's options and no command's outcome.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from ml_intern.base.errors import MlInternError
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Place, Roots, place
from ml_intern.sandbox.scripts import scripts_in, write_map

if TYPE_CHECKING:
    from ml_intern.sandbox.environment import Environment
    from ml_intern.sandbox.header import Header

_MOST_BYTES = 1 << 20


class Script(Struct, frozen=True):
    """A script as it was when the command was prepared. `packages`: its header asks for some."""

    path: str
    sha: str
    text: str
    described: bool
    packages: bool


class Scripts:
    """Finds scripts through the roots and builds into `store`; `maps` is the folder of the maps that shims read.

    `offline`: packages come from the cache only.
    """

    def __init__(self, roots: Roots, store: Path, maps: Path, *, offline: bool = False) -> None:
        self._roots = roots
        self._store = store
        self._maps = maps
        self._offline = offline

    def look(self, command: str, cwd: str) -> tuple[Script, ...]:
        """The scripts that the command line seems to run. Blocks.

        Raises:
            EnvironmentFailed: a header that cannot be understood.
        """
        paths = scripts_in(command, cwd, lambda path: self._file(path, cwd) is not None)
        return tuple(self._script(found) for found in (self._file(path, cwd) for path in paths) if found)

    async def build(self, scripts: tuple[Script, ...], key: str, on_line: Callable[[str], None]) -> Mapping[str, str]:
        """Make the environments that are missing; the variables by which the shims find them.

        Raises:
            EnvironmentFailed: they cannot be made.
        """
        described = [script for script in scripts if script.described]
        if not described:
            return {}
        build = await asyncio.to_thread(_builder)
        pythons: dict[str, Path] = {}
        for script in described:
            built = await build(script.text, store=self._store, on_line=on_line, offline=self._offline)
            pythons[script.path] = built.python
        return {"ML_INTERN_SCRIPTS": str(await asyncio.to_thread(write_map, self._maps, key, pythons))}

    def _file(self, path: str, cwd: str) -> Place | None:
        try:
            found = place(self._roots, path, cwd, write=False)
            facts = files.stat(found)
        except MlInternError:
            # Not ours to read: whatever it is, the command will say so itself.
            return None
        return found if facts is not None and facts.kind == "file" and facts.size <= _MOST_BYTES else None

    def _script(self, found: Place) -> Script:
        data = files.read_bytes(found, 0, _MOST_BYTES)
        text = data.decode("utf-8", errors="replace")
        described = _header(text)
        packages = described is not None and bool(described.dependencies)
        return Script(found.inside, hashlib.sha256(data).hexdigest(), text, described is not None, packages)


# What reads requirements, and what installs them, cost a tenth of a second; most commands run no described script.
def _header(text: str) -> "Header | None":
    if "# /// script" not in text:
        return None
    from ml_intern.sandbox.header import header

    return header(text)


def _builder() -> "Callable[..., Coroutine[None, None, Environment]]":
    from ml_intern.sandbox.environment import build

    return build
