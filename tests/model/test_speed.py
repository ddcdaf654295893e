"""What the wire costs: a request what is new in it, a stream little more than its JSON, an import that of httpx2."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable

import httpx2
import pytest

from ml_intern.model.catalog import resolve
from ml_intern.model.wire.encode import Encoder
from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, Text
from tests.model.raw import HEAD, Raw, chunk, model_at, replied, request, sse, usage

pytestmark = pytest.mark.speed

DELTAS = 20_000


def best_of(times: int, act: Callable[[], object]) -> float:
    """The quickest, in seconds: what the machine's other work adds is not ours."""

    def once() -> float:
        begun = time.perf_counter()
        act()
        return time.perf_counter() - begun

    return min(once() for _ in range(times))


def conversation(steps: int) -> list[Message]:
    messages: list[Message] = [Asked("Train a model.")]
    for step in range(steps):
        call = Call(f"{step}", f"call_{step}", "bash", json.dumps({"command": f"echo {step} " + "x" * 200}))
        messages += [
            Reply((Text(f"Step {step}. " * 10), call)),
            Answered(call.id, call.wire_id, "bash", "line of output\n" * 60),
        ]
    return messages


def cost_of_a_step(steps: int) -> float:
    encoder = Encoder(resolve("openai-compatible/m", "http://127.0.0.1:1", {}))
    messages = conversation(steps)
    encoder.body(request(*messages), {})

    def step() -> None:
        messages.extend(conversation(1)[1:])
        asked = request(*messages)
        encoder.body(asked, {})

    return best_of(20, step)


def test_a_step_costs_what_is_new_in_it():
    late, early = cost_of_a_step(500), cost_of_a_step(5)
    print(f"encoding a step after 1 000 messages: {late * 1000:.2f} ms; after 10: {early * 1000:.2f} ms")
    # What is left is the joining of the bytes, about a megabyte of them.
    assert late - early <= 0.001 + joining(500)


def joining(steps: int) -> float:
    rows = [b"x" * 1100] * (2 * steps)
    return best_of(20, lambda: b",".join(rows))


async def test_20_000_deltas_cost_at_most_three_times_the_floor():
    events = [chunk({"content": f"tok{n % 10} "}) for n in range(DELTAS)]
    pieces = [sse(*events[at : at + 20], end="") for at in range(0, DELTAS, 20)]
    ratios: list[float] = []
    async with Raw(HEAD, *pieces, sse(chunk({}, "stop"), usage())) as server:
        for _ in range(5):
            floor, ours = await floor_of(server.url), await cost_of(server.url)
            ratios.append(ours / floor)
    print(f"{DELTAS:,} deltas: {min(ratios):.2f} to {max(ratios):.2f} times the floor")
    assert min(ratios) <= 3


async def floor_of(url: str) -> float:
    begun, events = time.perf_counter(), 0
    async with (
        httpx2.AsyncClient(trust_env=False) as client,
        client.stream("POST", f"{url}/chat/completions", content=b"{}") as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                json.loads(line[6:])
                events += 1
    assert events == DELTAS + 2
    return time.perf_counter() - begun


async def cost_of(url: str) -> float:
    begun, model = time.perf_counter(), model_at(url)
    _, end = await replied(model)
    assert len(end.reply.text) == DELTAS * 5
    return time.perf_counter() - begun


def test_the_wire_is_imported_in_little_more_than_httpx2_takes():
    floor = "import httpx2, httpcore2._backends.anyio, anyio._backends._asyncio"
    ours, theirs = (
        best_of(3, lambda code=code: subprocess.run([sys.executable, "-c", code], check=True))
        for code in ("import ml_intern.model.wire.chat", floor)
    )
    print(f"import of the wire: {ours:.2f} s; of httpx2 alone: {theirs:.2f} s")
    assert ours <= theirs * 1.5 + 0.1


async def test_the_first_request_imports_nothing():
    code = (
        "import asyncio, sys\n"
        "from ml_intern.model.catalog import resolve\n"
        "from ml_intern.model.wire.chat import ChatModel\n"
        "from ml_intern.model.port import Request\n"
        "async def main():\n"
        "    model = ChatModel(resolve('openai-compatible/m', sys.argv[1], {}))\n"
        "    before = set(sys.modules)\n"
        "    async for _ in model.ask(Request('', (), (), 10, 's')): pass\n"
        "    print(*sorted(set(sys.modules) - before))\n"
        "asyncio.run(main())\n"
    )
    async with Raw(HEAD, sse(chunk({}, "stop"))) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, server.url, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    assert process.returncode == 0
    heavy = [name for name in out.decode().split() if not name.startswith("encodings")]
    assert len(heavy) <= 3, heavy
