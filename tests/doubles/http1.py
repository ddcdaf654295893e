"""One HTTP/1.1 connection of a double: reads requests, plays answers and faults, notices at once when a client leaves.

Knows no model: what to answer is asked of the house. Sources: RFC 9112; the SSE part of the HTML standard.
"""

import asyncio
import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol, cast

from tests.doubles.script import Fault, Reply

_BATCH = 64  # events of an unpaced stream that share a chunk of HTTP, as they do behind any proxy
_BROKEN = (
    b'data: {"id": "chatcmpl-broken", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"con\n\n'
)
_MAX_HEAD = 65_536
_AT_ONCE = Reply()
_NO_FAULT = Fault("", None)


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request. `began_ns` is when its first byte arrived (monotonic clock)."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    began_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send: a body, or encoded events, at the reply's pace and with the fault. `exchange` is its ledger id."""

    exchange: str = ""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    events: list[bytes] | None = None
    pace: Reply = _AT_ONCE
    fault: Fault | None = None

    def head(self, length: int = 0) -> bytes:
        """Status line and headers; `length` is the body's where it has one."""
        kind = "application/json" if self.events is None else "text/event-stream; charset=utf-8"
        framing = f"content-length: {length}" if self.events is None else "transfer-encoding: chunked"
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}", f"content-type: {kind}", framing]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, f"x-request-id: req_{self.exchange}", "", ""]).encode()


def _phrase(status: int) -> str:
    # 529 (overloaded) stands in no RFC.
    return HTTPStatus(status).phrase if status in {*HTTPStatus} else "Overloaded"


class House(Protocol):
    """Whom a connection belongs to."""

    def answer(self, request: Request) -> Answer:
        """What to send for a request."""
        ...

    def entered(self, connection: "Connection") -> None:
        """A connection was opened."""
        ...

    def left(self, connection: "Connection", failure: BaseException | None) -> None:
        """A connection is closed; `failure` is a fault of the double's own."""
        ...

    def ended(self, answer: Answer, how: str, chunks: int, silent_ms: float | None) -> None:
        """An answer is over."""
        ...


class Connection(asyncio.Protocol):
    """Reads one request after the other; each is played by a task that dies when the client leaves."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._buffer = bytearray()
        self._began_ns = 0
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._gone = False
        self._sent = 0
        self._written_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()
        self._house.entered(self)

    def data_received(self, data: bytes) -> None:
        """More of a request."""
        if not self._buffer:
            self._began_ns = time.monotonic_ns()
        self._buffer += data
        self._next()

    def eof_received(self) -> bool:
        """No client of this protocol closes only its half: it has left, and what was not sent stays unsent."""
        self._leave()
        self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._leave()
        if self._task is None:
            self._house.left(self, None)

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    def stop(self) -> None:
        """The server goes."""
        if self._task:
            self._task.cancel()
        self._transport.abort()

    def _leave(self) -> None:
        self._gone = True
        if self._task:
            self._task.cancel()

    def _next(self) -> None:
        if self._task is None and not self._gone and (request := self._parse()):
            self._task = asyncio.get_running_loop().create_task(self._serve(request))
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        failure = None if task.cancelled() else task.exception()
        if failure:
            self._transport.abort()
        if failure or self._gone:
            self._house.left(self, failure)
        else:
            self._next()

    def _parse(self) -> Request | None:
        head, found, _ = self._buffer[:_MAX_HEAD].partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        start = len(head) + 4
        end = start + int(headers.get("content-length", 0))
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[start:end])
        del self._buffer[:end]
        method, path, _ = first.split(" ", 2)
        return Request(method, path.partition("?")[0], headers, body, self._began_ns)

    async def _serve(self, request: Request) -> None:
        answer = self._house.answer(request)
        self._sent, self._written_ns, how = 0, time.monotonic_ns(), "stopped"
        try:
            how = await self._play(answer)
        except asyncio.CancelledError:
            if self._gone:
                how = "disconnected"
            raise
        finally:
            silent_ms = (time.monotonic_ns() - self._written_ns) / 1e6 if self._gone else None
            self._house.ended(answer, how, self._sent, silent_ms)
        if request.headers.get("connection", "").lower() == "close":
            self._transport.close()

    async def _play(self, answer: Answer) -> str:
        fault = answer.fault or _NO_FAULT
        if fault.kind == "hang":
            await asyncio.Event().wait()
        if answer.pace.delay_ms:
            await asyncio.sleep(answer.pace.delay_ms / 1000)
        if fault.kind == "reset" and fault.after == 0:
            return self._reset()
        if answer.events is None:
            return await self._play_body(answer)
        return await self._play_events(answer, answer.events)

    async def _play_body(self, answer: Answer) -> str:
        fault = answer.fault or _NO_FAULT
        body = answer.body
        if fault.kind == "malformed":
            body = body[: len(body) // 2]
        if fault.kind == "error":
            body = _error(fault)
        half = len(body) // 2
        match fault.kind:
            case "cut_after" | "end_after" | "reset":
                self._write(answer.head(len(body)) + body[:half], 1)
                return self._reset() if fault.kind == "reset" else self._cut()
            case "silence_s":
                self._write(answer.head(len(body)) + body[:half], 1)
                await asyncio.sleep(fault.value)
                self._write(body[half:], 0)
            case _:
                self._write(answer.head(len(body)) + body, 1)
        return _how(answer)

    async def _play_events(self, answer: Answer, events: list[bytes]) -> str:
        fault = answer.fault or _NO_FAULT
        stop = min(fault.after, len(events))
        await self._send(answer, events[:stop], head=answer.head())
        match fault.kind:
            case "cut_after":
                return self._cut()
            case "reset":
                return self._reset()
            case "end_after":
                self._write(b"0\r\n\r\n", 0)
                return "fault"
            case "error":
                await self._send(answer, [b"data: " + _error(fault) + b"\n\n"])
                self._write(b"0\r\n\r\n", 0)
                return "fault"
            case "malformed":
                await self._send(answer, [_BROKEN])
            case "silence_s":
                await asyncio.sleep(fault.value)
            case _:
                pass
        await self._send(answer, events[stop:])
        self._write(b"0\r\n\r\n", 0)
        return _how(answer)

    async def _send(self, answer: Answer, events: list[bytes], head: bytes = b"") -> None:
        pace = answer.pace
        if head and (pace.first_delay_ms or not events):
            self._write(head, 0)
            head = b""
            await asyncio.sleep(pace.first_delay_ms / 1000)
        size = 1 if pace.chunk_delay_ms else _BATCH
        for start in range(0, len(events), size):
            batch = events[start : start + size]
            if pace.chunk_delay_ms and self._sent:
                await asyncio.sleep(pace.chunk_delay_ms / 1000)
            data = b"".join(batch)
            self._write(b"%s%x\r\n%s\r\n" % (head, len(data), data), len(batch))
            head = b""
            # Others get their turn, and a client that has left is noticed between two batches.
            await (asyncio.sleep(0) if self._writable.is_set() else self._writable.wait())

    def _write(self, data: bytes, chunks: int) -> None:
        self._transport.write(data)
        self._written_ns = time.monotonic_ns()
        self._sent += chunks

    def _cut(self) -> str:
        self._transport.close()
        return "fault"

    def _reset(self) -> str:
        with contextlib.suppress(OSError):
            end: socket.socket = self._transport.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        return "fault"


def _error(fault: Fault) -> bytes:
    return json.dumps({"error": fault.value}).encode()


def _how(answer: Answer) -> str:
    if answer.status >= 400:
        return "refused"
    return "fault" if answer.fault else "completed"
