"""The way to a session's supervisor: find it, or start it, and exchange lines with it.

Knows what a supervisor is, not what it is asked.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import Self, cast

from ml_intern.base.errors import SandboxError
from ml_intern.sandbox import boot
from ml_intern.sandbox.clients import SOCKET, Message
from ml_intern.sandbox.limits import Limits

LOG = "supervisor.log"
_LONGEST_ANSWER = 16 * 1024 * 1024
_CHUNK = 65_536
_START_TIMEOUT_S = 20.0
_CONNECT_TIMEOUT_S = 10.0
_AGAIN_S = 0.01


class Link:
    """One connection to the supervisor. Bare, without a stream's layers: each command has one of its own."""

    def __init__(self, connection: socket.socket, peer: int) -> None:
        self.peer = peer
        self._connection = connection
        self._pending = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()

    async def ask(self, message: Message) -> None:
        """Send one request; a connection that broke shows in `answer`."""
        with contextlib.suppress(ConnectionError):
            line = json.dumps(message).encode() + b"\n"
            await asyncio.get_running_loop().sock_sendall(self._connection, line)

    async def answer(self) -> Message | None:
        """The next line, or None when the supervisor has hung up."""
        while b"\n" not in self._pending:
            try:
                piece = await asyncio.get_running_loop().sock_recv(self._connection, _CHUNK)
            except ConnectionError:
                return None
            self._pending += piece
            if not piece or len(self._pending) > _LONGEST_ANSWER:
                return None
        line, _, self._pending = self._pending.partition(b"\n")
        return cast("Message", json.loads(line))


def connect(folder: Path) -> Link | None:
    """A connection to the session's supervisor, or None if nobody listens. Raises SandboxError if it is not ours."""
    found = plug(folder)
    return Link(*found) if found else None


def plug(folder: Path) -> tuple[socket.socket, int] | None:
    """The bare, non-blocking socket of `connect`, and the supervisor's process id. Raises SandboxError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        try:
            # A path through the descriptor stays below the 108 bytes a socket address holds.
            connection.connect(f"/proc/self/fd/{place}/{SOCKET}")
        finally:
            os.close(place)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise SandboxError(f"The session's supervisor cannot be reached: {error.strerror}.") from error
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid != os.geteuid():
        connection.close()
        raise SandboxError(f"User {uid} listens in the session folder {folder}.", "Move the session folder away.")
    return connection, pid


async def connect_or_start(folder: Path, level: str, limits: Limits) -> Link:
    """A connection to the session's supervisor, which is started if need be. Raises SandboxError."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _CONNECT_TIMEOUT_S
    while loop.time() < give_up_at:
        if link := connect(folder):
            return link
        await asyncio.to_thread(_start, folder, level, limits)
        if link := connect(folder):
            return link
        # Somebody else's supervisor is starting or just ending.
        await asyncio.sleep(_AGAIN_S)
    raise SandboxError("The session's supervisor does not answer.", f"See {folder / LOG}.")


def _start(folder: Path, level: str, limits: Limits) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = (folder / LOG).open("ab")
    except OSError as error:
        raise SandboxError(f"The session folder {folder} cannot be written: {error.strerror}.") from error
    command = boot.command_line("ml_intern.sandbox.supervisor", str(folder), level, json.dumps(limits._asdict()))
    # Nothing of our environment, which may hold keys, except what Python itself may need to start.
    env = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    with log:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                start_new_session=True,
                timeout=_START_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SandboxError("The session's supervisor did not start in time.", f"See {folder / LOG}.") from error
    if done.returncode:
        last = (folder / LOG).read_text(errors="replace").strip().rpartition("\n")[2]
        why = last or "it wrote no reason, as where the disk is full or somebody killed it"
        raise SandboxError(f"The session's supervisor did not start: {why}.", f"See {folder / LOG}.")
