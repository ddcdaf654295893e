"""The wire at work: connections, silence, cancellation, keys; against a raw server and against the double."""

import asyncio
import gc
import json
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import aclosing

import pytest

from ml_intern.base.errors import NotFound, Overflow, RateLimited, Unauthorised, Unreachable
from ml_intern.model.catalog import resolve
from ml_intern.model.port import Model, TextDelta
from ml_intern.model.wire.chat import ChatModel
from ml_intern.record.messages import Answered, Asked, Image, Usage
from tests.doubles.openai_server import Double
from tests.model.raw import HEAD, Raw, asked_of, chunk, model_at, replied, request, sse, usage

HEL = chunk({"content": "Hel"})
KEY = "sk-a-secret-key-of-ours"
LS = {"name": "bash", "arguments": {"command": "ls"}}
KEPT = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(body: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"%x\r\n%s\r\n%s" % (len(body), body, end)


def test_it_is_a_model():
    model: Model = ChatModel(resolve("openai-compatible/m", "http://127.0.0.1:1", {}))
    assert model


# --------------------------------------------------------------------------------------------------------- stopping
async def stopped_by_cancelling(stream):
    async def read():
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def stopped_by_closing(stream):
    await anext(stream)
    await stream.aclose()


async def stopped_by_leaving(stream):
    async with aclosing(stream):
        async for _ in stream:
            break


@pytest.mark.parametrize("stop", [stopped_by_cancelling, stopped_by_closing, stopped_by_leaving])
async def test_the_server_sees_within_50_ms_that_a_reply_is_no_longer_wanted(stop):
    async with Raw(HEAD, sse(HEL, end=""), hangs=True) as server:
        model = model_at(server.url)
        begun = asyncio.get_running_loop().time()
        await stop(model.ask(request()))
        stopped = time.perf_counter()
        left = await asyncio.wait_for(server.left_at, 2)
        assert left - stopped < 0.05
        assert asyncio.get_running_loop().time() - begun < 2
        await model.aclose()


async def test_a_wait_for_the_first_byte_can_be_cancelled():
    async with Raw(hangs=True) as server:
        model = model_at(server.url)
        task = asyncio.create_task(anext(model.ask(request())))
        await server.answering.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stopped = time.perf_counter()
        assert await asyncio.wait_for(server.left_at, 2) - stopped < 0.05
        await model.aclose()


# ------------------------------------------------------------------------------------------------- cut, silent, gone
@pytest.mark.parametrize(
    "pieces",
    {
        "closed in mid-stream": (HEAD, sse(HEL, end="")),
        "closed in mid-event": (HEAD, sse(HEL, end="") + b'data: {"choices": [{"del'),
        "closed before the first event": (HEAD,),
        "a chunked stream that is not ended": (KEPT, chunked(sse(HEL, end=""), b"")),
        "no JSON": (HEAD, sse(HEL, "data: {oops\n\n", HEL)),
        "JSON nested too deep": (HEAD, sse(HEL, f"data: {'[' * 100_000}\n\n")),
        "a failure as the reason to finish": (HEAD, sse(HEL, chunk({}, "error"))),
        "the server lacks resources": (HEAD, sse(HEL, chunk({}, "insufficient_system_resource"))),
        "nonsense for HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n",),
        "nothing at all": (b"",),
    }.items(),
    ids=lambda pair: pair[0],
)
async def test_a_broken_stream_is_no_reply_and_may_be_billed(pieces):
    async with Raw(*pieces[1], closes=True) as server:
        with pytest.raises(Unreachable) as caught:
            await replied(model_at(server.url))
    assert caught.value.may_be_billed
    assert caught.value.transient


@pytest.mark.parametrize("pieces", [(), (HEAD,), (HEAD, sse(HEL, end=""))])
async def test_silence_ends_an_attempt(pieces):
    async with Raw(*pieces, hangs=True) as server:
        begun = time.perf_counter()
        with pytest.raises(Unreachable, match="silent") as caught:
            await replied(model_at(server.url, idle_s=0.2))
        assert time.perf_counter() - begun < 2
    assert caught.value.may_be_billed


async def test_a_slow_stream_is_not_silent():
    async with Raw(HEAD, *(sse(HEL, end="") for _ in range(6)), sse(chunk({}, "stop")), pause_s=0.1) as server:
        _, end = await replied(model_at(server.url, idle_s=0.4))
    assert end.reply.text == "Hel" * 6


async def test_a_reply_is_whole_even_if_the_connection_breaks_after_it():
    async with Raw(KEPT, chunked(sse(HEL, chunk({}, "stop"), end=""), b""), closes=True) as server:
        _, end = await replied(model_at(server.url))
    assert (end.reply.text, end.usage) == ("Hel", None)


async def test_usage_that_comes_late_is_waited_for():
    async with Raw(HEAD, sse(HEL, chunk({}, "stop"), end=""), sse(usage()), pause_s=0.2) as server:
        _, end = await replied(model_at(server.url))
    assert end.usage == Usage(12, 5)


async def test_a_server_that_never_closes_after_done_does_not_hold_us():
    async with Raw(KEPT, chunked(sse(HEL, chunk({}, "stop"), usage()), b""), hangs=True) as server:
        begun = time.perf_counter()
        _, end = await replied(model_at(server.url))
    assert end.usage == Usage(12, 5)
    assert time.perf_counter() - begun < 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("ollama/x", "ollama serve"),
        ("vllm/x", "vllm serve"),
        ("lm_studio/x", "lms server start"),
        ("llamacpp/x", "llama-server"),
    ],
)
async def test_a_local_server_that_does_not_run_is_told_with_its_command(name, start):
    with pytest.raises(Unreachable) as caught:
        await replied(model_at(f"http://127.0.0.1:{free_port()}", name))
    assert start in caught.value.remedy
    assert not caught.value.may_be_billed


async def test_a_server_without_tls_is_told_as_such():
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="TLS") as caught:
            await replied(model_at(f"https://127.0.0.1:{port}"))
    assert not caught.value.may_be_billed


async def test_a_certificate_that_no_one_vouches_for_is_told_as_such(tmp_path):
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl to make a certificate")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    making = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2"]
    subprocess.run([openssl, *making, *subject], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"no trusted TLS connection .*self.signed") as caught:
            await replied(model_at(f"https://localhost:{port}"))
    assert "SSL_CERT_FILE" in caught.value.remedy


# -------------------------------------------------------------------------------------------------- what is sent where
async def test_a_key_goes_into_the_header_and_nowhere_else():
    async with Raw(HEAD, sse(HEL, chunk({}, "stop"))) as server:
        model = model_at(server.url, OPENAI_COMPATIBLE_API_KEY=KEY)
        await replied(model)
    assert f"authorization: Bearer {KEY}\r\n".lower() in server.heads[0].lower()
    assert KEY not in json.dumps(server.bodies[0])
    assert KEY not in repr(model._endpoint)


async def test_a_server_that_repeats_the_key_does_not_get_it_into_an_error():
    body = json.dumps({"error": {"message": f"Invalid key {KEY}"}}).encode()
    head = f"HTTP/1.1 401 No\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    async with Raw(head + body) as server:
        with pytest.raises(Unauthorised) as caught:
            await replied(model_at(server.url, OPENAI_COMPATIBLE_API_KEY=KEY))
    chain = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r} {caught.value.what}"
    assert KEY not in chain
    assert "[key]" in caught.value.what


async def test_the_hubs_router_is_told_the_session():
    async with Raw(HEAD, sse(HEL, chunk({}, "stop"))) as server:
        await replied(model_at(server.url, "hf/org/name", HF_TOKEN=KEY))
    assert "x-hf-session-id: s-1" in server.heads[0].lower()
    assert server.bodies[0]["model"] == "org/name"


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with Raw(HEAD, sse(HEL, chunk({}, "stop"))) as server:
        _, end = await replied(model_at(server.url))
    assert end.reply.text == "Hel"


async def test_a_proxy_of_the_environment_is_asked_for_another_machine(monkeypatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with Raw(HEAD, sse(HEL, chunk({}, "stop"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        _, end = await replied(model_at("http://models.example:8000"))
    assert end.reply.text == "Hel"
    assert proxy.heads[0].startswith("POST http://models.example:8000/v1/chat/completions")


async def test_one_connection_serves_many_requests():
    async with Raw(KEPT, chunked(sse(HEL, chunk({}, "stop"), usage()))) as server:
        model = model_at(server.url)
        for _ in range(5):
            _, end = await asked_of(model, request())
            assert end.finish == "stop"
        await model.aclose()
    assert server.connections == 1


async def test_images_are_read_once_and_sent():
    read: list[str] = []

    async def load(image: Image) -> bytes:
        read.append(image.sha)
        return b"\x89PNG"

    asked = Asked("What is this?", (Image("5a", "image/png"),))
    async with Raw(KEPT, chunked(sse(HEL, chunk({}, "stop")))) as server:
        model = ChatModel(resolve("openai-compatible/m", server.url, {}), load_image=load)
        for messages in ((asked,), (asked, Asked("Well?"))):
            assert [item async for item in model.ask(request(*messages))]
        await model.aclose()
    assert read == ["5a"]
    assert all("base64" in json.dumps(body) for body in server.bodies)


async def test_nothing_is_left_behind():
    async with Raw(HEAD, sse(HEL, end=""), hangs=True) as server:
        model = model_at(server.url)
        async for _ in model.ask(request()):
            break
        await model.aclose()
    gc.collect()
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()] == []


# ------------------------------------------------------------------------------------------------------- the double
async def test_a_whole_turn_with_a_strict_server():
    script = [
        {"when": {"step": 0}, "reply": {"thinking": "Hm.", "text": "I look.", "calls": [LS]}},
        {"when": {"step": 1}, "reply": {"text": "One file."}},
    ]
    async with Double(script, prices="1/4") as double:
        model = model_at(double.url)
        _, first = await asked_of(model, request(Asked("Look")))
        (call,) = first.reply.calls
        assert (call.tool, json.loads(call.arguments), first.finish) == ("bash", {"command": "ls"}, "calls")
        answer = Answered(call.id, call.wire_id, "bash", "a.txt")
        deltas, second = await asked_of(model, request(Asked("Look"), first.reply, answer))
        assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == "One file."
        assert second.finish == "stop"
        assert second.usage is not None
        await model.aclose()
        assert [each.how for each in double.exchanges] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (RateLimited, {"status": 429, "retry_after": 3}),
        (Unreachable, {"status": 500}),
        (Unreachable, {"cut_after": 2}),
        (Unreachable, {"end_after": 2}),
        (Unreachable, {"malformed": True}),
        (Unreachable, {"reset": True}),
        (Unreachable, {"reset": True, "after": 2}),
        (Overflow, {"overflow": True}),
        (Unreachable, {"hang": True}),
    ],
)
async def test_the_doubles_faults_have_their_class(kind, fault):
    async with Double([{"fault": fault, "times": 9}, {"reply": {"text": "Hello there, how are you?"}}]) as double:
        with pytest.raises(kind) as caught:
            await replied(model_at(double.url, idle_s=0.5))
    assert caught.value.retry_after_s == (3 if "retry_after" in fault else None)


async def test_a_wrong_key_and_an_unknown_model_of_the_double():
    async with Double([{"reply": {"text": "Hello"}}], key="right", models=["known"]) as double:
        with pytest.raises(Unauthorised):
            await replied(model_at(double.url, "openai-compatible/known", OPENAI_COMPATIBLE_API_KEY="wrong"))
        with pytest.raises(NotFound):
            await replied(model_at(double.url, "openai-compatible/unknown", OPENAI_COMPATIBLE_API_KEY="right"))
        _, end = await replied(model_at(double.url, "openai-compatible/known", OPENAI_COMPATIBLE_API_KEY="right"))
    assert end.reply.text == "Hello"
