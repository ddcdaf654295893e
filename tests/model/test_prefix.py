"""What providers can cache: over a hundred steps a request begins with the bytes of the one before, and on the
doubles' own accounting nine tenths of the prompt tokens are cached."""

import re

import pytest

from ml_intern.model.catalog import resolve
from ml_intern.model.port import Request, ToolSpec
from ml_intern.model.wire.chat import ChatModel
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.messages import MessagesModel
from ml_intern.model.wire.turns import TurnEncoder
from ml_intern.record.messages import Answered, Asked, Call, Message, Opaque, Reply, Text, Thinking
from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import Double

STEPS = 100
TOOLS = (ToolSpec("bash", "Runs a command. " * 20, {"type": "object", "properties": {"command": {"type": "string"}}}),)
MARK = re.compile(rb',\s*"cache_control":\{"type":"ephemeral"\}')
# A marked text of the chat form is a list of one part; without marks it is the text itself.
PART = re.compile(rb'\[\{"type":"text","text":("(?:[^"\\]|\\.)*"),"cache_control":\{"type":"ephemeral"\}\}\]')


def grown(step: int) -> list[Message]:
    """What one more step adds; now and then somebody says something, too, and another model answers."""
    call = Call(f"c{step}", f"call_{step}", "bash", f'{{"command": "step {step}"}}')
    thought = Thinking("hm", "reasoning_content", Opaque("x"))
    reply = Reply((thought, Text(f"Step {step}."), call), by="other/model" if step % 7 == 0 else "")
    said: list[Message] = [Asked(f"and {step}")] if step % 10 == 9 else []
    return [reply, Answered(call.id, call.wire_id, "bash", f"out of {step} " * 40), *said]


def requests():
    messages: list[Message] = [Asked("begin " * 50)]
    for step in range(STEPS):
        yield Request("system " * 600, TOOLS, messages, 4_096, "s")
        messages = [*messages, *grown(step)]


def plain(body: bytes, *, is_chat: bool) -> bytes:
    """All but the marks, up to the end of the messages."""
    body = PART.sub(rb"\1", body) if is_chat else body
    return MARK.sub(b"", body).rpartition(b"]")[0]


@pytest.mark.parametrize(
    ("encoder", "model"),
    [
        (Encoder, "openai-compatible/m"),
        (Encoder, "openrouter/anthropic/claude-opus-4-8"),
        (TurnEncoder, "anthropic-compatible/m"),
    ],
)
def test_a_request_begins_with_the_bytes_of_the_one_before_over_a_hundred_steps(encoder, model):
    encode, before = encoder(resolve(model, "http://127.0.0.1:1/v1", {})), b""
    for request in requests():
        now = plain(encode.body(request, {}), is_chat=encoder is Encoder)
        # A turn of the model's or the user's is closed by a bracket or two, which the next one moves on.
        assert now.startswith(before.rstrip(b"]}")), request.messages[-1]
        before = now
    assert len(before) > 40_000


async def share(double, model) -> float:
    async with double:
        made = model(double.url)
        for request in requests():
            async for _ in made.ask(request):
                pass
        await made.aclose()
        found = double.exchanges
    assert len(found) == STEPS
    return sum(each.cached_tokens for each in found) / sum(each.prompt_tokens for each in found)


async def test_nine_tenths_of_a_hundred_steps_are_cached_by_chat_completions():
    double = Double([{"reply": {"text": "ok"}}])
    assert await share(double, lambda url: ChatModel(resolve("openai-compatible/m", url, {}))) >= 0.9


async def test_nine_tenths_of_a_hundred_steps_are_cached_by_messages():
    double = AnthropicDouble([{"reply": {"text": "ok"}}])
    assert await share(double, lambda url: MessagesModel(resolve("anthropic-compatible/m", url, {}))) >= 0.9


def test_only_models_of_anthropics_behind_openrouter_are_marked_and_never_more_than_four_times():
    for model, marks in (("openrouter/anthropic/claude-opus-4-8", 3), ("openrouter/openai/gpt-5", 0)):
        encode = Encoder(resolve(model, "http://127.0.0.1:1/v1", {}))
        *_, last = requests()
        assert encode.body(last, {}).count(b"cache_control") == marks
        assert encode.body(last, {}, is_marked=False).count(b"cache_control") == 0
