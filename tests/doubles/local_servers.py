"""Local model servers as their clients see them: what each kind says of the models it serves. No model is behind them.

Shapes: Ollama docs/api.md (tags, ps, show, version); llama.cpp tools/server/README.md (props); vLLM
entrypoints/openai/protocol.py (ModelCard); LM Studio REST API v0 (models); TGI router/src/lib.rs (Info). Imports
nothing of the product.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.doubles.http1 import Answer, Request
from tests.doubles.openai_server import Double

Pages = Mapping[str, Any]
"""What is answered, by path: JSON, or a function of the request's JSON."""


@dataclass
class Local:
    """A server that listens: its address, and the first line and headers of what it was asked."""

    url: str
    asked: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [" ".join(head.split()[:2]) for head in self.asked]


class Chatting(Double):
    """A local server that also chats, with one and the same reply; `pages` may be changed while it serves."""

    def __init__(self, pages: Pages, text: str = "Done.") -> None:
        super().__init__([{"reply": {"text": text}}])
        self.pages = pages

    async def __aenter__(self) -> "Chatting":
        await self.start()
        return self

    def answer(self, request: Request) -> Answer:
        page = self.pages.get(request.path)
        if page is None:
            return super().answer(request)
        return Answer(body=json.dumps(page(json.loads(request.body)) if callable(page) else page).encode())


@asynccontextmanager
async def serve(pages: Pages, *, port: int = 0, delay_s: float = 0.0) -> AsyncGenerator[Local]:
    """Serve these pages on this machine; every other path is 404."""
    local = Local("")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # who asked has left
        finally:
            writer.close()

    async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        local.asked.append(head)
        await asyncio.sleep(delay_s)
        page = pages.get(head.split()[1])
        said = page(json.loads(body)) if callable(page) else page
        status = "404 Not Found" if said is None else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n".encode())
        writer.write(json.dumps(said).encode())
        await writer.drain()

    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    async with server:
        local.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield local
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def listed(*names: str, **more: Any) -> dict[str, Any]:
    """OpenAI's list of models, as all of them answer it at /v1/models."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 1, **more} for name in names]}


def ollama(models: Mapping[str, Mapping[str, Any]], loaded: Mapping[str, int] | None = None) -> Pages:
    """`models`: name to what /api/show answers beside the usual; `loaded`: name to the context length it runs with."""

    def show(body: Mapping[str, Any]) -> dict[str, Any] | None:
        facts = models.get(body["model"])
        if facts is None:
            return None
        usual = {"model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40_960}}
        return {**usual, "capabilities": ["completion", "tools"], **facts}

    return {
        "/api/version": {"version": "0.12.0"},
        "/v1/models": listed(*models, owned_by="library"),
        "/api/tags": {"models": [{"name": name, "model": name, "size": 1} for name in models]},
        "/api/ps": {
            "models": [{"name": name, "model": name, "context_length": n} for name, n in (loaded or {}).items()]
        },
        "/api/show": show,
    }


def vllm(*names: str, window: int = 32_768) -> Pages:
    """vLLM with its served window."""
    return {"/v1/models": listed(*names, owned_by="vllm", max_model_len=window), "/version": {"version": "0.11.0"}}


def llamacpp(name: str, window: int = 8192, *, vision: bool | None = None) -> Pages:
    """llama-server: one model, whatever it is asked for; its window is a slot's."""
    modalities = {} if vision is None else {"modalities": {"vision": vision, "audio": False}}
    props = {"default_generation_settings": {"n_ctx": window}, "total_slots": 1, "model_path": name, **modalities}
    return {"/v1/models": listed(name, owned_by="llamacpp", meta={"n_ctx_train": 131_072}), "/props": props}


def lm_studio(*rows: Mapping[str, Any]) -> Pages:
    """LM Studio: everything that was fetched, loaded or not."""
    usual = {"object": "model", "type": "llm", "state": "not-loaded", "max_context_length": 131_072}
    full = [{**usual, **row} for row in rows]
    return {"/v1/models": listed(*(row["id"] for row in full)), "/api/v0/models": {"object": "list", "data": full}}


def tgi(name: str, window: int = 16_384) -> Pages:
    """Text Generation Inference: one model."""
    info = {"model_id": name, "max_total_tokens": window, "max_input_tokens": window - 1, "version": "3.3.6"}
    return {"/v1/models": listed(name, owned_by=name), "/info": info}
