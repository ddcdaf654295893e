"""Starts one command: a process with its pipe and its group waits to become bubblewrap with its filter, or the keeper.

Knows no deadline and no client. Imports only the standard library.
"""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterable
from typing import NamedTuple, NoReturn, cast

from ml_intern.sandbox import keeper, limits, outcome, pod
from ml_intern.sandbox.confine import Rules, to_rules
from ml_intern.sandbox.groups import Group

_ABOVE_LOW_NUMBERS = 64
_PIPE_BYTES = 1024 * 1024
_ARGUMENTS, _FILTER, _STATUS, _ORDERS, _LINE = 3, 4, 5, 6, 7
_LONGEST_PATH = 4096
_NUMBERS = ("--args", str(_ARGUMENTS), "--seccomp", str(_FILTER), "--json-status-fd", str(_STATUS))
# A request of the usual size.
_REHEARSED = json.dumps(
    {
        "op": "start",
        "key": "rehearsal",
        "argv": ["/bin/bash", "-c", "true"],
        "env": {f"VARIABLE_{number}": "its value" for number in range(30)},
        "cwd": "/",
        "deadline_s": 120,
        "walls": ["--setenv", "VARIABLE", "its value"] * 70,
        "rules": None,
    }
)
# The kernel takes a command before it takes the supervisor or its owner.
_KILL_ME_FIRST = "500"


class Launch(NamedTuple):
    """What to start. `walls`: bubblewrap's path and options; `rules`: level walls; with neither there are none.

    `pushes` is what it may write to the Hub while it shows `token`.
    """

    key: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    deadline_s: float
    walls: tuple[str, ...]
    rules: Rules | None = None
    pushes: tuple[str, ...] = ()
    token: str = ""

    @property
    def level(self) -> str:
        """The name of the level it runs at."""
        if self.walls:
            return "full"
        return "walls" if self.rules else "none"


class Waiting(NamedTuple):
    """A process made ahead of its command, within its group already: where the kernel counts, entering takes 3-12 ms.

    `pipe` is its output, `status` the file that says whether the command began, `orders` what it waits for; behind
    walls it then executes `line`, and bubblewrap reads `arguments`: files in memory.
    """

    pid: int
    pipe: int
    status: int
    orders: int
    line: int
    arguments: int
    group: Group


def prepare(group: Group, seccomp: bytes, processes: int, *, walled: bool) -> Waiting:
    """A process that waits for its order; it ends with ours. Raises OSError."""
    opened: list[int] = []
    try:
        for _ in range(2):
            opened.extend(os.pipe2(os.O_CLOEXEC))
        for name, data in (("status", b""), ("line", b""), ("arguments", b""), ("filter", seccomp)):
            opened.append(_memory(name, data))
        reading, writing, heard, orders, status, line, arguments, program = opened
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        pid = os.fork()
        if pid == 0:
            _wait(group, processes, [writing, writing, arguments, program, status, heard, line], walled=walled)
    except OSError:
        for number in opened:
            os.close(number)
        raise
    for number in (writing, program, heard):
        os.close(number)
    return Waiting(pid, reading, status, orders, line, arguments, group)


def order(waiting: Waiting, wanted: Launch, folder: str) -> bool:
    """Make it the command, whose spec stands in `folder`; False if it cannot be. Its end shows by the process's end."""
    try:
        if wanted.walls:
            # Made here and not by the one that waits: after a fork each page costs at its first write.
            os.write(waiting.arguments, _joined(wanted.walls[1:]))
            os.write(waiting.line, _joined([wanted.walls[0], *_NUMBERS, "--", *wanted.argv]))
        os.write(waiting.orders, os.fsencode(folder))
    except OSError:
        return False
    finally:
        release(waiting)
    return True


def release(waiting: Waiting) -> None:
    """Let go of what an order is given by; without one the process ends."""
    for number in (waiting.orders, waiting.line, waiting.arguments):
        os.close(number)


def began(status: int, *, walled: bool) -> bool:
    """Whether the command itself was executed, asked after its end. Source: bwrap(1) --json-status-fd."""
    text = os.pread(status, 65_536, 0)
    if not walled:
        return text == keeper.STARTED
    return any("exit-code" in json.loads(line) for line in text.splitlines())


def to_launch(request: dict[str, object]) -> Launch:
    """Check a start request. Raises ValueError, KeyError, TypeError."""
    key = str(request["key"])
    if not is_key(key):
        raise ValueError(f"not a key: {key!r}")
    argv = tuple(str(part) for part in cast("list[object]", request["argv"]))
    walls = tuple(str(part) for part in cast("list[object]", request["walls"]))
    env = {str(name): str(value) for name, value in cast("dict[object, object]", request["env"]).items()}
    if not argv or any("\0" in part for part in (*argv, *walls, *env, *env.values())):
        raise ValueError("a command needs a program, and no NUL in it")
    rules = to_rules(request["rules"]) if request.get("rules") else None
    if walls and rules:
        raise ValueError("a command runs at one level")
    pushes = tuple(str(line) for line in cast("list[object]", request.get("pushes", [])))
    where, deadline_s = str(request["cwd"]), float(str(request["deadline_s"]))
    return Launch(key, argv, env, where, deadline_s, walls, rules, pushes, str(request.get("token", "")))


def rehearse() -> None:
    """Do with memory what a start does: after a fork each page is copied at its first write, which takes a while.

    Better now than when a command waits for it.
    """
    _joined(to_launch(json.loads(json.dumps(json.loads(_REHEARSED)))).walls)


def is_key(key: str) -> bool:
    """A key names a folder: letters, digits, `-`, `_`, `.` within, 1 to 100."""
    plain = key.replace("-", "a").replace("_", "a").replace(".", "a")
    return 0 < len(key) <= 100 and plain.isascii() and plain.isalnum() and not key.startswith(".")


def _memory(name: str, data: bytes) -> int:
    number = os.memfd_create(name)
    os.write(number, data)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _wait(group: Group, processes: int, given: list[int], *, walled: bool) -> NoReturn:
    try:
        _reset_signals()
        os.setsid()
        # First of all: a copy of a client's connection would keep it open when the supervisor hangs up.
        _place([os.open("/dev/null", os.O_RDONLY), *given])
        group.enter()
        _limit_processes(processes, walled=walled)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(_KILL_ME_FIRST)
        if folder := os.fsdecode(os.read(_ORDERS, _LONGEST_PATH)):
            _become(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        with contextlib.suppress(OSError):
            os.write(1, f"{error}\n".encode())
    finally:
        os._exit(126)


def _become(folder: str) -> NoReturn:
    line = os.pread(_LINE, os.fstat(_LINE).st_size, 0)
    # The last two that the command itself would inherit.
    os.close(_ORDERS)
    os.close(_LINE)
    if line:
        os.lseek(_ARGUMENTS, 0, os.SEEK_SET)
        words = line.split(b"\0")[:-1]
        os.execve(words[0], words, {})
    wanted = to_launch(outcome.load_spec(folder))
    keeper.keep(list(wanted.argv), wanted.env, wanted.cwd, _STATUS, wanted.rules)


def _joined(words: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def _limit_processes(count: int, *, walled: bool) -> None:
    if os.geteuid() == 0:
        # The kernel exempts root; a group or the supervisor counts instead.
        return
    if walled:
        # Else one command's processes would count against every other command of the pod.
        pod.count_apart()
    limits.apply_processes(count)


def _place(numbers: list[int]) -> None:
    """Make `numbers` the descriptors 0, 1, 2, … and close every other one."""
    lifted = [fcntl.fcntl(number, fcntl.F_DUPFD, _ABOVE_LOW_NUMBERS) for number in numbers]
    for target, number in enumerate(lifted):
        os.dup2(number, target)
    os.closerange(len(numbers), os.sysconf("SC_OPEN_MAX"))


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
