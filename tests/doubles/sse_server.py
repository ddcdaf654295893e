"""A server that streams scripted events in the form of Google's generateContent or Mistral's chat, and refuses what
those refuse. Imports nothing of the product.

Sources: google/genai/types.py (GenerateContentResponse), mistralai/client/models (CompletionEvent); the field names are
what the installed clients parse.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

Events = Sequence[dict[str, Any]]


class SseDouble:
    """Answers its n-th request with the n-th script: events, or `(status, headers, body)`. `bodies` is what it got."""

    def __init__(self, *script: Events | tuple[int, dict[str, str], Any], cut_after: int | None = None) -> None:
        self.bodies: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.left = asyncio.Event()
        self._script = list(script)
        self._cut_after = cut_after
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> "SseDouble":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            self.paths.append(lines[0].split(" ")[1])
            self.headers.append(headers)
            self.bodies.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.set()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = self._script.pop(0) if self._script else (500, {}, {"error": {"message": "the script is over"}})
        if isinstance(reply, tuple):
            status, more, body = reply
            text = json.dumps(body).encode()
            fields = {"content-type": "application/json", "content-length": str(len(text)), **more}
            named = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            writer.write(f"HTTP/1.1 {status} X\r\n{named}connection: close\r\n\r\n".encode() + text)
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number, event in enumerate(reply):
            if number == self._cut_after:
                writer.transport.abort()
                return
            if event.get("hang"):
                await reader.read()
                self.left.set()
                return
            data = b"data: " + json.dumps(event).encode() + b"\r\n\r\n"
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
