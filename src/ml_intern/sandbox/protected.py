"""What stays read-only inside a writable workspace, and why. Knows no mount call and no tool."""

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Protected(NamedTuple):
    """A path that no tool writes, at any depth; `walled` ones are also mounted read-only for commands."""

    path: str
    reason: str
    walled: bool = True


_SHELL = "a shell runs it when a person opens a terminal"
_EDITOR = "an editor runs tasks from it when a person opens the folder"
_AGENT = "it gives tools and permissions to another agent"
_VCS = "version control runs programs named in it, outside the sandbox"
PROTECTED = (
    Protected(".git/hooks", _VCS),
    Protected(".git/config", _VCS),
    Protected(".git/config.worktree", _VCS),
    Protected(".git/commondir", _VCS),
    # Commands need the rest of it to commit; a file tool never does.
    Protected(".git", "it belongs to git", walled=False),
    Protected(".hg/hgrc", _VCS),
    Protected(".hg", "it belongs to Mercurial", walled=False),
    Protected(".bashrc", _SHELL),
    Protected(".bash_profile", _SHELL),
    Protected(".bash_login", _SHELL),
    Protected(".bash_logout", _SHELL),
    Protected(".profile", _SHELL),
    Protected(".zshrc", _SHELL),
    Protected(".zprofile", _SHELL),
    Protected(".zshenv", _SHELL),
    Protected(".zlogin", _SHELL),
    Protected(".envrc", "direnv runs it when a person enters the folder"),
    Protected(".vscode", _EDITOR),
    Protected(".idea", _EDITOR),
    Protected(".mcp.json", _AGENT),
    Protected(".claude", _AGENT),
    Protected(".codex", _AGENT),
    Protected(".cursor", _AGENT),
    Protected(".ml-intern", "these are our own settings, which only a person may change"),
    Protected(".github/workflows", "a CI service runs it with its own credentials"),
    Protected(".gitlab-ci.yml", "a CI service runs it with its own credentials"),
    Protected(".pre-commit-config.yaml", _VCS),
)
WALLED_NAMES = frozenset(entry.path.lower().rpartition("/")[2] for entry in PROTECTED)
"""Where one of these appears, the table of what is walled may have grown."""
_PROTECTED_PARTS = tuple((tuple(entry.path.lower().split("/")), entry.reason) for entry in PROTECTED)
_GIT_SETTINGS = ("hooks", "config", "config.worktree", "commondir", "gitdir")
_SKIPPED_FOLDERS = frozenset({".git", ".hg", "node_modules", ".venv", "venv", "__pycache__", ".cache"})
_REPOSITORY_DEPTH = 3
_REPOSITORY_FOLDERS = 2_000
_LEADS = re.compile(
    r'^[ \t]*(?:\[[^\]\n]*\][ \t]*)?(hookspath|path)[ \t]*=[ \t]*"?([^"#;\n]+)', re.IGNORECASE | re.MULTILINE
)
_SECTION = re.compile(r"^\s*\[\s*([A-Za-z0-9.-]+)[^\]\n]*\]")
_INCLUDED = re.compile(r'(?:^|\])\s*path\s*=\s*"?([^"#;\n]+)', re.IGNORECASE)
OURS = ".ml-intern"
_MOST_SETTINGS = 20
_SETTINGS_BYTES = 65_536


def is_protected(relative: str) -> str:
    """Why a path (relative to its root) may not be written by a tool; empty if it may."""
    parts = tuple(relative.lower().split("/"))
    for wall, reason in _PROTECTED_PARTS:
        if any(parts[start : start + len(wall)] == wall for start in range(len(parts))):
            return reason
    return ""


def wall_of(relative: str) -> str:
    """The reason if commands may not write this very path; empty for what only lies in such a folder."""
    reasons = {entry.path: entry.reason for entry in PROTECTED if entry.walled}
    parts = relative.lower().split("/")
    return next((reason for path, reason in reasons.items() if path.split("/") == parts[-path.count("/") - 1 :]), "")


def protected_below(workspace: str, repositories: Iterable[str], more: Iterable[str] = ()) -> Iterator[str]:
    """What exists in the workspace and must stay read-only for commands: absolute paths without links."""
    seen: set[str] = set()
    walled = [entry.path for entry in PROTECTED if entry.walled]
    folders = dict.fromkeys((workspace, *repositories))
    candidates = [
        *(os.path.join(folder, path) for folder in folders for path in walled),
        *(path for folder in folders for path in _git_files(folder)),
        *_own_code(),
        *more,
    ]
    for candidate in candidates:
        real = os.path.realpath(candidate)
        if real not in seen and os.path.exists(real) and below(real, workspace):
            seen.add(real)
            yield real


def repositories_below(workspace: str) -> list[str]:
    """The top folders of repositories, the workspace among them, as deep and as many as a start may cost."""
    return [folder for folder, names in _shallow(workspace) if {".git", ".hg"} & names]


def make_own_folder(workspace: str) -> None:
    """Our own settings may be missing, and must not be made by a command: what does not exist cannot be walled."""
    with contextlib.suppress(OSError):
        os.mkdir(os.path.join(workspace, OURS), 0o755)


def drop_own_folder(workspace: str) -> None:
    """Leave no folder behind that nothing was put into."""
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(workspace, OURS))


def make_hook_folders(repositories: Iterable[str], workspace: str) -> None:
    """A repository made from a template without hooks gets an empty folder, and so do hooks that its settings name and
    that are not there: what does not exist cannot be walled.
    """
    for folder in repositories:
        git = os.path.join(folder, ".git")
        for path in map(os.path.realpath, _led_to(_settings(git), folder)):
            _make_hooks(path, workspace)
        if not os.path.isdir(git) or os.path.islink(git):
            continue
        for place in (git, *(module for module in kept_folders(git) if os.path.isdir(os.path.join(module, "objects")))):
            # Where we may not write, neither may a command.
            with contextlib.suppress(OSError):
                os.mkdir(os.path.join(place, "hooks"), 0o755)


def _make_hooks(path: str, workspace: str) -> None:
    # Git puts its own place for %(prefix).
    if below(path, workspace) and not os.path.lexists(path) and "%(" not in path:
        with contextlib.suppress(OSError):
            os.makedirs(path, 0o755)


def kept_folders(git: str) -> Iterator[str]:
    """The git folders of submodules and linked worktrees, which lie in their repository's. Blocks."""
    for kept in (os.path.join(git, name) for name in ("modules", "worktrees")):
        # What a link shows may lie outside, and is nobody's here.
        found = () if os.path.islink(kept) else os.walk(kept)
        for folder, names, files in itertools.islice(found, _REPOSITORY_FOLDERS):
            if "HEAD" in files:
                yield folder
                # Its objects are many, and no submodule's.
                names[:] = [name for name in names if name in {"modules", "worktrees"}]


def missing_settings(folder: str, workspace: str) -> list[str]:
    """Files below the workspace, relative to it, that the settings of a repository include and that are not there: who
    makes one chooses settings of git. Source: git-config(1), include.path. Blocks.
    """
    settings = os.path.realpath(_settings(os.path.join(folder, ".git")))
    found: list[str] = []
    section = ""
    for line in _head(settings).splitlines():
        header = _SECTION.match(line)
        section = header[1].lower() if header else section
        named = _INCLUDED.search(line) if section in {"include", "includeif"} else None
        if named and not named[1].strip().startswith("~"):
            path = os.path.normpath(os.path.join(os.path.dirname(settings), named[1].strip()))
            if below(path, workspace) and not os.path.lexists(path):
                found.append(os.path.relpath(path, workspace))
    return found[:_MOST_SETTINGS]


def _git_files(folder: str) -> Iterator[str]:
    """The `.git` file of a worktree or submodule, what is kept for others, and what the settings lead to."""
    git = os.path.join(folder, ".git")
    if os.path.isfile(git):
        yield git
    yield from (os.path.join(module, name) for module in kept_folders(git) for name in _GIT_SETTINGS)
    yield from _led_to(_settings(git), folder)


def _settings(git: str) -> str:
    """The file of settings that git reads for a `.git` folder or file. Source: gitrepository-layout(5)."""
    if not os.path.isfile(git):
        return os.path.join(git, "config")
    place = os.path.join(os.path.dirname(git), _head(git).removeprefix("gitdir:").strip())
    return os.path.join(place, _head(os.path.join(place, "commondir")).strip(), "config")


def _led_to(settings: str, folder: str) -> Iterator[str]:
    """Folders of hooks and further settings that git's settings name. Source: git-config(1)."""
    waiting = [settings]
    for _ in range(_MOST_SETTINGS):
        if not waiting:
            return
        here = waiting.pop()
        for name, value in _LEADS.findall(_head(here)):
            # Hooks are named from the top of the working tree, further settings from where they are named.
            includes = name.lower() == "path"
            path = os.path.join(os.path.dirname(here) if includes else folder, os.path.expanduser(value.strip()))
            # With all of the repository read-only nobody could commit any more.
            holds_git = below(os.path.join(folder, ".git", ""), os.path.realpath(path))
            if os.path.isfile(path) or not (includes or holds_git):
                yield path
            waiting += [path] if includes else []


def _head(path: str) -> str:
    """The beginning of a file that a command may have made: never waits for another to write."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.fsdecode(os.read(number, _SETTINGS_BYTES)).replace("\0", "")
    except OSError:
        return ""
    finally:
        os.close(number)


def _own_code() -> Iterator[str]:
    """Ourselves, where we are installed in the workspace: our process runs this code without walls."""
    yield str(Path(__file__).resolve().parents[1])
    yield sys.prefix
    yield sys.base_prefix


def _shallow(workspace: str) -> Iterator[tuple[str, set[str]]]:
    waiting = [(workspace, 0)]
    for _ in range(_REPOSITORY_FOLDERS):
        if not waiting:
            return
        folder, depth = waiting.pop(0)
        try:
            with os.scandir(folder) as found:
                entries = list(found)
        except OSError:
            continue
        yield folder, {entry.name for entry in entries}
        if depth < _REPOSITORY_DEPTH:
            inner = (e.path for e in entries if e.name not in _SKIPPED_FOLDERS and e.is_dir(follow_symlinks=False))
            waiting.extend((path, depth + 1) for path in inner)


def below(path: str, folder: str) -> bool:
    """Whether `path` lies in `folder` (both normal and absolute), and is not the folder itself."""
    return path.startswith(folder.rstrip("/") + "/")
