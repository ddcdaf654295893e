"""Without a model the way on is told, in three lines, quickly."""

import asyncio
import json
import time

from ml_intern.model.local import local_models, no_model

NOWHERE = {f"{name}_BASE_URL": "http://127.0.0.1:1" for name in ("OLLAMA", "VLLM", "LM_STUDIO", "LLAMACPP")}


def serving(body: bytes, status: str = "200 OK", delay_s: float = 0.0, asked: list[str] | None = None):
    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        (asked if asked is not None else []).append(head.decode())
        await asyncio.sleep(delay_s)
        writer.write(f"HTTP/1.0 {status}\r\ncontent-type: application/json\r\n\r\n".encode() + body)
        writer.close()

    return asyncio.start_server(answer, "127.0.0.1", 0)


def at(server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


LIST = json.dumps({"object": "list", "data": [{"id": "qwen3:4b"}, {"id": "other"}]}).encode()


async def test_no_server_is_told_as_such():
    error = await no_model(NOWHERE)
    key, local, demo = error.remedy.split("\n")
    assert "hf auth login" in key
    assert "OPENAI_API_KEY" in key
    assert "none answers (ollama 11434, vllm 8000, lm_studio 1234, llamacpp 8080)" in local
    assert "ml-intern demo" in demo


async def test_a_server_that_answers_is_named_so_that_it_can_be_typed():
    asked: list[str] = []
    async with await serving(LIST, asked=asked) as server:
        environ = {**NOWHERE, "OLLAMA_BASE_URL": at(server), "OLLAMA_API_KEY": "k"}
        assert await local_models(environ) == ("ollama/qwen3:4b",)
        assert "--model ollama/qwen3:4b" in (await no_model(environ)).remedy
    assert asked[0].startswith("GET /v1/models HTTP/1.0\r\n")
    assert "Authorization: Bearer k" in asked[0]


async def test_servers_that_answer_otherwise_are_passed_over():
    async with (
        await serving(b"{}") as empty,
        await serving(b"<html>") as page,
        await serving(LIST, "404 Not Found") as lost,
        await serving(LIST, delay_s=0.7) as slow,
    ):
        urls = [at(each) for each in (empty, page, lost, slow)]
        begun = time.perf_counter()
        assert await local_models(dict(zip(NOWHERE, urls, strict=True))) == ()
        assert time.perf_counter() - begun < 0.6
        await asyncio.sleep(0.6)  # the slow one ends on its own


async def test_a_server_elsewhere_is_not_probed():
    assert await local_models({**NOWHERE, "OLLAMA_BASE_URL": "http://gpu.example:11434"}) == ()


async def test_a_variable_that_names_no_address_is_no_reason_to_fail():
    assert await local_models({**NOWHERE, "OLLAMA_BASE_URL": "ftp://x"}) == ()
