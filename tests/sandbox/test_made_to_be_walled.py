"""What is made in a workspace only so that commands cannot make it: what does not exist cannot be walled."""

import subprocess
from pathlib import Path

import pytest

from ml_intern.sandbox.paths import Roots, leave, protected_again, session_roots


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "work space"
    folder.mkdir()
    return folder


@pytest.fixture
def session(tmp_path, workspace):
    def make() -> Roots:
        return session_roots(workspace, tmp_path / "data" / "session", tmp_path / "cache" / "environments")

    return make


def git(*words: str, cwd: Path) -> None:
    subprocess.run(["git", *words], cwd=cwd, check=True, capture_output=True)


def test_our_own_folder_is_there_to_be_walled_and_leaves_no_trace(session, workspace):
    roots = session()
    assert str(workspace / ".ml-intern") in roots.protected
    leave(roots)
    assert list(workspace.iterdir()) == []
    assert str(workspace / ".ml-intern") in protected_again(roots).protected
    (workspace / ".ml-intern" / "settings.toml").touch()
    leave(roots)
    assert (workspace / ".ml-intern" / "settings.toml").exists()


def test_a_folder_of_hooks_that_is_named_and_missing_is_made_and_walled(session, workspace):
    git("init", "-q", cwd=workspace)
    git("config", "core.hooksPath", "tools/hooks", cwd=workspace)
    assert str(workspace / "tools" / "hooks") in session().protected
    git("config", "core.hooksPath", str(workspace / "later"), cwd=workspace)
    assert str(workspace / "later") in protected_again(session()).protected


@pytest.mark.parametrize("value", ["way/hooks", "../outside/hooks", "dangling", "%(prefix)/hooks"])
def test_no_folder_of_hooks_is_made_outside_or_where_git_means_another(value, session, workspace):
    outside = workspace.parent / "outside"
    outside.mkdir()
    git("init", "-q", cwd=workspace)
    (workspace / "way").symlink_to(outside)
    (workspace / "dangling").symlink_to(outside / "new")
    git("config", "core.hooksPath", value, cwd=workspace)
    session()
    assert list(outside.iterdir()) == []
    assert not (workspace / "%(prefix)").exists()
