"""Which files of a workspace a hook's command names: the agent can change those, and the hook runs outside the sandbox.

Reads the words of the command; knows no shell.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ml_intern.sandbox.protected import below, is_protected

_WORDS = re.compile(r"(>{1,2}&?)|'([^']*)'|\"([^\"]*)\"|([^\s;&|<>()'\"`=]+)")
_HERE = re.compile(r"\$(?:PWD\b|\{PWD\})")


def within(command: str, workspace: Path, environ: Mapping[str, str]) -> list[str]:
    """Files below the workspace that the command names, relative to it, but for those that the agent cannot change."""
    folder = os.path.realpath(workspace)
    found: list[str] = []
    for word, is_first in _words(command):
        path = os.path.expanduser(word) if not word.startswith("~/") else environ.get("HOME", "~") + word[1:]
        path = os.path.realpath(os.path.join(folder, path))
        # A bare name is a file only where one lies there; what stands first is looked for elsewhere.
        is_file = "/" in word or (not is_first and os.path.exists(path))
        if is_file and below(path, folder) and not is_protected(os.path.relpath(path, folder)):
            found.append(os.path.relpath(path, folder))
    return list(dict.fromkeys(found))


def _words(command: str, *, is_first: bool = True) -> Iterator[tuple[str, bool]]:
    """Every word, also those within quotes, and whether it stands first; not what something is written to."""
    writes = False
    for arrow, single, double, bare in _WORDS.findall(_HERE.sub(".", command)):
        quoted = single or double
        if quoted and re.search(r"\s", quoted):
            yield from _words(quoted)
        elif (word := quoted or bare) and not writes:
            yield word, is_first
        writes, is_first = bool(arrow), False
