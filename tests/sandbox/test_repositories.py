import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.repositories import armed, look, mend
from ml_intern.sandbox.scan import scan


def git(*words: str, cwd: Path) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    env = {"PATH": os.environ["PATH"], "HOME": str(cwd.parent), "GIT_CEILING_DIRECTORIES": str(cwd.parent)}
    done = subprocess.run(["git", *identity, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    project.mkdir()
    git("init", "-q", "-b", "main", cwd=project)
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=project)
    return project


@pytest.fixture
def roots(project: Path) -> Roots:
    return Roots((Root(str(project), str(project), "write"),), (), str(project))


def after(roots: Roots, deed: Callable[[], object]) -> list[str]:
    before = look(roots, scan(roots).protected)
    deed()
    return mend(roots, before)


def test_ordinary_work_with_git_is_no_trap(roots, project):
    def work() -> None:
        (project / "a").write_text("a")
        git("add", "a", cwd=project)
        git("commit", "-q", "-m", "second", cwd=project)
        git("switch", "-q", "-c", "other", cwd=project)
        git("checkout", "-q", "--detach", cwd=project)
        git("gc", "-q", cwd=project)

    assert after(roots, work) == []
    assert len(git("log", "--oneline", cwd=project).splitlines()) == 2


def test_a_commondir_that_leads_git_to_other_hooks_is_undone_and_told(roots, project, tmp_path):
    evil, witness = tmp_path / "evil", tmp_path / "witness"

    def trap() -> None:
        git("init", "-q", "--bare", str(evil), cwd=project)
        (evil / "config").write_text(f"[core]\n\tbare = false\n\tfsmonitor = touch {witness}\n")
        (project / ".git" / "commondir").write_text(str(evil))

    trap()
    git("status", cwd=project)
    assert witness.exists(), "the trap must work, or this test proves nothing"
    witness.unlink()
    (project / ".git" / "commondir").unlink()
    told = after(roots, trap)
    git("status", cwd=project)
    assert not witness.exists()
    assert len(told) == 1
    assert "commondir (removed)" in told[0]
    assert ".git" in told[0]


def test_a_commondir_from_before_a_crash_is_undone_too(roots, project):
    (project / ".git" / "commondir").write_text("../evil")
    assert "commondir (removed)" in after(roots, lambda: None)[0]


def test_new_settings_of_a_worktree_are_undone_and_old_ones_stay(roots, project):
    settings = project / ".git" / "config.worktree"
    assert "config.worktree (removed)" in after(roots, lambda: settings.write_text("[core]\n\tfsmonitor = evil\n"))[0]
    assert not settings.exists()
    settings.write_text("")
    assert after(roots, lambda: None) == []
    assert settings.exists()


@pytest.mark.parametrize("deed", ["rm .git/HEAD", "echo nonsense > .git/HEAD", "ln -sf /etc/hostname .git/HEAD"])
def test_a_repository_whose_head_is_gone_is_one_again(roots, project, deed):
    told = after(roots, lambda: subprocess.run(["sh", "-c", deed], cwd=project, check=True))
    assert "HEAD (restored)" in told[0]
    assert git("rev-parse", "--abbrev-ref", "HEAD", cwd=project) == "main\n"


def test_linked_hooks_lead_where_they_led(roots, project):
    hooks = project / ".git" / "hooks"
    hooks.rename(project / "hooks")
    hooks.symlink_to("../hooks")

    def trap() -> None:
        hooks.unlink()
        hooks.mkdir()
        (hooks / "post-commit").write_text("#!/bin/sh\n")

    assert "hooks (a link to ../hooks again)" in after(roots, trap)[0]
    assert os.readlink(hooks) == "../hooks"


def test_the_git_folder_of_a_submodule_is_mended_too(roots, project, tmp_path):
    git("init", "-q", str(tmp_path / "lib"), cwd=project)
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=tmp_path / "lib")
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", "../lib", "sub", cwd=project)
    module, evil, witness = project / ".git" / "modules" / "sub", tmp_path / "evil", tmp_path / "witness"

    def trap() -> None:
        shutil.copytree(module, evil, dirs_exist_ok=True)
        (evil / "config").write_text(f"[core]\n\tworktree = ../../../sub\n\tfsmonitor = touch {witness}; true\n")
        (module / "commondir").write_text(str(evil))

    trap()
    git("status", cwd=project)
    assert witness.exists(), "the trap must work, or this test proves nothing"
    witness.unlink()
    (module / "commondir").unlink()
    assert "commondir (removed)" in after(roots, trap)[0]
    git("status", cwd=project)
    assert not witness.exists()


def test_a_linked_worktree_keeps_its_commondir(roots, project, tmp_path):
    git("worktree", "add", "-q", str(tmp_path / "linked"), cwd=project)
    assert after(roots, lambda: None) == []
    assert (project / ".git" / "worktrees" / "linked" / "commondir").exists()


def test_a_git_folder_that_is_a_link_leads_where_it_led(roots, project):
    (project / ".git").rename(project / "real")
    (project / ".git").symlink_to("real")

    def trap() -> None:
        (project / ".git").unlink()
        git("init", "-q", cwd=project)

    assert "a link to real again" in after(roots, trap)[0]
    assert os.readlink(project / ".git") == "real"
    assert after(roots, lambda: None) == []


def test_a_new_repository_that_runs_programs_is_named_and_a_plain_one_is_not(roots, project):
    for name in ("plain", "hooked", "set"):
        git("init", "-q", str(project / name), cwd=project)
    hook = project / "hooked" / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\n")
    git("config", "core.fsmonitor", "evil", cwd=project / "set")
    git("config", "remote.origin.url", "https://example.org/x", cwd=project / "plain")
    hooked, settled = armed(roots, scan(roots).protected - {".git"})
    assert hooked == "hooked/.git (git runs what is named by its hooks/post-checkout)"
    assert settled == "set/.git (git runs what is named by its fsmonitor)"


def test_what_cannot_be_undone_is_told(roots, project):
    assert "refs is gone" in after(roots, lambda: (project / ".git" / "refs").rename(project / "elsewhere"))[0]
    (project / "elsewhere").rename(project / ".git" / "refs")

    def turn() -> None:
        (project / ".git").rename(project / "old")
        (project / ".git").write_text("gitdir: old\n")

    assert "no folder any more" in after(roots, turn)[0]


def test_nothing_outside_is_touched_through_a_link(roots, project, tmp_path):
    other = tmp_path / "other"
    git("init", "-q", str(other), cwd=project)
    (other / ".git" / "commondir").write_text(".")

    def turn() -> None:
        (project / ".git").rename(project / "old")
        (project / ".git").symlink_to(other / ".git")

    assert "no folder any more" in after(roots, turn)[0]
    assert (other / ".git" / "commondir").exists()


def test_settings_that_are_named_and_missing_are_put_aside_when_a_command_makes_them(roots, project):
    git("config", "include.path", "../team/extra.ini", cwd=project)
    git("config", "core.pager", "less", cwd=project)
    before = look(roots, [".git"])
    (project / "team").mkdir()
    (project / "team" / "extra.ini").write_text("[core]\n\tfsmonitor = touch owned\n")
    (told,) = mend(roots, before)
    assert "team/extra.ini, which its settings include (put aside)" in told
    assert not (project / "team" / "extra.ini").exists()
    assert git("config", "core.fsmonitor", cwd=project) == ""
    assert mend(roots, before) == []


def test_a_path_in_another_section_of_the_settings_is_no_settings(roots, project):
    git("config", "dvc.path", "out.txt", cwd=project)
    before = look(roots, [".git"])
    (project / "out.txt").touch()
    assert mend(roots, before) == []
