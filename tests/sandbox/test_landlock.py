import asyncio
import json
import os
import stat
import subprocess
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ml_intern.base.errors import SandboxError
from ml_intern.sandbox import landlock, levels
from ml_intern.sandbox.commands import Ended
from ml_intern.sandbox.confine import Rules, to_rules
from ml_intern.sandbox.connection import connect_or_start
from ml_intern.sandbox.keeping import UNDONE, Keeping
from ml_intern.sandbox.levels import Level
from ml_intern.sandbox.paths import Root, Roots
from ml_intern.sandbox.profiles import Profile
from ml_intern.sandbox.walls import rules, variables, without_mounts
from tests.sandbox.yard import PYTHON, QUICK, Yard, make_yard


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncGenerator[Yard]:
    found = levels.probe_walls()
    if found.level < Level.WALLS:
        pytest.skip(f"level walls is not on this machine: {found.reasons}")
    yard = make_yard(tmp_path, Level.WALLS)
    yield yard
    await yard.commands().close()


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], env={"PATH": "/usr/bin:/bin", "SECRET": "kept from all"}) as process:
        yield process
        process.kill()


async def says(yard: Yard, command: str) -> str:
    return (await yard.run(f"exec 2>&1; {command}"))[1].strip()


async def test_the_workspace_can_be_written_and_what_is_beside_it_neither_read_nor_written(yard: Yard, tmp_path: Path):
    (tmp_path / "secret").write_text("x")
    said = await says(yard, f"echo in > file && cat file; cat {tmp_path}/secret; echo > {tmp_path}/new; ls {tmp_path}")
    assert said.startswith("in\n")
    assert said.count("Permission denied") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "session", "workspace"]


async def test_modes_and_times_change_in_the_workspace_only(yard: Yard, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("x")
    before = outside.stat()
    said = await says(
        yard,
        f"touch a && chmod 751 a && touch -d 2001-02-03 a && cp -p a b && ln -s {outside} way; "
        f"chmod 777 {outside}; chmod 777 way; touch -d 2001-01-01 {outside} way; chmod 777 /proc/self/cwd/../outside",
    )
    a, b = (yard.workspace / name for name in "ab")
    assert stat.S_IMODE(a.stat().st_mode) == stat.S_IMODE(b.stat().st_mode) == 0o751
    assert a.stat().st_mtime == b.stat().st_mtime < 1_000_000_000
    assert (outside.stat().st_mode, outside.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert said.count("not permitted") == 3


async def test_an_open_file_keeps_its_mode_and_times_wherever_it_may_only_be_read(yard: Yard):
    ended, said = await yard.python("""
import os
one = os.open("/etc/passwd", os.O_RDONLY)
for change in (lambda: os.fchmod(one, 0o666), lambda: os.utime(one), lambda: os.fchown(one, 0, 0)):
    try: change(); print("changed")
    except PermissionError: print("refused")
with open("own", "w") as own: os.fchmod(own.fileno(), 0o600); os.utime(own.fileno(), (1, 2))
print(os.stat("own").st_mtime)
os.utime("own", ns=(5, 7)); print(os.stat("own").st_mtime_ns)
os.mkdir("deep"); here = os.open("deep", os.O_RDONLY); open("deep/x", "w").close()
os.chmod("x", 0o700, dir_fd=here); print(oct(os.stat("deep/x").st_mode))
try: os.chmod("nothing", 0o700)
except FileNotFoundError: print("missing")
""")
    assert said.split() == ["refused"] * 3 + ["2.0", "7", "0o100700", "missing"], (ended, said)


async def test_there_is_no_network_of_any_kind(yard: Yard):
    _, said = await yard.python("""
import socket
kinds = (2, 2, 0), (10, 2, 0), (2, 1, 262), (2, 3, 1), (1, 1, 0), (1, 2, 0), (16, 3, 0), (17, 3, 0)
for family, kind, protocol in kinds:
    try: socket.socket(family, kind, protocol); print("made", family, kind)
    except OSError as error: pass
one = socket.socket()
for attempt in (lambda: one.connect(("127.0.0.1", 1)), lambda: one.bind(("127.0.0.1", 0)), lambda: one.listen()):
    try: attempt(); print("done")
    except PermissionError: print("refused")
a, b = socket.socketpair(); a.send(b"pair"); print(b.recv(9).decode())
try: socket.socketpair(type=socket.SOCK_DGRAM); print("made")
except OSError: print("none")
""")
    assert said.split() == ["refused"] * 3 + ["pair", "none"]


async def test_it_has_no_capability_and_can_gain_none(yard: Yard):
    said = await says(yard, "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status")
    fields = dict(line.split(":\t") for line in said.splitlines())
    bounding = {fields.pop("CapBnd")} if os.geteuid() == 0 else {"0" * 16}
    assert bounding == {"0" * 16}
    fields.pop("CapBnd", None)
    assert fields == dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), "0" * 16) | {
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


@pytest.mark.parametrize("version", [99, 4], ids=["newest", "before signals were scoped"])
async def test_only_its_own_processes_can_be_signalled(yard: Yard, bystander: subprocess.Popen[bytes], version: int):
    python = f"""
import os, signal, subprocess, threading
for target, number in (({bystander.pid}, 9), ({bystander.pid}, 15), ({os.getpid()}, 18), (os.getppid(), 9)):
    try: os.kill(target, number); print("sent")
    except PermissionError: print("refused")
own = subprocess.Popen(["sleep", "60"])
own.terminate(); print(own.wait())
group = subprocess.Popen(["sleep", "60"], start_new_session=True)
os.killpg(group.pid, 9); print(group.wait())
signal.signal(10, lambda *_: print("heard"))
signal.raise_signal(10)
"""
    (yard.workspace / "signals.py").write_text(python)
    _, said = await run_at(yard, version, "exec python3 -I signals.py")
    assert said.split() == ["refused"] * 4 + ["-15", "-9", "heard"]
    assert bystander.poll() is None


async def run_at(yard: Yard, version: int, command: str):
    """A command as on a kernel whose Landlock is of this version."""
    made = rules(yard.roots, Profile.WORK)._replace(at_most=version)
    commands = yard.commands()
    spec = yard.spec(f"exec 2>&1; {command}")
    env = dict(spec.env) | {"PATH": f"{os.path.dirname(PYTHON)}:/usr/bin:/bin"}
    request = {"op": "start", "key": spec.key, "argv": spec.argv, "env": env, "cwd": spec.cwd}
    request |= {"deadline_s": 30, "walls": [], "rules": made._asdict()}
    async with await connect_or_start(yard.session, "walls", QUICK) as link:
        await link.ask(request)
        while (answer := await link.answer()) and answer["event"] != "ended":
            continue
    ended = await commands.find(spec.key)
    assert isinstance(ended, Ended)
    return ended, ended.output_path.read_text()


async def test_another_process_keeps_its_environment_memory_and_files(yard: Yard, bystander: subprocess.Popen[bytes]):
    one = f"/proc/{bystander.pid}"
    said = await says(yard, f"cat {one}/environ; cat {one}/fd/0; ls {one}/cwd/; ls {one}/root/; cat {one}/maps")
    assert said.count("Permission denied") == 5
    assert "kept from all" not in said


async def test_what_is_protected_is_put_back_and_told(yard: Yard):
    hooks, config = yard.workspace / ".git" / "hooks", yard.workspace / ".git" / "config"
    hooks.mkdir(parents=True)
    config.write_text("[core]\n")
    config.chmod(0o640)
    (hooks / "sample").write_text("old")
    guarded = yard.with_protected(hooks, config)
    ended, _ = await guarded.run(
        "echo x > .git/hooks/pre-commit; rm .git/hooks/sample; mv .git/config .git/other; ls -A"
    )
    assert (ended.reason, ended.exit_code) == ("exited", 0)
    assert ended.note.startswith(UNDONE)
    assert [path.name for path in hooks.iterdir()] == ["sample"]
    assert (config.read_text(), stat.S_IMODE(config.stat().st_mode)) == ("[core]\n", 0o640)
    ended, _ = await guarded.run("ls")
    assert ended.note == ""


async def test_what_is_protected_is_put_back_when_the_last_of_several_commands_ends(yard: Yard):
    config = yard.workspace / "config"
    config.write_text("first")
    guarded = yard.with_protected(config)
    commands = guarded.commands()
    long = guarded.spec("touch begun; while ! test -e go; do sleep 0.02; done; echo late > config", key="long")
    running = asyncio.create_task(commands.run(long, lambda _: None))
    while not (yard.workspace / "begun").exists():
        await asyncio.sleep(0.01)
    between, _ = await guarded.run("echo early > config")
    assert (between.note, config.read_text()) == ("", "early\n")
    (yard.workspace / "go").touch()
    assert (await running).note.startswith(UNDONE)
    assert config.read_text() == "first"


async def test_what_is_too_large_to_be_kept_refuses_the_command(yard: Yard):
    big = yard.workspace / "big"
    with big.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    ended, _ = await yard.with_protected(big).run("rm big")
    assert (ended.reason, big.exists()) == ("failed_to_start", True)
    assert "too large to be kept safe" in ended.note
    assert (await yard.run("echo fine"))[1] == "fine\n"


async def test_exploring_writes_nothing(yard: Yard):
    commands, seen = yard.commands(), list[bytes]()
    await commands.run(
        yard.spec("touch new; ls; echo x > /dev/null && echo fine", profile=Profile.EXPLORE), seen.append
    )
    assert b"".join(seen).decode().splitlines()[-1] == "fine"
    assert list(yard.workspace.iterdir()) == []


async def test_a_supervisor_of_this_level_runs_nothing_without_walls(yard: Yard):
    await yard.run("true")
    with pytest.raises(SandboxError, match="another level"):
        await replace(yard, level=Level.NONE).run("true")


async def test_orphans_are_reaped_while_the_command_runs(yard: Yard):
    said = await says(yard, "(sleep 0.1 &) ; sleep 1.4; grep -c Z /proc/[0-9]*/status 2>/dev/null | grep -c xyz; "
                      "ps -eo ppid,stat,comm 2>/dev/null | awk '$2 ~ /Z/ && $3 ~ /sleep/' | wc -l")  # fmt: skip
    assert said.splitlines()[-1] == "0"


def test_what_is_in_the_way_is_put_aside_and_no_link_is_followed(tmp_path: Path):
    elsewhere, hooks = tmp_path / "elsewhere", tmp_path / "work" / ".git" / "hooks"
    elsewhere.mkdir()
    hooks.mkdir(parents=True)
    (hooks / "sample").write_text("old")
    keeping = Keeping()
    keeping.remember([str(hooks)])
    (tmp_path / "work" / ".git").rename(tmp_path / "work" / "old")
    (tmp_path / "work" / ".git").symlink_to(elsewhere)
    assert keeping.restore() == [str(hooks)]
    assert list(elsewhere.iterdir()) == []
    assert not hooks.parent.is_symlink()
    assert (hooks / "sample").read_text() == "old"


def test_more_than_can_be_kept_is_refused_before_it_is_read(tmp_path: Path):
    for number in range(2_001):
        (tmp_path / str(number)).touch()
    with pytest.raises(ValueError, match="too large"):
        Keeping().remember([str(tmp_path)])


def test_the_rules_come_from_the_one_table_of_roots():
    table = Roots(
        (Root("/usr", "/usr", "read"), Root("/tmp", "/s/tmp", "write"), Root("/w", "/w", "write")), ("/w/.git",)
    )
    made = rules(table, Profile.WORK)
    assert set(made.read) == {"/usr", "/proc"}
    assert (made.write, made.kept) == (("/s/tmp", "/w"), ("/w/.git",))
    assert not any(path.startswith(("/dev/pts", "/dev/shm", "/dev/tty")) for path in made.use)
    explores = rules(table, Profile.EXPLORE)
    assert (explores.write, set(explores.read)) == ((), {"/usr", "/proc", "/s/tmp", "/w"})


def test_without_mounts_everything_has_its_real_name_and_tmp_is_told_by_a_variable(tmp_path: Path):
    copied = Root("/etc/passwd", "/etc/passwd", "read", copied=True)
    roots = Roots((Root("/bin", "/usr/bin", "read"), copied, Root("/tmp", "/s/tmp", "write")), (), etc="/s/etc")
    plain = without_mounts(roots)
    assert [(root.inside, root.outside) for root in plain.roots] == [
        ("/usr/bin",) * 2,
        ("/etc/passwd",) * 2,
        ("/s/tmp",) * 2,
    ]
    assert plain.etc == ""
    assert variables(tmp_path)["TMPDIR"] == os.path.realpath(tmp_path / "tmp")


def test_rules_that_make_no_sense_are_refused():
    assert to_rules({"read": ["/a"], "write": [], "use": []}) == Rules(("/a",), (), ())
    for nonsense in (None, {}, {"read": 1, "write": [], "use": []}, json.loads("[]")):
        with pytest.raises((KeyError, TypeError, ValueError)):
            to_rules(nonsense)


def test_the_version_is_told():
    assert landlock.version() >= 0
