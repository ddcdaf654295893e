import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml_intern.base.errors import BadSettings, PathRefused
from ml_intern.sandbox import paths
from ml_intern.sandbox.paths import Root, Roots, command_path, place, protected_again, session_roots
from ml_intern.sandbox.protected import kept_folders


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "work space"
    folder.mkdir()
    return folder


@pytest.fixture
def session(tmp_path, workspace):
    def make(**more) -> Roots:
        return session_roots(workspace, tmp_path / "data" / "session", tmp_path / "cache" / "environments", **more)

    return make


def by_inside(roots: Roots) -> dict[str, Root]:
    return {root.inside: root for root in roots.roots}


def test_only_the_workspace_the_private_home_and_tmp_are_writable(session, workspace, tmp_path):
    roots = session()
    writable = {root.inside: root.outside for root in roots.roots if root.access == "write"}
    data = tmp_path / "data" / "session"
    assert writable == {
        str(workspace): str(workspace),
        str(data / "home"): str(data / "home"),
        "/tmp": str(data / "tmp"),
    }
    assert (roots.workspace, roots.home) == (str(workspace), str(data / "home"))
    assert (data / "home").stat().st_mode & 0o777 == 0o700


def test_parents_stand_before_what_lies_in_them_and_every_source_exists(session):
    roots = session()
    seen: list[str] = []
    for root in roots.roots:
        assert os.path.exists(root.outside)
        assert not any(earlier.startswith(root.inside + "/") for earlier in seen)
        seen.append(root.inside)
    assert len(seen) == len(set(seen))


def test_system_folders_are_read_only_and_secrets_of_etc_are_not_there(session):
    found = by_inside(session())
    assert found["/usr"].access == "read"
    assert found["/etc/passwd"].access == "read"
    for secret in (
        "/etc",
        "/etc/shadow",
        "/etc/ssh",
        "/etc/sudoers",
        "/etc/ssl",
        "/etc/ssl/private",
        "/root",
        "/home",
        "/",
    ):
        assert secret not in found


def test_the_interpreter_is_seen_and_the_home_around_it_is_not(session):
    roots = session()
    real = os.path.realpath(sys.base_prefix)
    assert place(roots, f"{real}/bin/python3", "/", write=False).root.access == "read"
    with pytest.raises(PathRefused, match="outside"):
        place(roots, os.path.join(os.path.dirname(real), ".ssh", "id_rsa"), "/", write=False)


def test_the_environment_store_is_read_only(session, tmp_path):
    roots = session()
    target = str(tmp_path / "cache" / "environments" / "x" / "bin" / "python")
    assert place(roots, target, "/", write=False).relative == "x/bin/python"
    with pytest.raises(PathRefused, match="read-only"):
        place(roots, target, "/", write=True)


def test_certificates_named_by_the_person_are_seen(session, tmp_path):
    bundle = tmp_path / "corporate.pem"
    bundle.write_text("x")
    roots = session(also_read=[str(bundle), str(tmp_path / "gone.pem")])
    assert by_inside(roots)[str(bundle)].access == "read"
    assert str(tmp_path / "gone.pem") not in by_inside(roots)
    assert place(roots, str(bundle), "/", write=False).relative == ""


@pytest.mark.parametrize("folder", ["/", "/usr/share", "/etc", "/tmp", "/proc", "/dev", "~", "~/..", sys.base_prefix])
def test_a_workspace_that_cannot_be_walled_is_refused(folder, tmp_path):
    with pytest.raises(BadSettings) as refused:
        session_roots(Path(folder).expanduser(), tmp_path / "s", tmp_path / "e")
    assert refused.value.remedy


def test_a_workspace_that_holds_our_data_or_lies_in_it_is_refused(tmp_path):
    (tmp_path / "s" / "inner").mkdir(parents=True)
    for workspace in (tmp_path, tmp_path / "s", tmp_path / "s" / "inner"):
        with pytest.raises(BadSettings, match="overlap"):
            session_roots(workspace, tmp_path / "s", tmp_path.parent / "elsewhere")
    with pytest.raises(BadSettings, match="not a folder"):
        session_roots(tmp_path / "missing", tmp_path / "s", tmp_path / "e")


def test_a_linked_workspace_is_taken_at_its_real_place(tmp_path, workspace):
    link = tmp_path / "link"
    link.symlink_to(workspace)
    assert session_roots(link, tmp_path / "s", tmp_path / "e").workspace == str(workspace)


def test_what_programs_outside_run_is_protected_where_it_exists(session, workspace):
    for repository in (workspace, workspace / "sub" / "repo"):
        repository.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for name in (".bashrc", ".envrc", ".mcp.json"):
        (workspace / name).write_text("x")
    (workspace / ".vscode").mkdir()
    (workspace / ".ml-intern").mkdir()
    (workspace / ".github" / "workflows").mkdir(parents=True)
    protected = {os.path.relpath(path, workspace) for path in session().protected}
    assert protected == {
        ".git/hooks", ".git/config", "sub/repo/.git/hooks", "sub/repo/.git/config",
        ".bashrc", ".envrc", ".mcp.json", ".vscode", ".ml-intern", ".github/workflows",
    }  # fmt: skip


def test_a_repository_without_hooks_gets_a_folder_that_can_be_walled(session, workspace):
    subprocess.run(["git", "init", "-q", "--template=", str(workspace)], check=True)
    assert not (workspace / ".git" / "hooks").exists()
    assert str(workspace / ".git" / "hooks") in session().protected


def test_what_appears_later_is_protected_when_looked_at_again(session, workspace):
    roots = session()
    assert roots.protected == (str(workspace / ".ml-intern"),)
    subprocess.run(["git", "init", "-q", "--template=", str(workspace)], check=True)
    (workspace / ".envrc").touch()
    again = protected_again(roots)
    assert {os.path.relpath(path, workspace) for path in again.protected} == {
        ".ml-intern", ".git/hooks", ".git/config", ".envrc",
    }  # fmt: skip
    assert again.roots == roots.roots
    (workspace / ".envrc").unlink()
    assert str(workspace / ".envrc") not in protected_again(again).protected


def test_root_is_told_where_another_users_folder_could_not_be_written(session, workspace):
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(workspace, 12345, 12345)
    with pytest.raises(BadSettings, match="belongs to user 12345") as refused:
        session()
    assert "--user 12345" in refused.value.remedy
    workspace.chmod(0o777)
    assert session().workspace == str(workspace)


def test_the_sessions_own_etc_holds_what_programs_need_and_follows_the_machines(session, tmp_path):
    roots = session()
    own = Path(roots.etc)
    copied = {root.inside for root in roots.roots if root.copied}
    assert {"/etc/passwd", "/etc/group"} <= copied
    for path in copied:
        assert (own / path.removeprefix("/etc/")).read_bytes() == Path(path).read_bytes()
    found = {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()}
    assert {f"/etc/{name}" for name in found} == copied
    (own / "passwd").write_text("old")
    (own / "ld.so.preload").write_text("gone")
    session()
    assert (own / "passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    assert (own / "ld.so.preload").exists() == Path("/etc/ld.so.preload").exists()


def test_the_hooks_of_submodules_and_git_files_are_protected(session, workspace):
    module = workspace / ".git" / "modules" / "deep" / "one"
    (module / "hooks").mkdir(parents=True)
    (module / "HEAD").write_text("ref: refs/heads/main\n")
    (module / "config").write_text("")
    (workspace / "one").mkdir()
    (workspace / "one" / ".git").write_text("gitdir: ../.git/modules/deep/one\n")
    protected = session().protected
    assert {str(module / "hooks"), str(module / "config"), str(workspace / "one" / ".git")} <= set(protected)


def test_the_settings_of_linked_worktrees_are_protected(session, workspace, tmp_path):
    git = ["git", "-C", str(workspace), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(tmp_path / "linked")], check=True, capture_output=True)
    kept = workspace / ".git" / "worktrees" / "linked"
    assert {str(kept / "commondir"), str(kept / "gitdir")} <= set(session().protected)


def test_hooks_behind_a_link_are_protected_at_their_real_place(session, workspace):
    subprocess.run(["git", "init", "-q", str(workspace)], check=True)
    (workspace / ".git" / "hooks").rename(workspace / "hooks")
    (workspace / ".git" / "hooks").symlink_to("../hooks")
    roots = session()
    assert str(workspace / "hooks") in roots.protected
    with pytest.raises(PathRefused, match="protected"):
        place(roots, "hooks/pre-commit", str(workspace), write=True)


def git(*words: str, cwd: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True)


def test_hooks_and_settings_that_gits_settings_name_are_protected(session, workspace):
    git("init", "-q", cwd=workspace)
    for name in (".husky", "team"):
        (workspace / name).mkdir()
    (workspace / "team" / "more.ini").write_text("[core]\n\tfsmonitor = x\n")
    (workspace / ".gitconfig").write_text("[include]\n\tpath = team/more.ini\n")
    git("config", "core.hooksPath", ".husky", cwd=workspace)
    git("config", "includeIf.gitdir:**.path", "../.gitconfig", cwd=workspace)
    protected = {os.path.relpath(path, workspace) for path in session().protected}
    assert {".husky", ".gitconfig", "team/more.ini"} <= protected


def test_the_hooks_of_a_workspace_that_is_a_linked_worktree_are_protected(session, workspace, tmp_path):
    git("init", "-q", "main", cwd=tmp_path)
    git("commit", "-q", "--allow-empty", "-m", "first", cwd=tmp_path / "main")
    git("worktree", "add", "-q", "--detach", str(workspace), cwd=tmp_path / "main")
    git("config", "core.hooksPath", ".husky", cwd=tmp_path / "main")
    (workspace / ".husky").mkdir()
    assert {str(workspace / ".git"), str(workspace / ".husky")} <= set(session().protected)


@pytest.mark.parametrize("value", ["/", ".", "..", "~", "/etc", "", '"', ".git", "x" * 5000])
def test_settings_that_lead_anywhere_else_protect_nothing_more(value, session, workspace):
    (workspace / ".git" / "hooks").mkdir(parents=True)
    (workspace / ".git" / "config").write_text(f"[core]\n\thooksPath = {value}\n[include]\n\tpath = {value}\n")
    protected = {os.path.relpath(path, workspace) for path in session().protected}
    assert protected == {".git/hooks", ".git/config", ".ml-intern"}
    assert {each.name for each in workspace.iterdir()} == {".git", ".ml-intern"}


def test_settings_that_are_a_fifo_or_lead_in_a_circle_are_no_trap(session, workspace):
    (workspace / "a" / ".git").mkdir(parents=True)
    os.mkfifo(workspace / "a" / ".git" / "config")
    (workspace / "b" / ".git").mkdir(parents=True)
    (workspace / "b" / ".git" / "config").write_text("[include]\n\tpath = config\n")
    assert str(workspace / "b" / ".git" / "config") in session().protected


def test_what_was_found_deep_in_the_workspace_is_protected_too(session, workspace):
    deep = workspace / "1" / "2" / "3" / "4"
    git("init", "-q", str(deep), cwd=workspace)
    (deep / ".vscode").mkdir()
    (deep / "config").touch()
    found = [str((deep / name).relative_to(workspace)) for name in (".git", ".vscode", "config")]
    again = protected_again(session(), found)
    assert {os.path.relpath(path, deep) for path in again.protected} == {
        ".git/hooks", ".git/config", ".vscode", os.path.relpath(workspace / ".ml-intern", deep),
    }  # fmt: skip


def test_the_objects_of_a_submodule_are_not_walked(workspace):
    module = workspace / ".git" / "modules" / "deep" / "one"
    for inner in ("objects/00", "modules/two", "worktrees/three"):
        (module / inner).mkdir(parents=True)
        (module / inner / "HEAD").touch()
    (module / "HEAD").touch()
    names = {os.path.relpath(path, module) for path in kept_folders(str(workspace / ".git"))}
    assert names == {".", "modules/two", "worktrees/three"}


def test_nothing_is_made_outside_through_a_link(session, workspace, tmp_path):
    other = tmp_path / "other" / "one"
    (other / "objects").mkdir(parents=True)
    (other / "HEAD").touch()
    (workspace / ".git").mkdir()
    (workspace / ".git" / "modules").symlink_to(tmp_path / "other")
    session()
    assert (workspace / ".git" / "hooks").exists()
    assert not (other / "hooks").exists()


def test_our_own_code_in_the_workspace_is_read_only(tmp_path):
    checkout = Path(paths.__file__).resolve().parents[3]
    roots = session_roots(checkout, tmp_path / "s", tmp_path / "e")
    package = str(checkout / "src" / "ml_intern")
    assert package in roots.protected
    assert not any(root.access == "read" and root.inside.startswith(f"{checkout}/") for root in roots.roots)
    with pytest.raises(PathRefused, match="protected"):
        place(roots, "src/ml_intern/policy/judge.py", str(checkout), write=True)


@pytest.mark.parametrize(
    "name",
    [
        ".git/hooks/pre-commit", ".git/config", ".git", ".git/index", "sub/.git/hooks/post-checkout", ".bashrc",
        "a/.zshenv", ".vscode/tasks.json", ".idea/x", ".mcp.json", ".claude/settings.json", ".codex/config.toml",
        ".ml-intern/settings.toml", ".envrc", ".github/workflows/ci.yml", ".hg/hgrc", "x/../.git/config",
        ".GIT/config", ".pre-commit-config.yaml",
    ],
)  # fmt: skip
def test_tools_may_not_write_protected_paths_even_before_they_exist(name, session, workspace):
    roots = session()
    with pytest.raises(PathRefused, match="protected") as refused:
        place(roots, name, str(workspace), write=True)
    assert refused.value.remedy
    assert place(roots, name, str(workspace), write=False)


@pytest.mark.parametrize("name", [".gitignore", "git/hooks", "bashrc", ".github/README.md", "x.git/config", "hooks"])
def test_neighbours_of_protected_paths_may_be_written(name, session, workspace):
    assert place(session(), name, str(workspace), write=True).relative == name


def test_the_private_home_may_hold_shell_files_as_nothing_outside_runs_them(session):
    roots = session()
    assert place(roots, "~/.bashrc", "/", write=True).root.inside == roots.home


@pytest.mark.parametrize(
    ("path", "root", "relative"),
    [
        ("a/b.txt", "workspace", "a/b.txt"),
        ("./a/../b", "workspace", "b"),
        ("", None, None),
        ("a\0b", None, None),
        ("../../../../../../../../../..", None, None),
        ("../../../../../../../../../../var/lib/x", None, None),
        ("../../../../../../../../../../tmp/x", "/tmp", "x"),
        ("/etc/shadow", None, None),
        ("//etc/shadow", None, None),
        ("/etc", None, None),
        ("/", None, None),
        ("/tmp/x", "/tmp", "x"),
        ("/tmp", "/tmp", ""),
        ("~/notes", "home", "notes"),
        ("~root/x", "workspace", "~root/x"),
    ],
)
def test_paths_lead_below_their_root_or_are_refused(path, root, relative, session, workspace):
    roots = session()
    if root is None:
        with pytest.raises(PathRefused) as refused:
            place(roots, path, str(workspace), write=False)
        assert refused.value.what
        assert refused.value.remedy
        return
    expected = {"workspace": str(workspace), "home": roots.home}.get(root, root)
    found = place(roots, path, str(workspace), write=False)
    assert (found.root.inside, found.relative) == (expected, relative)


def test_tmp_inside_is_a_private_folder_outside(session, tmp_path, workspace):
    found = place(session(), "/tmp/a", str(workspace), write=True)
    assert found.outside == str(tmp_path / "data" / "session" / "tmp" / "a")


def test_a_workspace_with_the_name_of_a_protected_folder_can_be_written(tmp_path):
    workspace = tmp_path / ".claude" / "project"
    workspace.mkdir(parents=True)
    roots = session_roots(workspace, tmp_path / "s", tmp_path / "e")
    assert place(roots, "x", str(workspace), write=True).relative == "x"


def test_the_shims_stand_first_in_the_path_of_commands(session):
    entries = command_path()
    assert entries[0] == paths.SHIMS
    assert os.access(os.path.join(entries[0], "uv"), os.X_OK)
    assert place(session(), os.path.join(entries[0], "uv"), "/", write=False)
