"""The real command line with a real model: llama.cpp's server and small weights, both from packages (`make test-llm`).

The model is far too small to work; what it says is of no interest. That it is asked, streamed, counted, priced, stopped
and made to call as any other is. Where a call is wanted the server forces it: a relay adds a grammar to the request,
which every token must obey. The weights' own template has no place for tools, so calls go in words.
"""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_intern.record.events import ModelReplied, ModelStopped, TurnEnded
from tests.doubles.relay import Adds, Relay
from tests.walks.test_interrupts import FELT_S, PRESSED, crowd
from tests.walks.walk import Done, Walk, open_ends, until

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".cache" / "llm"
WINDOW = 6144
"""Less than the 8 192 that the weights were trained for: what is served is what counts."""
MODEL = ("--model", "llamacpp/smollm2", "--tools", "bash")
COMMAND = "printf 42 > answer.txt"
STEADY = {"temperature": 0, "seed": 1}
SHORT = {**STEADY, "grammar": 'root ::= [A-Z] [a-z ]{20,60} "."'}
"""So small a model does not know when to end."""
CALL = json.dumps({"name": "bash", "arguments": {"command": COMMAND}})
FORMS = {"the block that it was told of": f"```tool_call\n{CALL}\n```", "tags": f"<tool_call>\n{CALL}\n</tool_call>"}

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Server:
    """A llama.cpp server that runs."""

    url: str

    def told(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    if not (PLACE / "ready").is_file():
        pytest.skip("no model server and no weights here (`make test-llm` installs them): a real model was NOT tested")
    program = [str(PLACE / "bin" / "python"), str(ROOT / "tests" / "live" / "llama_server.py"), "--window", str(WINDOW)]
    process = subprocess.Popen(program, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            pytest.skip(f"the model server does not run on this machine (exit {process.wait()}): NOT tested")
        yield Server(url)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
async def walk(tmp_path: Path):
    walk = Walk(tmp_path)
    yield walk
    await walk.close()


def forcing(form: str) -> Adds:
    """Whatever is asked first must be answered with `form`; after the call's answer a few words will do."""

    def adds(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if any(message["role"] == "assistant" for message in body["messages"]):
            return SHORT
        return {**STEADY, "grammar": f"root ::= {json.dumps(form)}"}

    return adds


async def finished(walk: Walk, prompt: str, relay: Relay) -> Done:
    """A run to its end; on one slow core a long prompt takes its time."""
    return await (await walk.start(prompt, *MODEL, "--base-url", relay.url)).ended(within_s=400)


def note(what: str, figure: float, unit: str) -> None:
    sys.stdout.write(f"{what}: {figure:.1f} {unit}\n")


async def test_a_reply_streams_is_counted_as_the_server_counts_it_and_is_free(server: Server, walk: Walk):
    async with Relay(server.url, lambda _: SHORT) as relay:
        done = await finished(walk, "Say hello.", relay)
    assert done.code == 0, done.said
    (chat,) = relay.chats
    (reply,) = [entry.event for entry in await walk.entries() if isinstance(entry.event, ModelReplied)]
    assert reply.usage is not None
    assert reply.usage.prompt == chat.usage["prompt_tokens"] > 100
    assert reply.usage.output == chat.usage["completion_tokens"] > 1
    assert reply.reply.text == chat.text == done.out.strip()
    assert 0 < reply.first_ms < reply.total_ms
    moments = [at for at, piece in chat.pieces if b'"content"' in piece]
    assert len(moments) >= min(reply.usage.output, 3)
    assert (reply.cost, reply.bound) == (0, False)
    assert "free" in done.err
    assert chat.body["stream"] is True
    assert chat.body["max_tokens"] > 0
    note("prompt", reply.usage.prompt, "tokens")
    note("first token after", reply.first_ms, "ms")
    note("then", (reply.usage.output - 1) / max(moments[-1] - moments[0], 1e-3), "tokens/s")


async def test_the_window_is_the_one_that_is_served(server: Server, walk: Walk):
    assert server.told("/props")["default_generation_settings"]["n_ctx"] == WINDOW
    async with Relay(server.url, lambda _: SHORT) as relay:
        done = await finished(walk, "Say hello.", relay)
    assert done.code == 0, done.said
    chosen = (await walk.view()).settings.models["main"]
    assert chosen.window == WINDOW


@pytest.mark.parametrize("form", FORMS)
async def test_a_call_that_the_server_forces_runs_and_its_answer_goes_back(form: str, server: Server, walk: Walk):
    async with Relay(server.url, forcing(FORMS[form])) as relay:
        done = await finished(walk, "Write the answer.", relay)
    assert done.code == 0, done.said
    (answer,) = await walk.answers()
    assert answer.outcome == "ok", answer.text
    assert (walk.workspace / "answer.txt").read_text() == "42"
    asked, followed = relay.chats
    assert asked.text == FORMS[form]
    *_, called, answered = followed.body["messages"]
    assert COMMAND in called["content"]
    assert "Answer of bash" in answered["content"]
    note("a call and what followed", done.seconds, "s")


async def test_a_model_whose_template_has_no_place_for_tools_is_told_of_them_in_words(server: Server, walk: Walk):
    assert server.told("/props")["chat_template_caps"]["supports_tools"] is False
    async with Relay(server.url, lambda _: SHORT) as relay:
        done = await finished(walk, "Say hello.", relay)
    assert done.code == 0, done.said
    (chat,) = relay.chats
    assert "tools" not in chat.body
    assert "```tool_call" in chat.body["messages"][0]["content"]


async def test_ctrl_c_in_a_long_answer_ends_at_once_and_the_session_goes_on(server: Server, walk: Walk):
    async with Relay(server.url, lambda _: {**STEADY, "ignore_eos": True}) as relay:
        running = await walk.start("Tell a very long story.", *MODEL, "--base-url", relay.url)
        await until(lambda: bool(relay.chats) and len(relay.chats[0].text) > 40, within_s=300)
        pressed = running.interrupt()
        done = await running.ended()
        took_s = time.monotonic() - pressed
        await until(lambda: relay.chats[0].left)
    assert done.code in PRESSED, done.said
    assert took_s <= FELT_S * crowd()
    entries = await walk.entries()
    (stopped,) = [entry.event for entry in entries if isinstance(entry.event, ModelStopped)]
    assert stopped.text
    assert relay.chats[0].text.startswith(stopped.text.rstrip())
    assert (stopped.cost, open_ends(entries)) == (0, [])
    note("from Ctrl+C to the end of the process", took_s * 1000, "ms")
    async with asyncio.timeout(30):
        while (await asyncio.to_thread(server.told, "/slots"))[0]["is_processing"]:
            await asyncio.sleep(0.05)

    async with Relay(server.url, lambda _: SHORT) as relay:
        again = ("resume", "last", "Thank you.", "--model", "llamacpp/smollm2", "--base-url", relay.url)
        done = await (await walk.start(*again)).ended(within_s=400)
    assert done.code == 0, done.said
    ended = [entry.event for entry in await walk.entries() if isinstance(entry.event, TurnEnded)]
    assert [each.reason for each in ended] == ["interrupted", "done"]
    assert stopped.text.strip() in str(relay.chats[0].body["messages"])
