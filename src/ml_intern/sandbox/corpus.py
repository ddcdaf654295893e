"""The attempts to break out: what a hostile command would try, one line each. Knows no level and runs nothing.

A command that gets through prints `ESCAPED`, or what it should never have read, or leaves a trace outside.
"""

from typing import NamedTuple

ESCAPED = "ESCAPED"
# Not the word itself: a traceback shows the program's own lines.
_SAY = "echo ESC''APED"
_TELL = "print('ESC' + 'APED')"


class Attempt(NamedTuple):
    """`command` is a shell's, or a Python program where `python`; `attacks.Ground` fills in the names in braces."""

    name: str
    command: str
    python: bool = False


def attempts() -> tuple[Attempt, ...]:
    """Every attempt, in order."""
    return (*_WRITES, *_READS, *_NETWORK, *_KERNEL, *_PROCESSES, *_PROTECTED)


def _shell(name: str, command: str) -> Attempt:
    return Attempt(name, f"{{ {command} ; }} && {_SAY}")


def _python(name: str, program: str) -> Attempt:
    return Attempt(name, f"import ctypes, os, socket, sys\n{program}\n{_TELL}", python=True)


def _connect(name: str, family: str, kind: str, address: str) -> Attempt:
    program = f"""one = socket.socket(socket.{family}, socket.{kind})
one.settimeout(2)
one.connect({address})
one.send(b"hello")
if socket.{kind} is socket.SOCK_DGRAM: one.send(b"again")"""
    # A datagram that leaves is told by who gets it: from a network without a way out it leaves for nowhere.
    tells = kind == "SOCK_STREAM"
    return _python(name, program) if tells else Attempt(name, f"import socket\n{program}", python=True)


_WRITES = (
    Attempt("write a file beside the workspace", "echo x >> {secret}"),
    Attempt("make a file beside the workspace", "echo x > {outside}/planted"),
    Attempt("delete a file beside the workspace", "rm -f {secret}"),
    Attempt("write upwards", "echo x > ../outside/planted"),
    Attempt("write through a link", "ln -s {outside} way; echo x > way/planted"),
    Attempt("truncate a file outside", "truncate -s 0 {secret}"),
    Attempt("move a file in from outside", "mv {secret} mine"),
    _shell("hard link to a file outside", "ln {secret} linked && cat linked"),
    Attempt("change the mode of a file outside", "chmod 777 {secret}"),
    Attempt("change the mode of a folder outside", "chmod 000 {outside}"),
    Attempt("change the times of a file outside", "touch -d 2001-01-01 {secret}"),
    _shell("write a system folder", "echo x > /usr/bin/ml-intern-planted && rm /usr/bin/ml-intern-planted"),
    _shell("write /etc", "echo x > /etc/ml-intern-planted && rm /etc/ml-intern-planted"),
    _shell("write the home folder", "echo x > {home}/.ml-intern-planted && rm {home}/.ml-intern-planted"),
    _shell("write our own code", "echo >> {package}/__init__.py"),
    _shell("write a kernel switch", "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern"),
    # At level full it writes a file of that name in a shared memory of its own.
    Attempt("write the machine's shared memory", "echo x >> /dev/shm/{shared}"),
)
_READS = (
    _shell("read a file beside the workspace", "cat {secret}"),
    _shell("read upwards", "cat ../outside/secret.txt"),
    _shell("read through a link", "ln -sf {secret} in && cat in"),
    _shell("list a folder outside", "ls {outside}"),
    _shell("read password hashes", "cat /etc/shadow"),
    Attempt("read through /proc/self/root", "cat /proc/self/root{secret}"),
    Attempt("read through /proc/1/root", "cat /proc/1/root{secret}"),
    Attempt("read through another's root", "cat /proc/{pid}/root{secret}; cat /proc/{pid}/cwd/secret.txt"),
    Attempt("read another's environment", "tr '\\0' '\\n' < /proc/{pid}/environ"),
    Attempt("read every environment", "cat /proc/[0-9]*/environ | tr '\\0' '\\n'; env"),
    _shell("read another's memory map", "grep . /proc/{pid}/maps"),
    Attempt(
        "read through held descriptors", "for one in /proc/[0-9]*/fd/*; do cat $one/../secret.txt; done 2>/dev/null"
    ),
    _python("an inherited descriptor", "1 / len([n for n in os.listdir('/proc/self/fd') if int(n) > 3])"),
    Attempt("search the disk", "grep -rls {token} /var/tmp /tmp /run /home /root /srv /mnt; true"),
)
_NETWORK = (
    _connect("the host's localhost", "AF_INET", "SOCK_STREAM", "('127.0.0.1', {tcp})"),
    _connect("the host's localhost by datagram", "AF_INET", "SOCK_DGRAM", "('127.0.0.1', {udp})"),
    _connect("another machine", "AF_INET", "SOCK_STREAM", "('192.0.2.1', 53)"),
    _connect("another machine with IPv6", "AF_INET6", "SOCK_STREAM", "('2001:db8::1', 53)"),
    _python("data in the first packet", "socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', {tcp}))"),
    _python("a name", "socket.getaddrinfo('example.com', 443)"),
    _python(
        "a multipath stream", "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', {tcp}))"
    ),
    _python("a raw packet", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    _python("a raw internet socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    _python("the virtual machine's host", "socket.socket(socket.AF_VSOCK)"),
    _python("a unix socket of the host", "socket.socket(socket.AF_UNIX).connect('{unix}')"),
    _python("an abstract unix socket of the host", "socket.socket(socket.AF_UNIX).connect('\\0{abstract}')"),
    _python("our own supervisor", "socket.socket(socket.AF_UNIX).connect('{session}/supervisor.sock')"),
)
_KERNEL = (
    _shell("mount", "mount -t tmpfs none /tmp"),
    _shell("a new user namespace", "unshare --user --map-root-user true"),
    _shell("change root", "chroot /tmp /bin/true"),
    _shell("make a device", "mknod disk b 7 0"),
    _shell("read a disk or the machine's memory", "head -c 1 /dev/sda || head -c 1 /dev/vda || head -c 1 /dev/mem"),
    _python("become another user", "os.setuid(os.getuid() + 1)"),
    Attempt("keep a set-user-id program", "cp /bin/cat mine && chmod u+s mine; test -u mine && " + _SAY),
    _python("type into a terminal", "import fcntl, os, termios\nfcntl.ioctl(os.openpty()[1], termios.TIOCSTI, b'x')"),
    _python("trace another process", "1 / (ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0)"),
    _python("read another's memory", "open('/proc/{pid}/mem', 'rb')"),
    _python("shared memory of old", "1 / (ctypes.CDLL(None).shmat({shm}, 0, 0) not in (-1, 0xFFFFFFFF))"),
)
_PROCESSES = (
    Attempt("kill a process of the person's", "kill -9 {pid}"),
    Attempt("kill everything", "kill -9 -1"),
    _python("change another's limits", "import resource\nresource.prlimit({pid}, resource.RLIMIT_CPU, (1, 1))"),
    Attempt("outlive the call", "(setsid nohup sh -c 'sleep 1; touch {survived}' >/dev/null 2>&1 &); echo"),
)
_PROTECTED = (
    Attempt("a git hook", "echo x > .git/hooks/post-commit"),
    Attempt("git's settings", "echo '[core]' >> .git/config"),
    Attempt("git's settings by git", "git config core.hooksPath /tmp/hooks"),
    Attempt("git's hooks replaced", "rm -rf .git/hooks; mkdir .git/hooks; echo x > .git/hooks/pre-commit"),
    Attempt("git's hooks behind a link", "rm -rf .git/hooks; mkdir evil; ln -s ../evil .git/hooks"),
    Attempt("git's folder replaced", "mv .git old; mkdir -p .git/hooks; echo x > .git/hooks/pre-commit"),
    Attempt("hooks that git's settings name", "mkdir -p githooks; echo x > githooks/pre-commit"),
    Attempt("hooks that git's settings name, replaced", "rmdir githooks; mv githooks old; ln -s /tmp githooks"),
    Attempt("Mercurial's settings", "echo '[hooks]' >> .hg/hgrc; rm -rf .hg/hgrc; mv .hg old"),
    Attempt("our own settings", "echo x >> .ml-intern/settings.toml"),
    Attempt("our own settings moved", "mv .ml-intern old; mkdir .ml-intern; echo x > .ml-intern/settings.toml"),
    Attempt("a shell's start file", "echo x >> .bashrc"),
    Attempt("a shell's start file replaced", "echo x > new; mv -f new .bashrc"),
    Attempt("an editor's tasks", "rm -rf .vscode; mkdir .vscode; echo x > .vscode/tasks.json"),
    Attempt("a pipeline", "echo x > .github/workflows/ci.yml"),
)
