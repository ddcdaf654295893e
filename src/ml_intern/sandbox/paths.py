"""The one table of roots: what commands see, what file tools may open, what stays read-only.

Knows no mount call and no tool.
"""

import contextlib
import os
import pwd
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.errors import BadSettings, PathRefused
from ml_intern.sandbox import etc
from ml_intern.sandbox.protected import (
    below,
    drop_own_folder,
    is_protected,
    make_hook_folders,
    make_own_folder,
    protected_below,
    repositories_below,
    wall_of,
)

Access = Literal["read", "write"]

SHIMS = str(Path(__file__).resolve().parent / "shims")
"""The folder of `uv`, `python` and `python3` that stands first in the PATH of commands."""

_TMP = "/tmp"
# Each costs a few mounts with every command.
_MOST_FOUND = 64
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/sys/devices/system/cpu")
_NEVER_A_WORKSPACE = (*_SYSTEM, "/boot", "/dev", "/etc", "/proc", "/run", "/sys")


class Root(Struct, frozen=True):
    """One folder (or file) of the host that commands see."""

    inside: str
    outside: str
    access: Access
    copied: bool = False
    """Commands see the copy in the session's own /etc."""


class Roots(Struct, frozen=True):
    """The table: `roots` in mount order, parents first; `protected` exist and are read-only inside writable roots.

    `workspace` and `home` are inside paths; `etc` is the folder of the host that commands see at /etc.
    """

    roots: tuple[Root, ...]
    protected: tuple[str, ...]
    workspace: str = ""
    home: str = ""
    etc: str = ""


class Place(NamedTuple):
    """Where a path leads: its root, the rest below `root.outside` ("" is the root itself), the path inside."""

    root: Root
    relative: str
    inside: str

    @property
    def outside(self) -> str:
        """The path on the host, for messages only: opening it by name would follow links."""
        return os.path.join(self.root.outside, self.relative) if self.relative else self.root.outside


def session_roots(
    workspace: Path,
    session_folder: Path,
    environments: Path,
    *,
    interpreter: Path | None = None,
    also_read: Iterable[str] = (),
) -> Roots:
    """The table of a session. Makes its private folders (0700): `home`, `tmp`, `scripts`, `etc` below `session_folder`.

    `interpreter` is the prefix of the Python that environments are built from (default: ours); `also_read` are further
    files or folders of the host (`variables.ca_files`); those that do not exist are left out.

    Raises:
        BadSettings: the workspace is no folder, or one that cannot be walled.
    """
    place_of_work = _checked_workspace(workspace, session_folder, environments)
    folder = os.path.realpath(session_folder)
    home, tmp, scripts, own_etc = (os.path.join(folder, name) for name in ("home", "tmp", "scripts", "etc"))
    for private in (home, tmp, scripts, os.path.realpath(environments)):
        os.makedirs(private, mode=0o700, exist_ok=True)
    prefix = str(interpreter or sys.base_prefix)
    read = [*_SYSTEM, *etc.entries(etc.BOUND), prefix, os.path.realpath(prefix), SHIMS, scripts]
    table = {path: Root(path, os.path.realpath(path), "read") for path in read if os.path.exists(path)}
    named = [path for path in _named(also_read) if not any(below(path, shown) for shown in table)]
    own = [path for path in named if below(path, "/etc")]
    etc.make(own_etc, own)
    copied = [*etc.entries(etc.COPIED), *(path for path in own if not os.path.isdir(path))]
    for path in (*named, *copied):
        table[path] = Root(path, os.path.realpath(path), "read", copied=path in copied)
    store = os.path.realpath(environments)
    table[store] = Root(store, store, "read")
    _drop_covered(table)
    table[_TMP] = Root(_TMP, tmp, "write")
    for writable in (home, place_of_work):
        table[writable] = Root(writable, writable, "write")
    # What is ours to read in the workspace needs no mount of its own, only that it stays as it is.
    ours = [path for path in table if below(path, place_of_work)]
    for path in ours:
        del table[path]
    repositories = repositories_below(place_of_work)
    make_own_folder(place_of_work)
    make_hook_folders(repositories, place_of_work)
    protected = tuple(protected_below(place_of_work, repositories, ours))
    return Roots(tuple(table[path] for path in sorted(table, key=_depth)), protected, place_of_work, home, own_etc)


def _named(paths: Iterable[str]) -> list[str]:
    """What exists of them, and where it really is: a link that another root shows leads there."""
    found = (os.path.normpath(path) for path in paths if os.path.exists(path))
    return list(dict.fromkeys(each for path in found for each in (path, os.path.realpath(path))))


def protected_again(roots: Roots, found: Iterable[str] = ()) -> Roots:
    """The table with what must be protected by now: repositories and settings may have appeared. Blocks: it walks.

    `found` are paths, relative to the workspace, that have the name of something protected and may lie deep in it.
    """
    named = sorted(found)
    inner = [path.rpartition("/")[0] for path in named if path.endswith(("/.git", "/.hg"))][:_MOST_FOUND]
    walled = [os.path.join(roots.workspace, path) for path in named if wall_of(path)][:_MOST_FOUND]
    repositories = (*repositories_below(roots.workspace), *(os.path.join(roots.workspace, path) for path in inner))
    make_own_folder(roots.workspace)
    make_hook_folders(repositories, roots.workspace)
    protected = dict.fromkeys((*roots.protected, *protected_below(roots.workspace, repositories, walled)))
    return replace(roots, protected=tuple(path for path in protected if os.path.exists(path)))


def leave(roots: Roots) -> None:
    """Take away what was made in the workspace only to be walled. Blocks."""
    drop_own_folder(roots.workspace)


def command_path(interpreter: Path | None = None) -> tuple[str, ...]:
    """The PATH of commands: our shims, the interpreter's programs, the system's."""
    programs = str((interpreter or Path(sys.base_prefix)) / "bin")
    system = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
    return (SHIMS, *([programs] if programs not in system else []), *system)


def place(roots: Roots, path: str, cwd: str, *, write: bool) -> Place:
    """Where `path`, as the model wrote it, leads. `~` is the private home; `..` goes by name, links are not followed.

    Raises:
        PathRefused: outside every root, read-only, or protected; the sentence names the wall, the remedy a way.
    """
    inside = _normal(roots, path, cwd)
    found = _root_of(roots, inside)
    if found is None:
        raise PathRefused(
            f"{inside} lies outside what this session may see.",
            f"Work below {roots.workspace or cwd}; if the file is needed, ask the person to copy it there.",
        )
    if write and found.access == "read":
        raise PathRefused(f"{inside} is read-only in this sandbox.", f"Write below {roots.workspace or cwd} or /tmp.")
    if write:
        _refuse_protected(roots, found, inside)
    return Place(found, os.path.relpath(inside, found.inside) if inside != found.inside else "", inside)


def _refuse_protected(roots: Roots, root: Root, inside: str) -> None:
    reason = is_protected(os.path.relpath(inside, root.inside))
    if not reason and any(inside == wall or below(inside, wall) for wall in roots.protected):
        reason = "a program outside the sandbox runs it"
    # The private folders belong to the sandbox alone: nothing outside ever runs what lies there.
    if reason and (not roots.workspace or inside == roots.workspace or below(inside, roots.workspace)):
        raise PathRefused(f"{inside} is protected: {reason}.", "Leave it as it is, and tell the person what to change.")


def _normal(roots: Roots, path: str, cwd: str) -> str:
    if not path or "\0" in path:
        raise PathRefused("The path is empty or holds a NUL character.", "Name a file.")
    if path == "~" or path.startswith("~/"):
        if not roots.home:
            raise PathRefused(f"{path}: this session has no home folder.", "Give a path below the workspace.")
        path = roots.home + path[1:]
    # Two leading slashes survive normpath by POSIX's leave; here they mean one.
    return "/" + os.path.normpath(os.path.join(cwd, path)).lstrip("/")


def _root_of(roots: Roots, inside: str) -> Root | None:
    holding = (root for root in roots.roots if inside == root.inside or below(inside, root.inside))
    return max(holding, key=lambda root: len(root.inside), default=None)


def _repeats(inner: Root, outer: Root) -> bool:
    """Whether `outer` shows at `inner.inside` what `inner` does."""
    return os.path.join(outer.outside, os.path.relpath(inner.inside, outer.inside)) == inner.outside


def _checked_workspace(workspace: Path, session_folder: Path, environments: Path) -> str:
    path = os.path.realpath(workspace)
    homes = _homes()
    another = "Start in a project folder of your own, or name one with --cwd."
    if not os.path.isdir(path):
        raise BadSettings(f"The workspace {workspace} is not a folder.", another)
    if path == "/" or any(path == home or below(home, path) for home in homes):
        raise BadSettings(f"The workspace {path} holds your whole home folder.", another)
    if os.path.realpath(_TMP) == path:
        raise BadSettings("The workspace is /tmp itself, which commands get as a private folder.", another)
    systems = [*_NEVER_A_WORKSPACE, sys.base_prefix]
    for system in {os.path.realpath(entry) for entry in systems}:
        if path == system or below(path, system):
            raise BadSettings(f"The workspace {path} lies in {system}, which stays read-only.", another)
        # An interpreter in the workspace stays read-only there; a workspace around the system does not.
        if below(system, path) and system != os.path.realpath(sys.base_prefix):
            raise BadSettings(f"The workspace {path} contains {system}.", another)
    _refuse_another_users(path)
    for ours in (os.path.realpath(session_folder), os.path.realpath(environments)):
        if path == ours or below(ours, path) or below(path, ours):
            raise BadSettings(
                f"The workspace {path} and our own data in {ours} overlap.",
                "Start in another folder, or move our data with XDG_DATA_HOME and XDG_CACHE_HOME.",
            )
    return path


def _refuse_another_users(workspace: str) -> None:
    """Inside a user namespace root has no right to write what belongs to others. Source: user_namespaces(7)."""
    facts = os.stat(workspace)
    may_write = facts.st_mode & 0o002 or (facts.st_gid == os.getegid() and facts.st_mode & 0o020)
    if os.geteuid() == 0 and facts.st_uid != 0 and not may_write:
        raise BadSettings(
            f"The workspace {workspace} belongs to user {facts.st_uid}, and commands in the sandbox could not write "
            "there: they run as root, without root's right to write what is not its own.",
            f"Start as that user (`docker run --user {facts.st_uid}`, `sudo -u '#{facts.st_uid}'`), or `chown -R root` "
            "the workspace.",
        )


def _homes() -> set[str]:
    """The person's home by $HOME and by the user database: they may differ under sudo or in a container."""
    homes = {os.path.expanduser("~")}
    with contextlib.suppress(KeyError):
        homes.add(pwd.getpwuid(os.getuid()).pw_dir)
    return {os.path.realpath(home) for home in homes} - {"/"}


def _drop_covered(table: dict[str, Root]) -> None:
    """Without the entries that their parent shows anyway."""
    for path in list(table):
        parents = (table[parent] for parent in map(str, Path(path).parents) if parent in table)
        if any(_repeats(table[path], parent) for parent in parents):
            del table[path]


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path
