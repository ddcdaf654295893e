"""Keeps the tree of a command that runs without walls: when its first process ends, nothing of it is left.

Stands where a process-id namespace stands at the full level. Imports only the standard library.
Source: prctl(2) PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
from typing import NoReturn

from ml_intern.sandbox.processes import descendants, send

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
STARTED = b"started"


def keep(argv: list[str], env: dict[str, str], cwd: str, status: int) -> NoReturn:
    """Run `argv` to its end in this process's care, end its whole tree, exit as it did.

    Writes `STARTED` or an error to `status`. SIGTERM, and the death of our parent, end the tree at once.
    """
    os.closerange(3, status)
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _stop)
    first = os.fork()
    if first == 0:
        _become(argv, env, cwd, status)
    parent = os.getppid()
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if parent == 1 or os.getppid() != parent:
        _end_tree()
    code = _wait_for(first)
    _end_tree()
    os._exit(code)


def _become(argv: list[str], env: dict[str, str], cwd: str, status: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.setsid()
        os.chdir(cwd)
        fcntl.fcntl(status, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.write(status, STARTED)
        os.execvpe(argv[0], argv, env)
    except (OSError, ValueError) as error:
        os.ftruncate(status, 0)
        os.pwrite(status, f"{argv[0]}: {error}".encode(), 0)
    finally:
        os._exit(127)


def _wait_for(first: int) -> int:
    while True:
        pid, status = os.wait()
        if pid == first:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_tree() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            send(descendants(os.getpid()), signal.SIGKILL)
            os.wait()
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue


def _stop(_number: int, _frame: object) -> None:
    _end_tree()
    os._exit(128 + signal.SIGKILL)
