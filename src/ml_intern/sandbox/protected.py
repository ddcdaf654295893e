"""What stays read-only inside a writable workspace, and why. Knows no mount call and no tool."""

import contextlib
import os
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


def is_protected(relative: str) -> str:
    """Why a path (relative to its root) may not be written by a tool; empty if it may."""
    parts = tuple(relative.lower().split("/"))
    for wall, reason in _PROTECTED_PARTS:
        if any(parts[start : start + len(wall)] == wall for start in range(len(parts))):
            return reason
    return ""


def protected_below(workspace: str, more: Iterable[str] = ()) -> Iterator[str]:
    """What exists in the workspace and must stay read-only for commands: absolute paths without links."""
    seen: set[str] = set()
    walled = [entry.path for entry in PROTECTED if entry.walled]
    candidates = [
        *(os.path.join(folder, path) for folder in _repositories(workspace) for path in walled),
        *_git_files(workspace),
        *_own_code(),
        *more,
    ]
    for candidate in candidates:
        real = os.path.realpath(candidate)
        if real not in seen and os.path.exists(real) and below(real, workspace):
            seen.add(real)
            yield real


def _repositories(workspace: str) -> Iterator[str]:
    """The workspace, and the top folders of repositories in it, as deep and as many as a start may cost."""
    yield workspace
    for folder, names in _shallow(workspace):
        if folder != workspace and ({".git", ".hg"} & set(names)):
            yield folder


def make_hook_folders(workspace: str) -> None:
    """A repository made from a template without hooks gets an empty folder: what does not exist cannot be walled."""
    for folder in _repositories(workspace):
        git = os.path.join(folder, ".git")
        if os.path.isdir(git) and not os.path.islink(git) and not os.path.lexists(os.path.join(git, "hooks")):
            # Where we may not write, neither may a command.
            with contextlib.suppress(OSError):
                os.mkdir(os.path.join(git, "hooks"), 0o755)


def _git_files(workspace: str) -> Iterator[str]:
    """`.git` files of worktrees and submodules, and what `.git/modules` and `.git/worktrees` keep for them."""
    for folder, names in _shallow(workspace):
        if ".git" not in names:
            continue
        inner = os.path.join(folder, ".git")
        if os.path.isfile(inner):
            yield inner
        for kept in ("modules", "worktrees"):
            found = os.walk(os.path.join(inner, kept))
            folders = [module for module, _, files in found if "HEAD" in files]
            yield from (os.path.join(module, name) for module in folders for name in _GIT_SETTINGS)


def _own_code() -> Iterator[str]:
    """Ourselves, where we are installed in the workspace: our process runs this code without walls."""
    yield str(Path(__file__).resolve().parents[1])
    yield sys.prefix
    yield sys.base_prefix


def _shallow(workspace: str) -> Iterator[tuple[str, list[str]]]:
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
        yield folder, [entry.name for entry in entries]
        if depth < _REPOSITORY_DEPTH:
            inner = (e.path for e in entries if e.name not in _SKIPPED_FOLDERS and e.is_dir(follow_symlinks=False))
            waiting.extend((path, depth + 1) for path in inner)


def below(path: str, folder: str) -> bool:
    """Whether `path` lies in `folder` (both normal and absolute), and is not the folder itself."""
    return path.startswith(folder.rstrip("/") + "/")
