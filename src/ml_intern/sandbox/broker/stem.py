"""What will be the broker: a copy of the supervisor that stays outside the pod until the first connection.

Costs a session nothing that never uses the network. Source: unix(7) SCM_RIGHTS, network_namespaces(7).
"""

import os
import select
import signal
import socket
from typing import NoReturn

from ml_intern.sandbox import boot
from ml_intern.sandbox.broker.doors import HUB_PORT, PROXY_PORT

_SERVE = "ml_intern.sandbox.broker.serve"
_WAITING_CLIENTS = 128


class Stem:
    """The supervisor's end of the channel. Made before the pod is entered; `open_doors` after."""

    def __init__(self, folder: str) -> None:
        """Fork. Raises OSError."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._told = ""
        if os.fork() == 0:
            _wait(theirs, folder)
        theirs.close()

    def open_doors(self) -> None:
        """Listen inside the pod, where we are by now, and hand the sockets out. Raises OSError."""
        doors = [_listen(port) for port in (PROXY_PORT, HUB_PORT)]
        socket.send_fds(self._channel, [b"doors"], [door.fileno() for door in doors])
        for door in doors:
            door.close()

    def tell(self, reach: str) -> None:
        """What may be reached from now on, as JSON. Raises OSError where the broker is gone."""
        if reach != self._told:
            self._channel.send(reach.encode())
            self._told = reach


def _listen(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", port))
    door.listen(_WAITING_CLIENTS)
    return door


def _wait(channel: socket.socket, folder: str) -> NoReturn:
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        number = channel.detach()
        # The supervisor's lock, and the pipe on which its starter waits, are not ours to hold.
        os.closerange(3, number)
        os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
        own = socket.socket(fileno=number)
        _, doors, _, _ = socket.recv_fds(own, 16, 2)
        if doors and _is_wanted(own, doors):
            _become([number, *doors], folder)
    finally:
        os._exit(0)


def _is_wanted(channel: socket.socket, doors: list[int]) -> bool:
    """Wait for the first connection; False if the supervisor ends before."""
    poll = select.poll()
    # Messages may wait there: they are for the broker. Only its end is asked for.
    poll.register(channel, 0)
    for door in doors:
        poll.register(door, select.POLLIN)
    return all(number in doors for number, _ in poll.poll())


def _become(numbers: list[int], folder: str) -> NoReturn:
    for number in numbers:
        os.set_inheritable(number, True)  # noqa: FBT003 - the standard library's own signature
    line = boot.command_line(_SERVE, *map(str, numbers), folder)
    os.execve(line[0], line, dict(os.environ))
