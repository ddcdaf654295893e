"""The proxy for commands: CONNECT to allowed hosts, and plain requests passed on. It never opens TLS.

Source: RFC 9110 (9.3.6), RFC 9112 (3.2.2).
"""

import asyncio
from urllib.parse import urlsplit

from ml_intern.sandbox.broker import bodies, heads
from ml_intern.sandbox.broker.egress import Account
from ml_intern.sandbox.broker.heads import CHUNK, IDLE_S, Broken, Request
from ml_intern.sandbox.broker.hello import read_hello
from ml_intern.sandbox.broker.outlet import Outlet, Stream, authorisation
from ml_intern.sandbox.broker.reach import Reach, Refused, is_address, to_host

_PLAIN = ("GET", "HEAD", "OPTIONS")


async def pass_on(client: Stream, request: Request, reach: Reach, outlet: Outlet, account: Account) -> None:
    """Serve one request to its end. Raises Refused, Unreachable, Broken, OSError, TimeoutError."""
    if request.method == "CONNECT":
        await _connect(client, request, reach, outlet, account)
    else:
        await _forward(client, request, reach, outlet, account)


async def _connect(client: Stream, request: Request, reach: Reach, outlet: Outlet, account: Account) -> None:
    name, _, port = request.target.rpartition(":")
    account.asked, account.host = "CONNECT", name
    if not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise Refused(f"{request.target[:80]!r} names no host and port.", "Ask for host:443.", 400)
    account.port = int(port)
    account.host = host = to_host(name)
    rule = reach.rule(host, account.port)
    remote = await outlet.open(reach, rule, host, account.port, scheme="https")
    try:
        client.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await client.writer.drain()
        hello = await _hello(client.reader, host)
        account.verdict = "allowed"
        remote.writer.write(hello)
        account.sent += len(hello)
        await _relay(client, remote, account)
    finally:
        remote.writer.close()


async def _hello(reader: asyncio.StreamReader, host: str) -> bytes:
    """The client's first message, which must ask for the very host it was let through to. Raises Refused."""
    try:
        async with asyncio.timeout(heads.HEAD_WITHIN_S):
            name, raw = await read_hello(reader)
    except Broken as error:
        raise Refused(f"The tunnel to {host} carries no TLS: {error}.", status=0) from error
    except (asyncio.IncompleteReadError, TimeoutError) as error:
        raise Broken("the client began no TLS") from error
    # Addresses are never named there (RFC 6066, 3).
    if name.removesuffix(".") != host and not (name == "" and is_address(host)):
        raise Refused(f"The tunnel to {host} asks for {name or 'no name'}.", status=0)
    return raw


async def _forward(client: Stream, request: Request, reach: Reach, outlet: Outlet, account: Account) -> None:
    account.asked = request.method
    try:
        url = urlsplit(request.target)
        scheme, netloc, port = url.scheme, url.hostname or "", url.port or 80
    except ValueError as error:
        raise Refused("The URL cannot be read.", "Send a plain one.", 400) from error
    account.host, account.port = netloc, port
    if scheme != "http" or url.username is not None:
        raise Refused("This proxy takes http://host/path and CONNECT.", "Use one of them.", 400)
    account.host = host = to_host(f"[{netloc}]" if ":" in netloc else netloc)
    rule = reach.rule(host, port)
    if request.method not in _PLAIN or request.length:
        raise Refused(f"{request.method} to {host} without TLS is not passed on.", "Use https.")
    remote = await outlet.open(reach, rule, host, port, scheme="http")
    try:
        head = _head(request, reach, host, port)
        account.verdict = "allowed"
        account.sent = len(head)
        remote.writer.write(head)
        # One request a connection: what follows is never read, so nothing can be hidden behind it.
        await _answer(client, remote, request.method, account)
    finally:
        remote.writer.close()


def _head(request: Request, reach: Reach, host: str, port: int) -> bytes:
    shown = f"[{host}]" if ":" in host else host
    shown = shown if port == 80 else f"{shown}:{port}"
    url = urlsplit(request.target)
    path = f"{url.path or '/'}{f'?{url.query}' if url.query else ''}"
    own = [("Host", shown), ("Connection", "close")]
    proxy = reach.proxy("http", host)
    if proxy and (credentials := authorisation(proxy)):
        own.append(("Proxy-Authorization", credentials))
    kept = tuple((key, value) for key, value in heads.end_to_end(request.headers) if key.lower() != "host")
    return heads.to_bytes(f"{request.method} {f'http://{shown}{path}' if proxy else path} HTTP/1.1", (*own, *kept))


async def _answer(client: Stream, remote: Stream, method: str, account: Account) -> None:
    answer = await heads.read_response(remote.reader, IDLE_S)
    head = bodies.head(method, answer, heads.end_to_end(answer.headers))
    account.received += len(head)
    client.writer.write(head)
    if bodies.has_one(method, answer):
        async for piece in bodies.pieces(remote.reader, answer):
            account.received += len(piece)
            await bodies.send(client.writer, answer, piece)
        await bodies.finish(client.writer, answer)
    await client.writer.drain()


async def _relay(client: Stream, remote: Stream, account: Account) -> None:
    """Both directions until both are over, or both are silent for long."""
    now = asyncio.get_running_loop().time
    quiet = asyncio.timeout(IDLE_S)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, outwards: bool) -> None:
        while piece := await source.read(CHUNK):
            quiet.reschedule(now() + IDLE_S)
            account.sent += len(piece) if outwards else 0
            account.received += 0 if outwards else len(piece)
            target.write(piece)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()

    try:
        async with quiet, asyncio.TaskGroup() as both:
            both.create_task(copy(client.reader, remote.writer, outwards=True))
            both.create_task(copy(remote.reader, client.writer, outwards=False))
    except* OSError:
        account.why = "One side broke off, or both were silent for long."
