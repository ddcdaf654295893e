"""Stands between a client and a real model server: keeps what went by and when, and may add to a request.

Knows HTTP/1.1 with one request a connection, and nothing of the product. It plays no part: what answers is real.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Adds = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""What a request's JSON body is given besides what is in it, or instead."""


@dataclass
class Passed:
    """One request and its answer. `pieces` are the bytes of the answer and the moment of each (monotonic seconds)."""

    path: str
    body: dict[str, Any]
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    left: bool = False

    @property
    def status(self) -> int:
        """The answer's status, 0 before there is one."""
        head = b"".join(piece for _, piece in self.pieces)[:12]
        return int(head[9:12] or 0)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The answer's server-sent events that are JSON."""
        data = _unchunked(b"".join(piece for _, piece in self.pieces).partition(b"\r\n\r\n")[2])
        return [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: {")]

    @property
    def text(self) -> str:
        """The visible text of the answer."""
        deltas = [choice["delta"] for event in self.events for choice in event.get("choices", ())]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def usage(self) -> dict[str, int]:
        """What the server counted."""
        return next(event["usage"] for event in reversed(self.events) if event.get("usage"))


class Relay:
    """A server on this machine in front of another, for `async with`; `url` is its base URL."""

    def __init__(self, upstream: str, adds: Adds = lambda _: {}) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._adds = adds
        self.passed: list[Passed] = []
        self.url = ""

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def chats(self) -> list[Passed]:
        """The requests to the model, in order."""
        return [each for each in self.passed if each.path.endswith("/chat/completions")]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            first, _, rest = head.decode("latin-1").partition("\r\n")
            fields = dict(line.lower().split(": ", 1) for line in rest.splitlines() if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            path = first.split()[1]
            sent = json.loads(body) if body else {}
            passed = Passed(path, sent)
            self.passed.append(passed)
            if path.endswith("/chat/completions"):
                body = json.dumps({**sent, **self._adds(sent)}).encode()
            kept = [
                f"{name}: {value}" for name, value in fields.items() if name not in {"content-length", "connection"}
            ]
            lines = [first, *kept, f"content-length: {len(body)}", "connection: close", "", ""]
            await self._pump(reader, writer, "\r\n".join(lines).encode("latin-1") + body, passed)
        writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, passed: Passed
    ) -> None:
        """Bytes of the answer as they come; a client that leaves takes the server's work with it."""
        theirs, ours = await asyncio.open_connection(*self._upstream)
        ours.write(request)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            while True:
                more = asyncio.ensure_future(theirs.read(65536))
                await asyncio.wait({more, gone}, return_when=asyncio.FIRST_COMPLETED)
                if not more.done():
                    more.cancel()
                    passed.left = True
                    return
                if not (piece := more.result()):
                    return
                passed.pieces.append((time.monotonic(), piece))
                writer.write(piece)
                await writer.drain()
        finally:
            gone.cancel()
            ours.close()


def _unchunked(data: bytes) -> bytes:
    """A chunked body as it was meant (RFC 9112, 7.1); what was not chunked, as it is."""
    whole = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            return whole + data
        whole, data = whole + rest[:length], rest[length + 2 :]
    return whole
