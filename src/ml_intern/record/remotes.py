"""Which places commands made known to git, and in which folder: a push goes to those of its own repository alone.

Pure text work: what a command's words show. A folder that they do not spell out may be any.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from ml_intern.record.destinations import addresses, key, page, urls

PART = r"(?:[^;&|\n'\"]++|'[^']*+'|\"(?:[^\"\\]++|\\.)*+\"|['\"])+"
"""One command of a shell, up to what ends it outside of quotes. Each is looked at once: a long one stays cheap."""
_GIT = re.compile(r"\bgit\b|\bgit-lfs\b")
_TELLS = re.compile(r"\s(?:remote|config|clone|submodule)\b|\bgh\s+repo\s+clone\b")
_CLONES = re.compile(r"\sclone\s+(?:-\S+\s+)*+[\"']?([^\s\"']+)[\"']?(?:\s+(?:-\S+\s+)*[\"']?([^\s\"'>&-][^\s\"']*))?")
_GOES = re.compile(r"^[\s(]*(?:cd|pushd)\s+(?:--\s+)?[\"']?([^\s\"')]*)")
_IN = re.compile(r"\bgit\s+(?:-[^-C]\S*\s+\S+\s+|--\S+\s+)*-C\s*[\"']?([^\s\"']+)")
_UNKNOWN = re.compile(r"[$`*?{~]|^-$")
ANYWHERE = "*"


class Remote(Struct, frozen=True):
    """The key of a place, and the folder whose repository knows it."""

    folder: str
    key: str


def folders_of(parts: Iterable[str], folder: str = "") -> Iterator[tuple[str, str]]:
    """Each command of a command line with the folder in which its git works."""
    at = _joined("", folder)
    for part in parts:
        if (goes := _GOES.match(part)) is not None:
            at = _joined(at, goes[1])
        inside = _IN.search(part)
        yield part, _joined(at, inside[1]) if inside is not None else at


def remotes_of(command: str, folder: str = "") -> tuple[Remote, ...]:
    """The places that a command makes known to git: what a later push there may go to."""
    found: list[Remote] = []
    if "git" not in command:
        return ()
    for part, at in folders_of((each[0] for each in re.finditer(PART, command)), folder):
        git = _GIT.search(part)
        if git is None or not _TELLS.search(part, git.end()):
            continue
        cloned = _CLONES.search(part)
        # A folder that a clone makes is new; one that is named in full may be the workspace itself.
        place = _made(at, cloned) if cloned is not None else ANYWHERE if at.startswith("/") else at
        found += [Remote(place, each) for each in _pages(part)]
    return tuple(dict.fromkeys(found))


def concerns(remote: Remote, folder: str) -> bool:
    """Whether a push in `folder` may go to this remote."""
    if ANYWHERE in (remote.folder, folder):
        return True
    if folder.startswith("/") and not remote.folder.startswith("/"):
        return f"/{remote.folder}/".replace("//", "/") in f"{folder}/"
    if remote.folder.startswith("/") and not folder.startswith("/"):
        return bool(folder) and f"{remote.folder}/".endswith(f"/{folder.partition('/')[0]}/")
    return not remote.folder or f"{folder}/".startswith(f"{remote.folder}/")


def _pages(part: str) -> Iterator[str]:
    for match in urls(part):
        host, path, _ = page(match)
        yield key("page", f"{host}{path}")
    yield from (each for each in sorted(addresses(part)) if each.startswith("page"))


def _made(at: str, cloned: re.Match[str]) -> str:
    name = cloned[2] or cloned[1].rstrip("/").rpartition("/")[2].rpartition(":")[2].removesuffix(".git")
    return _joined(at, name)


def _joined(at: str, folder: str) -> str:
    if _UNKNOWN.search(folder) or at == ANYWHERE:
        return ANYWHERE if not folder.startswith("/") or _UNKNOWN.search(folder) else folder
    path = posixpath.normpath(posixpath.join(at, folder))
    return "" if path == "." else ANYWHERE if path.startswith("..") else path
