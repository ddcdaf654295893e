"""Keeps the tree of a command that runs without namespaces: when its first process ends, nothing of it is left.

Stands where a process-id namespace stands at the full level; at level walls its child confines itself, and it answers
what the filter asks. Imports only the standard library. Source: prctl(2) PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
from typing import NoReturn

from ml_intern.sandbox.confine import Rules, confine
from ml_intern.sandbox.mediator import Mediator
from ml_intern.sandbox.processes import descendants, send

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
_REAP_EVERY_MS = 500
STARTED = b"started"


def keep(argv: list[str], env: dict[str, str], cwd: str, status: int, rules: Rules | None = None) -> NoReturn:
    """Run `argv` to its end in this process's care, behind `rules` if there are any; end its tree, exit as it did.

    Writes `STARTED` or an error to `status`. SIGTERM, and the death of our parent, end the tree at once.
    """
    os.closerange(3, status)
    ours, theirs = socket.socketpair() if rules else (None, None)
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _stop)
    first = os.fork()
    if first == 0:
        _become(argv, env, cwd, status, (rules, theirs) if rules and theirs else None)
    parent = os.getppid()
    libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if parent == 1 or os.getppid() != parent:
        _end_tree()
    if rules and ours and theirs:
        theirs.close()
        _mediate(ours, rules.write, first)
    code = _wait_for(first)
    _end_tree()
    os._exit(code)


def _become(
    argv: list[str], env: dict[str, str], cwd: str, status: int, walls: tuple[Rules, socket.socket] | None
) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.setsid()
        os.chdir(cwd)
        if walls:
            rules, keeper = walls
            listener = confine(rules)
            socket.send_fds(keeper, [b"listener"], [listener])
            os.close(listener)
            keeper.close()
        fcntl.fcntl(status, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.write(status, STARTED)
        os.execvpe(argv[0], argv, env)
    except (OSError, ValueError) as error:
        os.ftruncate(status, 0)
        os.pwrite(status, f"{argv[0]}: {error}".encode(), 0)
    finally:
        os._exit(127)


def _mediate(ours: socket.socket, writable: tuple[str, ...], first: int) -> None:
    """Answer the filter until the first process has ended; it is not reaped here."""
    _, listeners, _, _ = socket.recv_fds(ours, 64, 1)
    if not listeners:
        # It could not confine itself, and has said why.
        return
    mediator = Mediator(listeners[0], writable)
    poll = select.poll()
    ended = os.pidfd_open(first)
    poll.register(ended, select.POLLIN)
    poll.register(listeners[0], select.POLLIN)
    while ended not in (ready := dict(poll.poll(_REAP_EVERY_MS))):
        _reap_others(first)
        if ready.get(listeners[0], 0) & select.POLLIN:
            mediator.answer_one()
        elif ready:
            poll.unregister(listeners[0])


def _reap_others(first: int) -> None:
    """What was orphaned to us ends as a zombie until somebody asks."""
    while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and found.si_pid != first:
        os.waitpid(found.si_pid, 0)


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
