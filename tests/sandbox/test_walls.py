import asyncio
import errno
import os
import pwd
import shutil
import signal
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from ml_intern.sandbox import lock
from ml_intern.sandbox.paths import protected_again, session_roots
from ml_intern.sandbox.profiles import Profile
from tests.sandbox.yard import PYTHON, Yard

_CALL = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
result = libc.syscall(*{arguments})
print(errno.errorcode[ctypes.get_errno()] if result < 0 else "ALLOWED")
"""
_SYSCALLS = {
    "mount": (165, 0, b"/tmp", b"tmpfs", 0, 0),
    "umount2": (166, b"/tmp", 0),
    "pivot_root": (155, b"/tmp", b"/tmp"),
    "chroot": (161, b"/tmp"),
    "unshare user": (272, 0x10000000),
    "unshare mount": (272, 0x00020000),
    "unshare network": (272, 0x40000000),
    "clone user": (56, 0x10000000 | 17, 0, 0, 0, 0),
    "setns": (308, 0, 0),
    "open_tree": (428, -100, b"/", 1),
    "fsopen": (430, b"tmpfs", 0),
    "ptrace": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "keyctl": (250, 0, -3, 1),
    "add_key": (248, b"user", b"name", b"x", 1, -2),
    "request_key": (249, b"user", b"name", 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, -1, -1, 0),
    "userfaultfd": (323, 0),
    "io_uring_setup": (425, 1, 0),
    "open_by_handle_at": (304, -100, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, b""),
    "swapon": (167, b"/tmp/x", 0),
    "reboot": (169, 0, 0, 0, 0),
    "clock_settime": (227, 0, 0),
    "syslog": (103, 3, 0, 0),
}


def hosts_namespace(pid: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


@pytest.mark.parametrize("name", _SYSCALLS)
async def test_a_dangerous_system_call_is_denied(walled: Yard, name: str):
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers in this table are those of x86_64")
    _, text = await walled.python(_CALL.format(arguments=_SYSCALLS[name]))
    assert text == "EPERM\n"


async def test_clone3_says_that_it_does_not_exist_so_that_libc_falls_back(walled: Yard):
    _, text = await walled.python(_CALL.format(arguments=(435, 0, 0)))
    assert text == "ENOSYS\n"
    _, text = await walled.python("import threading; t = threading.Thread(target=print, args=('ran',)); t.start()")
    assert text == "ran\n"


@pytest.mark.parametrize("family", [40, 17, 38, 31, 15, 44])
async def test_a_socket_that_a_network_namespace_does_not_hold_is_denied(walled: Yard, family: int):
    _, text = await walled.python(_CALL.format(arguments=(41, family, 1, 0)))
    assert text == "EAFNOSUPPORT\n"


async def test_keys_cannot_be_typed_into_a_terminal(walled: Yard):
    code = """
import fcntl, pty, termios
_, terminal = pty.openpty()
try:
    print("ALLOWED", fcntl.ioctl(terminal, termios.TIOCSTI, b"x"))
except OSError as error:
    print(error.errno)
"""
    _, text = await walled.python(code)
    assert text == f"{errno.EPERM}\n"


async def test_a_program_of_another_architecture_is_killed(walled: Yard):
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print("ALLOWED")
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the code is x86")
    ended, text = await walled.python(code)
    assert (ended.exit_code, text) == (128 + signal.SIGSYS, "")


@pytest.mark.parametrize(
    "target", ["/", "/usr", "/etc", "/etc/passwd", "/usr/bin", "/dev", "/proc/sys/kernel", "/home"]
)
async def test_a_write_outside_the_roots_fails(walled: Yard, target: str):
    command = f"[ -d {target} ] && echo x > {target}/planted || echo x >> {target}"
    ended, text = await walled.run(f"{{ {command}; }} 2>&1")
    assert ended.exit_code != 0
    assert any(why in text for why in ("Read-only file system", "No such file", "Permission denied", "Is a directory"))
    assert not Path(target, "planted").exists()


async def test_the_kernels_switches_cannot_be_written(walled: Yard):
    code = """
import os
writable = []
for folder, names, files in os.walk("/proc"):
    names[:] = [name for name in names if not name.isdigit() and not os.path.islink(f"{folder}/{name}")]
    for name in files:
        try:
            os.close(os.open(f"{folder}/{name}", os.O_WRONLY))
            writable.append(f"{folder}/{name}")
        except OSError:
            pass
print(os.path.exists("/proc/sys/kernel/core_pattern"), writable)
"""
    _, text = await walled.python(code)
    assert text == "True []\n"


async def test_the_workspace_and_tmp_can_be_written_and_tmp_is_private(walled: Yard):
    ended, _ = await walled.run(
        "echo kept > result; echo x > /tmp/ml-intern-planted; echo x > /dev/shm/shared; echo x > /dev/null"
    )
    assert ended.exit_code == 0
    assert (walled.workspace / "result").read_text() == "kept\n"
    assert (walled.session / "tmp" / "ml-intern-planted").exists()
    assert not Path("/tmp/ml-intern-planted").exists()
    assert not Path("/dev/shm/shared").exists()


async def test_what_lies_outside_the_roots_cannot_be_seen(walled: Yard, tmp_path: Path):
    (tmp_path / "secret").write_text("PLANTED")
    home = Path(os.environ["HOME"])
    (home / ".netrc").write_text("PLANTED")
    places = f"{tmp_path}/secret {home}/.netrc /proc/1/root{tmp_path}/secret /proc/self/root{tmp_path}/secret"
    _, text = await walled.run(
        f"cat {places} /proc/1/cwd/secret /etc/shadow {walled.session}/supervisor.log 2>&1; ls /root /home 2>&1"
    )
    assert "PLANTED" not in text
    assert text.count("No such file") >= 6


async def test_only_its_own_processes_are_seen_and_none_outside_can_be_signalled(walled: Yard):
    _, text = await walled.run(f"cat /proc/[0-9]*/comm; exec 2>&1; kill -9 {os.getpid()}")
    *names, answer = text.splitlines()
    assert sorted(names) == ["bash", "bwrap"]
    assert "No such process" in answer


async def test_every_namespace_is_another_than_the_hosts(walled: Yard):
    _, text = await walled.run("for kind in user net pid mnt ipc uts; do readlink /proc/self/ns/$kind; done")
    inside = text.split()
    assert len(inside) == 6
    for kind, name in zip(("user", "net", "pid", "mnt", "ipc", "uts"), inside, strict=True):
        assert name != hosts_namespace("self", kind)


async def test_a_command_has_no_capability_and_can_gain_none(walled: Yard):
    _, text = await walled.run("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
    values = dict(line.split(":\t") for line in text.splitlines())
    assert {values[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (values["NoNewPrivs"], values["Seccomp"]) == ("1", "2")


async def test_a_setuid_program_gains_nothing(walled: Yard):
    mine = walled.workspace / "mine"
    shutil.copy("/bin/cat", mine)
    mine.chmod(0o6755)
    _, text = await walled.python('import os; os.execv("./mine", ["mine", "/proc/self/status"])')
    assert "CapEff:\t0000000000000000" in text
    assert f"Uid:\t{os.getuid()}\t{os.getuid()}" in text


async def test_no_setuid_program_is_left_for_others_to_run(walled: Yard):
    (walled.workspace / "plain").touch(0o644)
    code = """
import os
for make in (
    lambda: os.chmod("plain", 0o4755),
    lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, 0o6755)),
    lambda: os.mknod("node", 0o104755),
):
    try:
        make()
    except PermissionError:
        print("refused")
os.chmod("plain", 0o755)
"""
    _, text = await walled.python(code)
    assert text.split() == ["refused"] * 3
    assert (walled.workspace / "plain").stat().st_mode & 0o7777 == 0o755
    assert not (walled.workspace / "new").exists()


async def test_commands_of_a_session_share_their_localhost(walled: Yard):
    serve = f"""exec {PYTHON} -c '
import socket
with socket.create_server(("127.0.0.1", 8765)) as server:
    open("listening", "w").close()
    connection, _ = server.accept()
    connection.sendall(b"from the other command")
'"""
    ask = f"""exec {PYTHON} -c '
import socket
print(socket.create_connection(("127.0.0.1", 8765), 5).recv(100).decode())
'"""
    server = asyncio.create_task(walled.run(serve))
    async with asyncio.timeout(10):
        while not (walled.workspace / "listening").exists():
            await asyncio.sleep(0.02)
    ended, text = await walled.run(ask)
    assert (ended.exit_code, text) == (0, "from the other command\n")
    assert (await server)[0].exit_code == 0


async def test_a_connection_out_fails_and_the_hosts_localhost_is_not_theirs(walled: Yard):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
for address in (("127.0.0.1", {port}), ("192.0.2.1", 80), ("10.0.0.1", 53)):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        try:
            probe = socket.socket(socket.AF_INET, kind)
            probe.settimeout(3)
            probe.connect(address)
            if kind == socket.SOCK_STREAM or address[0] != "127.0.0.1":
                print("ALLOWED", address, kind)
        except OSError as error:
            print(error.strerror)
"""
        _, text = await walled.python(code)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "ALLOWED" not in text
    assert text.count("Connection refused") == 1
    assert text.count("Network is unreachable") == 4


async def test_an_abstract_socket_of_the_host_cannot_be_reached(walled: Yard):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0ml-intern-test-{os.getpid()}")
        server.listen()
        code = f"""
import socket
try:
    socket.socket(socket.AF_UNIX).connect("\\0ml-intern-test-{os.getpid()}")
    print("ALLOWED")
except OSError as error:
    print(error.strerror)
"""
        _, text = await walled.python(code)
    assert text == "Connection refused\n"


async def test_the_supervisors_own_socket_is_out_of_reach(walled: Yard):
    _, text = await walled.run(f"ls {walled.session} 2>&1; find / -name '*.sock' -not -path '/proc/*' 2>/dev/null")
    assert "supervisor.sock" not in text
    assert (walled.session / "supervisor.sock").is_socket()
    assert (walled.session / "supervisor.sock").stat().st_mode & 0o777 == 0o600


async def test_a_protected_path_stays_as_it_is_even_if_its_folders_are_moved(walled: Yard):
    hooks = walled.workspace / "project" / ".git" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "pre-commit").write_text("honest")
    config = hooks.parent / "config"
    config.write_text("honest")
    yard = walled.with_protected(config, hooks)
    attempts = """
echo evil > project/.git/hooks/pre-commit
echo evil > project/.git/hooks/post-commit
echo evil > new && mv -f new project/.git/config
rm -rf project/.git/hooks
mv project/.git project/old && mkdir -p project/.git/hooks
mv project old && mkdir -p project/.git/hooks && echo evil > project/.git/hooks/pre-commit
echo fine > project/.git/index
"""
    await yard.run(attempts)
    assert (hooks / "pre-commit").read_text() == config.read_text() == "honest"
    assert sorted(path.name for path in hooks.iterdir()) == ["pre-commit"]
    assert (hooks.parent / "index").read_text() == "fine\n"


async def test_a_protected_path_behind_a_link_does_not_keep_a_command_from_starting(walled: Yard):
    (walled.workspace / ".vscode").symlink_to("/etc")
    ended, _ = await walled.with_protected(walled.workspace / ".vscode").run("true")
    assert ended.exit_code == 0


async def test_exploring_changes_nothing(walled: Yard):
    (walled.workspace / "kept").write_text("x")
    spec = walled.spec("cat kept; echo x > /tmp/scratch && echo x > planted", profile=Profile.EXPLORE)
    ended = await walled.commands().run(spec, lambda _: None)
    assert ended.exit_code == 1
    assert ended.output_path.read_text().startswith("x")
    assert [path.name for path in walled.workspace.iterdir()] == ["kept"]
    assert not (walled.session / "tmp" / "scratch").exists()


async def test_a_hostile_program_cannot_leave_through_its_namespaces_first_process(walled: Yard, tmp_path: Path):
    (tmp_path / "secret").write_text("PLANTED")
    command = (
        f"ls -l /proc/1/fd; cat /proc/1/environ; for fd in /proc/1/fd/*; do cat $fd/../..{tmp_path}/secret; done 2>&1"
    )
    _, text = await walled.run(command)
    assert "PLANTED" not in text
    assert "HOME" not in text


async def test_the_supervisor_cannot_be_traced_by_name_of_its_number(walled: Yard):
    await walled.run("true")
    supervisor = lock.holder(str(walled.session))
    _, text = await walled.run(f"cat /proc/{supervisor}/environ /proc/{supervisor}/maps 2>&1")
    assert text.count("No such file") == 2


async def test_a_sessions_own_table_shows_the_system_by_links_and_one_etc_without_secrets(walled: Yard, tmp_path: Path):
    roots = session_roots(walled.workspace, walled.session, tmp_path / "environments")
    yard = replace(walled, roots=roots)
    _, text = await yard.run(
        "ls -A /etc; readlink /bin; stat -c %U /etc/passwd; getent hosts localhost; awk 'BEGIN{}'; id -un"
    )
    lines = text.splitlines()
    assert {"passwd", "group"} <= set(lines)
    assert not {"shadow", "ssh", "sudoers", "gshadow"} & set(lines)
    assert lines[-1] == pwd.getpwuid(os.getuid()).pw_name
    assert ("usr/bin" in lines) == os.path.islink("/bin")
    _, text = await yard.run("echo x >> /etc/passwd; echo x > /etc/new; rm /bin")
    assert text.count("Read-only file system") == 3
    assert "not found" not in text


@pytest.mark.parametrize("named", ["/etc/hostname", "/etc/alternatives/awk", "/etc/skel"])
async def test_certificates_anywhere_in_etc_keep_no_command_from_starting(walled: Yard, tmp_path: Path, named: str):
    if not os.path.exists(named):
        pytest.skip(f"this machine has no {named}")
    roots = session_roots(walled.workspace, walled.session, tmp_path / "environments", also_read=[named])
    ended, _ = await replace(walled, roots=roots).run(f"test -r {named} && ls /etc/passwd")
    assert (ended.reason, ended.exit_code) == ("exited", 0), ended.output_path.read_text()


async def test_a_protected_path_whose_name_is_no_text_keeps_no_command_from_starting(walled: Yard):
    folder = walled.workspace / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / ".envrc").write_text("honest")
    yard = walled.with_protected(folder / ".envrc")
    ended, _ = await yard.run("(echo evil > $'\\377/.envrc') 2> /dev/null; exit 0")
    assert (ended.reason, ended.exit_code) == ("exited", 0), ended.output_path.read_text()
    assert (folder / ".envrc").read_text() == "honest"


async def test_a_repository_that_appeared_is_walled_once_looked_at_again(walled: Yard, tmp_path: Path):
    yard = replace(walled, roots=session_roots(walled.workspace, walled.session, tmp_path / "environments"))
    await yard.run("git init -q new && cd new && git config user.name someone")
    yard = replace(yard, roots=protected_again(yard.roots))
    _, text = await yard.run("cd new && echo evil > .git/hooks/pre-commit; git config core.fsmonitor evil")
    assert "Read-only file system" in text
    assert "fsmonitor" not in (walled.workspace / "new" / ".git" / "config").read_text()
    assert not (walled.workspace / "new" / ".git" / "hooks" / "pre-commit").exists()
