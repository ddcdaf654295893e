"""Opens connections to the outside: resolves once, checks every address, connects to what was checked.

Knows no request. Source for chained proxies: RFC 9110 (9.3.6).
"""

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ml_intern.sandbox.broker.heads import MOST_HEAD_BYTES, Broken, read_response, to_bytes
from ml_intern.sandbox.broker.reach import Reach, Refused, Rule, is_address, why_refused

_CONNECT_WITHIN_S = 15.0
_MOST_ADDRESSES = 8


class Stream(NamedTuple):
    """Both ends of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host. Raises OSError."""
Connect = Callable[[str, int], Awaitable[Stream]]
"""A connection to an address. Raises OSError."""


class Unreachable(Exception):
    """An allowed host does not answer; one sentence."""


class Outlet(NamedTuple):
    """How names are resolved and addresses connected to."""

    resolve: Resolve
    connect: Connect

    async def open(self, reach: Reach, rule: Rule, host: str, port: int, *, scheme: str) -> Stream:
        """A connection to the host, through the person's proxy where there is one.

        Behind a proxy the name is the proxy's to resolve: it knows names that we do not. For `http` the connection is
        to the proxy itself, which wants the whole URL.

        Raises:
            Refused: the host has an address that is not public, and the person did not name it.
            Unreachable: it does not resolve or answer.
        """
        if not (proxy := reach.proxy(scheme, host)):
            return await self._first(await self._checked(rule, host, port), host, port)
        facts = urlsplit(proxy)
        through, gate = facts.hostname or "", facts.port or (443 if facts.scheme == "https" else 80)
        if facts.scheme not in {"http", "https"}:
            raise Unreachable(f"A proxy of the kind {facts.scheme!r} cannot be used.")
        stream = await self._first(await self._addresses(through, gate), through, gate)
        if facts.scheme == "https":
            await start_tls(stream, through, reach.ca_file)
        if scheme == "https":
            await _ask_proxy(stream, host, port, authorisation(proxy))
        return stream

    async def _checked(self, rule: Rule, host: str, port: int) -> list[str]:
        addresses = await self._addresses(host, port)
        for address in addresses:
            if not rule.private and (why := why_refused(address)):
                raise Refused(f"{host} has the address {address}: {why}.")
        return addresses

    async def _addresses(self, host: str, port: int) -> list[str]:
        if is_address(host):
            return [host]
        try:
            async with asyncio.timeout(_CONNECT_WITHIN_S):
                found = await self.resolve(host, port)
        except (OSError, TimeoutError, UnicodeError) as error:
            raise Unreachable(f"{host} does not resolve.") from error
        if not found:
            raise Unreachable(f"{host} has no address.")
        return found

    async def _first(self, addresses: list[str], host: str, port: int) -> Stream:
        for address in addresses[:_MOST_ADDRESSES]:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_WITHIN_S):
                    return await self.connect(address, port)
        raise Unreachable(f"{host}:{port} does not answer.")


def authorisation(proxy: str) -> str:
    """What the proxy's URL holds for its Proxy-Authorization header; empty if nothing."""
    facts = urlsplit(proxy)
    if facts.username is None:
        return ""
    pair = f"{unquote(facts.username)}:{unquote(facts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


async def start_tls(stream: Stream, host: str, ca_file: str) -> None:
    """Speak TLS from here on, with the host's certificate checked. Raises Unreachable."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        async with asyncio.timeout(_CONNECT_WITHIN_S):
            await stream.writer.start_tls(context, server_hostname=host)
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"No safe connection to {host}: {error}.") from error


async def by_system(host: str, port: int) -> list[str]:
    """The addresses that this machine's resolver gives."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


async def to_address(address: str, port: int) -> Stream:
    """A plain connection."""
    return Stream(*await asyncio.open_connection(address, port, limit=MOST_HEAD_BYTES))


async def _ask_proxy(stream: Stream, host: str, port: int, credentials: str) -> None:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = (("Host", target), *((("Proxy-Authorization", credentials),) if credentials else ()))
    stream.writer.write(to_bytes(f"CONNECT {target} HTTP/1.1", headers))
    try:
        await stream.writer.drain()
        answer = await read_response(stream.reader, _CONNECT_WITHIN_S)
    except (OSError, TimeoutError, Broken) as error:
        stream.writer.close()
        raise Unreachable(f"The proxy of this network does not answer for {host}.") from error
    if answer.status != 200:
        stream.writer.close()
        raise Unreachable(f"The proxy of this network refuses {host}: {answer.status} {answer.phrase[:80]}.")
