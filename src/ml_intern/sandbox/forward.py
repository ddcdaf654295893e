"""A port of a session's pod, seen on 127.0.0.1 of this machine by its own user alone, for as long as that is wanted.

The supervisor, which stands in the pod, hands out a connection for each that is made here. Knows no command and no
protocol. Source: unix(7) SCM_RIGHTS, proc_pid_net(5), pidfd_open(2), poll(2).
"""

import asyncio
import contextlib
import errno
import json
import os
import select
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from msgspec import Struct

from ml_intern.base.errors import BadSettings, SandboxError
from ml_intern.sandbox.clients import Message
from ml_intern.sandbox.connection import connect, plug
from ml_intern.sandbox.ports import OURS, ports

MOST_CONNECTIONS = 256
HOST = "127.0.0.1"

_CHUNK = 65_536
_ANSWER_BYTES = 4096
_ANSWER_WITHIN_S = 10.0
_CONNECT_WITHIN_MS = 5_000
_NEXT_PORTS = 100
_HIGHEST = 65_535
# An ordinary user may not listen below it: 80 is looked for at 8080, as people do.
_FREE_FOR_ALL, _ABOVE = 1024, 8000
_NO_PEERS = "A connection of another user of this machine was refused."
_TOO_MANY = f"More than {MOST_CONNECTIONS} connections are open: the newest was refused."

_WHY_NOT = {
    "walls": "At sandbox level walls commands have no network, not even localhost: nothing can listen.",
    "none": "At sandbox level none there are no walls: what listens does so at this machine's own localhost.",
}


class Standing(Struct, frozen=True):
    """A session that runs: its supervisor's process id, its level, the ports on which its commands listen."""

    supervisor: int
    level: str
    ports: tuple[int, ...]


async def standing(folder: Path) -> Standing | None:
    """The session of `folder`, None where nothing of it runs. Raises SandboxError."""
    link = connect(folder)
    if link is None:
        return None
    async with link:
        await link.ask({"op": "hello"})
        answer = await link.answer()
    found = await asyncio.to_thread(ports, folder)
    return Standing(link.peer, str(answer["level"]), tuple(found)) if answer else None


async def require(folder: Path, port: int, name: str) -> Standing:
    """The session `name`, whose commands listen on `port`.

    Raises:
        SandboxError: they do not, or this machine's walls are no pod.
        BadSettings: the port is ours.
    """
    if port in OURS:
        raise BadSettings(f"Port {port} is the sandbox's own.", "Name a port on which a command listens.")
    found = await standing(folder)
    if found is None:
        remedy = "A server runs only as long as its session does: forward its port meanwhile."
        raise SandboxError(f"Nothing of session {name} runs.", remedy)
    if found.level in _WHY_NOT:
        raise SandboxError(_WHY_NOT[found.level], f"Try http://{HOST}:{port}." if found.level == "none" else "")
    if port not in found.ports:
        listening = f"Listening: {', '.join(map(str, found.ports))}." if found.ports else "No command of it listens."
        raise SandboxError(f"Nothing listens on port {port} in session {name}.", listening)
    return found


class Forward:
    """Connections made at `at` here lead to `port` in the pod; `tell` gets a sentence where one does not."""

    def __init__(self, folder: Path, port: int, tell: Callable[[str], None]) -> None:
        self.at = 0
        self._folder = folder
        self._port = port
        self._tell = tell
        self._told = ""
        self._open: set[asyncio.Task[None]] = set()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection that was made here."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def close(self) -> None:
        """Break off what is open."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner = await self._reached(writer)
            if inner is not None:
                await _relay((reader, writer), await asyncio.open_connection(sock=inner, limit=_CHUNK))
        except OSError as error:
            self._say(f"A connection broke off: {error.strerror or error}.")
        except SandboxError as error:
            self._say(error.what)
        finally:
            # What was not read in time must not be sent on: who is left hears of the end at once.
            writer.transport.abort()

    async def _reached(self, writer: asyncio.StreamWriter) -> socket.socket | None:
        if len(self._open) > MOST_CONNECTIONS:
            return self._say(_TOO_MANY)
        peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        if await asyncio.to_thread(owner, peer, own) not in {os.geteuid(), 0}:
            return self._say(_NO_PEERS)
        inner = await asyncio.to_thread(dial, self._folder, self._port)
        if inner is None:
            return self._say(f"Nothing listens on port {self._port} any more; it is tried again at each connection.")
        self._told = ""
        return inner

    def _say(self, what: str) -> None:
        """Once, until something works again."""
        if what != self._told:
            self._tell(what)
        self._told = what


@asynccontextmanager
async def forwarded(folder: Path, port: int, to: int | None, tell: Callable[[str], None]) -> AsyncGenerator[Forward]:
    """`port` of the session of `folder` at port `to` of 127.0.0.1 or, without one, at the same or the next free one.

    Raises:
        BadSettings: `to` cannot be had.
    """
    made = Forward(folder, port, tell)
    listener = _listen(to) if to is not None else _listen_near(port)
    made.at = listener.getsockname()[1]
    server = await asyncio.start_server(made.take, sock=listener, limit=_CHUNK)
    try:
        yield made
    finally:
        server.close()
        await made.close()


async def until_gone(supervisor: int) -> None:
    """Return when the process is gone."""
    gone = asyncio.Event()
    try:
        number = os.pidfd_open(supervisor)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    loop.add_reader(number, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(number)
        os.close(number)


def dial(folder: Path, port: int) -> socket.socket | None:
    """A connection to `port` at the localhost of the session's pod, by IPv4 or else IPv6; None where nobody takes it.

    Blocks. Raises SandboxError where nothing of the session runs, OSError where the supervisor is deaf.
    """
    for six in (False, True):
        found = _handed_out(folder, port, six=six)
        if found is not None and _stands(found):
            return found
    return None


def owner(peer: tuple[str, int], own: tuple[str, int]) -> int | None:
    """The user who made the connection from `peer` to `own` on this machine; None where that cannot be told. Blocks."""
    wanted = [_as_listed(peer), _as_listed(own)]
    rows = (line.split() for line in Path("/proc/self/net/tcp").read_text("ascii").splitlines()[1:])
    return next((int(row[7]) for row in rows if row[1:3] == wanted), None)


def _as_listed(address: tuple[str, int]) -> str:
    (number,) = struct.unpack("=I", socket.inet_aton(address[0]))
    return f"{number:08X}:{address[1]:04X}"


def _handed_out(folder: Path, port: int, *, six: bool) -> socket.socket | None:
    plugged = plug(folder)
    if plugged is None:
        raise SandboxError("Nothing of the session runs any more.")
    connection, _ = plugged
    with connection:
        connection.settimeout(_ANSWER_WITHIN_S)
        connection.sendall(json.dumps({"op": "forward", "port": port, "six": six}).encode() + b"\n")
        line, numbers, _, _ = socket.recv_fds(connection, _ANSWER_BYTES, 1)
    if numbers:
        return socket.socket(fileno=numbers[0])
    answer = cast("Message", json.loads(line or b"{}"))
    if answer.get("event") == "nobody":
        return None
    raise SandboxError(f"The supervisor refused: {answer.get('why', 'it hung up')}.")


def _stands(dialled: socket.socket) -> bool:
    poll = select.poll()
    poll.register(dialled, select.POLLOUT)
    if poll.poll(_CONNECT_WITHIN_MS) and not dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return True
    dialled.close()
    return False


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise BadSettings(f"Port {port} of this machine {why}.", "Name another one with --to, or none.") from error


def _listen_near(port: int) -> socket.socket:
    first = port if port >= _FREE_FOR_ALL or os.geteuid() == 0 else port + _ABOVE
    for near in range(first, min(first + _NEXT_PORTS, _HIGHEST + 1)):
        with contextlib.suppress(BadSettings):
            return _listen(near)
    return _listen(0)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _relay(outer: Stream, inner: Stream) -> None:
    """Both directions until both are over; where one breaks off, so does the other."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(outer[0], inner[1]))
            both.create_task(_copy(inner[0], outer[1]))
        await _parted(outer[1])
        await _parted(inner[1])
    except* OSError:
        # One of them hung up before its time, as browsers do all day.
        pass
    finally:
        inner[1].transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(_CHUNK):
        target.write(piece)
        # Who reads slowly slows the one who writes.
        await target.drain()
    if target.can_write_eof():
        target.write_eof()


async def _parted(writer: asyncio.StreamWriter) -> None:
    """All that was written has left us."""
    writer.close()
    await writer.wait_closed()
