"""A server that answers with exactly the bytes it was given, and notes when its client leaves."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

from ml_intern.model.catalog import resolve
from ml_intern.model.port import Finished, Model, Request, ToolSpec
from ml_intern.model.wire.chat import ChatModel
from ml_intern.record.messages import Asked, Message

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BASH = ToolSpec("bash", "Run a command.", {"type": "object", "properties": {"command": {"type": "string"}}})


class Raw:
    """Each request is answered with `pieces`, `pause_s` between them; then the connection waits for the next request,
    closes (where the pieces say so, or `closes`), or stays open without another word (`hangs`)."""

    def __init__(self, *pieces: bytes, pause_s: float = 0.0, hangs: bool = False, closes: bool = False) -> None:
        self.pieces = pieces
        self.pause_s = pause_s
        self.hangs = hangs
        self.closes = closes or b"connection: close" in b"".join(pieces)
        self._serving: set[asyncio.Task[None]] = set()
        self.heads: list[str] = []
        self.bodies: list[Any] = []
        self.connections = 0
        self.answering = asyncio.Event()
        self.left_at: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def __aenter__(self) -> "Raw":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain callback: asyncio prints a traceback when a coroutine that it started itself is cancelled.
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            if not self.left_at.done():
                self.left_at.set_result(time.perf_counter())
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        length = next(
            int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")
        )
        self.bodies.append(json.loads(await reader.readexactly(length)))
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            self.answering.set()
            await asyncio.sleep(self.pause_s)
        self.answering.set()
        if self.hangs:
            await reader.read()
            return False
        return not self.closes


def sse(*events: Any, end: str = "data: [DONE]\n\n") -> bytes:
    """Events as the OpenAI API sends them; a text stands as it is."""
    lines = [each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in events]
    return ("".join(lines) + end).encode("utf-8", "surrogatepass")


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream (openai 3.x, types/chat/chat_completion_chunk.py)."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice], **more}


def usage(prompt: int = 12, completion: int = 5, **more: Any) -> dict[str, Any]:
    """The last chunk of a stream with include_usage."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [], "usage": counts}


def call(
    index: int | None = None, wire_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    """One entry of `tool_calls`; what is None is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    entry = {"index": index, "id": wire_id, "type": "function", "function": function}
    return {key: value for key, value in entry.items() if value is not None}


def request(
    *messages: Message, version: int = 0, system: str = "Be brief.", tools: Sequence[ToolSpec] = (BASH,)
) -> Request:
    return Request(system, tools, messages or (Asked("Hello"),), 1000, "s-1", version)


def model_at(url: str, name: str = "openai-compatible/m", idle_s: float = 5.0, **environ: str) -> ChatModel:
    return ChatModel(resolve(name, url, environ), idle_s=idle_s)


async def replied(model: ChatModel, asked: Request | None = None) -> tuple[list[Any], Finished]:
    """Every delta, and the end."""
    try:
        return await asked_of(model, asked or request())
    finally:
        await model.aclose()


async def asked_of(model: Model, asked: Request) -> tuple[list[Any], Finished]:
    """Every delta, and the end; the model may be asked again."""
    *deltas, end = [item async for item in model.ask(asked)]
    assert isinstance(end, Finished)
    return deltas, end
