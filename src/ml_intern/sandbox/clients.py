"""The supervisor's socket: who is connected, what they ask, what they follow.

Knows no command: a request is a JSON object on one line, an answer likewise. Imports only the standard library.
Source: unix(7) SO_PEERCRED, SCM_RIGHTS.
"""

import contextlib
import json
import os
import selectors
import socket
import struct
from typing import cast

SOCKET = "supervisor.sock"
_LONGEST_REQUEST = 16 * 1024 * 1024
_HINT_EVERY_S = 0.05

Message = dict[str, object]


class Client:
    """One connection. `key` is the command it follows, if any."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.key = ""
        self._pending = b""
        self._enclosed: socket.socket | None = None

    def requests(self) -> list[Message] | None:
        """The whole requests that have arrived; None when the client is gone or talks nonsense."""
        try:
            chunk = self.connection.recv(65_536)
            *lines, self._pending = (self._pending + chunk).split(b"\n")
            if not chunk or len(self._pending) > _LONGEST_REQUEST:
                return None
            found = [json.loads(line) for line in lines]
        except BlockingIOError:
            return []
        except (OSError, ValueError):
            return None
        return [cast("Message", item) for item in found if isinstance(item, dict)]

    def enclose(self, opened: socket.socket) -> None:
        """Give it away with the next line; it is no longer ours."""
        self._enclosed = opened

    def tell(self, message: Message) -> bool:
        """Send one line; False when it could not be sent whole."""
        line = json.dumps(message).encode() + b"\n"
        enclosed, self._enclosed = self._enclosed, None
        with contextlib.suppress(OSError), enclosed or contextlib.nullcontext():
            numbers = [enclosed.fileno()] if enclosed else []
            return socket.send_fds(self.connection, [line], numbers) == len(line)
        return False


class Clients:
    """All connections. Tells the followers of a command, seldom enough to cost little, that there is output."""

    def __init__(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        self._selector = selector
        self._listener = listener
        self._all: set[Client] = set()
        self._fresh: set[str] = set()
        self._hint_at = 0.0
        selector.register(listener, selectors.EVENT_READ, self)

    def __len__(self) -> int:
        return len(self._all)

    def accept(self) -> None:
        """Take a new connection of our own user; refuse any other."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", peer)
        if uid != os.geteuid():
            connection.close()
            return
        connection.settimeout(0)
        client = Client(connection)
        self._all.add(client)
        self._selector.register(connection, selectors.EVENT_READ, client)

    def drop(self, client: Client) -> None:
        """Forget a connection; what it started goes on."""
        if client in self._all:
            self._all.remove(client)
            self._selector.unregister(client.connection)
            client.connection.close()

    def tell(self, client: Client, message: Message) -> None:
        """Answer; a client that does not read is dropped and finds the rest in the command's folder."""
        if not client.tell(message):
            self.drop(client)

    def note_output(self, key: str) -> None:
        """Remember that a command wrote something."""
        self._fresh.add(key)

    def hint(self, now: float) -> float | None:
        """Tell followers about new output if it is time; the moment of the next hint that is due, if any."""
        if not self._fresh:
            return None
        if now < self._hint_at:
            return self._hint_at
        for client in self._all:
            if client.key in self._fresh:
                # One lost here does no harm: the next hint or the end says the same.
                client.tell({"event": "output"})
        self._fresh.clear()
        self._hint_at = now + _HINT_EVERY_S
        return None

    def tell_end(self, key: str, result: Message) -> None:
        """Tell everybody who follows the command how it ended."""
        for client in [client for client in self._all if client.key == key]:
            client.key = ""
            self.tell(client, {"event": "ended", "result": result})

    def close(self) -> None:
        """End all connections and take no more."""
        for client in list(self._all):
            self.drop(client)
        self._selector.unregister(self._listener)
        self._listener.close()
