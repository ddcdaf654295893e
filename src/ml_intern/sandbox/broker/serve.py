"""The broker's process: takes connections that commands make inside the pod, judges each, and logs it.

Started by the stem on the first connection, as `python -I -S`. Knows no session but its folder's log.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable

from ml_intern.sandbox.broker import egress, heads, hub, outlet, tunnel, uploads
from ml_intern.sandbox.broker.desk import Desk
from ml_intern.sandbox.broker.egress import Account, Egress
from ml_intern.sandbox.broker.heads import Broken, Request
from ml_intern.sandbox.broker.outlet import Outlet, Stream, Unreachable
from ml_intern.sandbox.broker.reach import Reach, Refused, to_reach

COMMANDS = "commands"
"""The folder of the session's commands, below the session's own."""
MOST_CONNECTIONS = 128
MOST_MESSAGE = 1 << 18
_LINGER_S = 2.0

Serve = Callable[[Stream, Request, Reach, Outlet, Account], Awaitable[None]]


class Broker:
    """Serves both doors. Until it is told what may be reached, nothing may."""

    def __init__(self, log: Egress, ways: Outlet, desk: Desk) -> None:
        self.reach = Reach()
        self._desk = desk
        self._log = log
        self._ways = ways
        self._open = 0

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to the proxy's door."""
        await self._serve(Stream(reader, writer), tunnel.pass_on)

    async def hub(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection to the Hub's door."""
        await self._serve(Stream(reader, writer), self._through_hub)

    async def _through_hub(
        self, client: Stream, request: Request, reach: Reach, ways: Outlet, account: Account
    ) -> None:
        if not await uploads.serve(client, request, reach, ways, account, self._desk):
            await hub.serve(client, request, reach, ways, account)

    async def _serve(self, client: Stream, serve: Serve) -> None:
        account = Account()
        self._open += 1
        try:
            refused = await self._judged(client, serve, account)
            # The line first: who is told of a refusal finds it there.
            self._note(account)
            await _tell(client, refused)
        except asyncio.CancelledError:
            if account.asked:
                account.why = account.why or "The session ended."
            self._note(account)
        finally:
            self._open -= 1
            await _part(client)

    async def _judged(self, client: Stream, serve: Serve, account: Account) -> Refused | None:
        """What is left to tell the client; every failure ends in the account."""
        try:
            request = await heads.read_request(client.reader)
            if request is None:
                return None
            account.asked = request.method
            self._require_room()
            await serve(client, request, self.reach, self._ways, account)
        except Refused as refused:
            account.refuse(refused.what)
            return refused
        except Unreachable as error:
            account.fail(str(error))
            return Refused(str(error), "Try again later, or do without it.", 502)
        except Broken as error:
            account.fail(f"It broke off: {error}.")
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            # Either side hung up or fell silent; what went through before is counted.
            account.why = account.why or (str(error) or type(error).__name__)
        return None

    def _note(self, account: Account) -> None:
        if account.asked or account.why:
            self._log.write(account)

    def _require_room(self) -> None:
        if self._open > MOST_CONNECTIONS:
            raise Refused("Too many connections are open.", "Close some of them first.", 503)
        self._log.require_room()


async def _tell(client: Stream, refused: Refused | None) -> None:
    """Answer, unless the tunnel stands: then only the end can be told."""
    if refused and refused.status:
        with contextlib.suppress(OSError):
            client.writer.write(heads.refusal(refused))
            await client.writer.drain()


async def _part(client: Stream) -> None:
    """Close so that the answer arrives: data that was never read would make the kernel reset the connection."""
    with contextlib.suppress(OSError, TimeoutError, RuntimeError):
        if client.writer.can_write_eof():
            client.writer.write_eof()
        async with asyncio.timeout(_LINGER_S):
            while await client.reader.read(heads.CHUNK):
                continue
    client.writer.close()


class _Channel:
    """The way on which the supervisor tells what may be reached; its end is ours."""

    def __init__(self, connection: socket.socket, broker: Broker) -> None:
        self._connection = connection
        self._broker = broker
        self.closed = asyncio.Event()
        connection.setblocking(False)  # noqa: FBT003 - the standard library's own signature

    def read(self) -> None:
        """Take every message that waits."""
        with contextlib.suppress(BlockingIOError):
            while message := self._connection.recv(MOST_MESSAGE):
                self._broker.reach = to_reach(message)
            self.closed.set()


async def _run(channel: socket.socket, doors: list[socket.socket], folder: str) -> None:
    ways = Outlet(outlet.by_system, outlet.to_address)
    broker = Broker(Egress(f"{folder}/{egress.FILE}"), ways, Desk(f"{folder}/{COMMANDS}"))
    told = _Channel(channel, broker)
    told.read()
    asyncio.get_running_loop().add_reader(channel, told.read)
    serving = zip((broker.proxy, broker.hub), doors, strict=True)
    servers = [await asyncio.start_server(each, sock=door, limit=heads.MOST_HEAD_BYTES) for each, door in serving]
    await told.closed.wait()
    for server in servers:
        server.close()
    # Returning cancels what is still open; each connection writes its line first.


def main(arguments: list[str]) -> None:
    """`<channel> <proxy's listener> <Hub's listener> <session folder>`: numbers of inherited descriptors."""
    *numbers, folder = arguments
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel, *doors = (socket.socket(fileno=int(number)) for number in numbers)
    asyncio.run(_run(channel, doors, folder))
