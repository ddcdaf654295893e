"""The messages API at work: turns with a strict server, its errors, its odd streams."""

import json

import pytest

from ml_intern.base.errors import (
    BadRequest,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Unauthorised,
    Unreachable,
)
from ml_intern.model.catalog import resolve
from ml_intern.model.learned import Learned, Lesson
from ml_intern.model.port import CallDelta, Model, TextDelta, ThinkingDelta
from ml_intern.model.wire.messages import MessagesModel
from ml_intern.record.messages import Answered, Asked, Call, Opaque, Reply, Text, Thinking, Usage
from tests.doubles.anthropic_server import AnthropicDouble
from tests.model.raw import HEAD, Raw, asked_of, request

KEY = "sk-ant-a-secret-key-of-ours"
CALLS = [{"name": "bash", "arguments": {"command": word}} for word in ("ls", "pwd")]


def model_at(url: str, name: str = "anthropic/claude-x", idle_s: float = 5.0) -> MessagesModel:
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_COMPATIBLE_API_KEY": KEY}
    return MessagesModel(resolve(name, url, environ), idle_s=idle_s)


async def replied(model: MessagesModel, *messages):
    try:
        return await asked_of(model, request(*messages))
    finally:
        await model.aclose()


def test_it_is_a_model():
    model: Model = model_at("http://127.0.0.1:1")
    assert model


def answers_of(reply: Reply) -> list[Answered]:
    return [Answered(call.id, call.wire_id, call.tool, call.arguments) for call in reply.calls]


# ------------------------------------------------------------------------------------------------------- whole turns
async def test_a_whole_turn_with_a_strict_server_and_its_thinking_goes_back_signed():
    script = [
        {"when": {"step": 0}, "reply": {"redacted": "r", "thinking": "Hm.", "text": "I look.", "calls": CALLS}},
        {"reply": {"text": "{{answer:1}}"}},
    ]
    async with AnthropicDouble(script) as double:
        model = model_at(double.url)
        deltas, first = await asked_of(model, request(Asked("Look")))
        assert "".join(each.text for each in deltas if isinstance(each, ThinkingDelta)) == "Hm."
        assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == "I look."
        assert [part.__class__ for part in first.reply.parts] == [Thinking, Thinking, Text, Call, Call]
        assert (first.finish, first.served_by) == ("calls", "claude-x")
        second = await replied(model, Asked("Look"), first.reply, *answers_of(first.reply))
        assert [each.how for each in double.exchanges] == ["completed", "completed"]
    assert json.loads(second[1].reply.text) == {"command": "pwd"}
    thought = double.bodies[1]["messages"][1]["content"][1]
    assert thought["signature"].startswith("sig-")


async def test_what_is_marked_is_read_from_the_cache_the_next_time():
    async with AnthropicDouble([{"reply": {"text": "Yes. " * 50}}]) as double:
        model = model_at(double.url)
        long = Asked("Read this. " * 1000)
        _, first = await asked_of(model, request(long))
        _, second = await replied(model, long, first.reply, Asked("And?"))
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.cached == 0
    assert second.usage.cached >= 2048
    assert second.usage.prompt > second.usage.cached


async def test_the_key_and_the_version_go_into_headers():
    async with AnthropicDouble([{"reply": {"text": "Hi"}}], key=KEY) as double:
        await replied(model_at(double.url))
        await replied(model_at(double.url, "anthropic-compatible/m"))
    assert double.headers[0]["x-api-key"] == KEY
    assert "authorization" not in double.headers[0]
    assert double.headers[1]["authorization"] == f"Bearer {KEY}"
    assert "anthropic-beta" not in double.headers[0]


async def test_thinking_that_the_server_no_longer_takes_is_left_out_and_the_turn_goes_on():
    stale = Reply((Thinking("Hm.", "signed_thinking", Opaque("of another account")), Text("Yes.")))
    async with AnthropicDouble([{"reply": {"text": "Good."}}]) as double:
        model = model_at(double.url)
        for _ in range(2):
            _, end = await asked_of(model, request(Asked("Look"), stale, Asked("More")))
            assert end.reply.text == "Good."
        await model.aclose()
        assert [each.status for each in double.exchanges] == [400, 200, 200]


async def test_a_reply_that_may_be_shorter_only_is_asked_for_shorter():
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": TOO_LONG}}
    script = [{"fault": {"status": 400, "body": body}, "times": 1}, {"reply": {"text": "Good."}}]
    async with AnthropicDouble(script) as double:
        _, end = await replied(model_at(double.url))
        assert end.reply.text == "Good."
        assert [sent["max_tokens"] for sent in double.bodies] == [1000, 640]


async def test_a_server_that_refuses_cache_marks_is_sent_none_from_then_on():
    message = "messages.0.content.0.text.cache_control: Extra inputs are not permitted"
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    script = [{"fault": {"status": 400, "body": body}, "times": 1}, {"reply": {"text": "Good."}}]
    lesson = Lesson()
    async with AnthropicDouble(script) as double:
        model = MessagesModel(resolve("anthropic-compatible/m", double.url, {}), lesson=lesson)
        for _ in range(2):
            _, end = await asked_of(model, request(Asked("Look")))
            assert end.reply.text == "Good."
        await model.aclose()
        assert ["cache_control" in json.dumps(sent) for sent in double.bodies] == [True, False, False]
    assert lesson.learned == Learned(marks=False)


async def test_a_refusal_that_says_the_same_again_is_a_failure():
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": TOO_LONG}}
    async with AnthropicDouble([{"fault": {"status": 400, "body": body}, "times": 9}]) as double:
        with pytest.raises(BadRequest):
            await replied(model_at(double.url))
        assert len(double.exchanges) == 2


TOO_LONG = "max_tokens: 1000 > 640, which is the maximum allowed number of output tokens for claude-x"


# ------------------------------------------------------------------------------------------------------------ errors
def error(kind: str, message: str = "No.") -> dict:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (RateLimited, {"status": 429, "retry_after": 3}),
        (Unreachable, {"status": 529, "retry_after": 3}),
        (Unreachable, {"status": 500}),
        (Unreachable, {"status": 504}),
        (Unauthorised, {"status": 401}),
        (Unauthorised, {"status": 403}),
        (OutOfCredit, {"status": 402}),
        (
            OutOfCredit,
            {"status": 400, "body": error("invalid_request_error", "Your credit balance is too low to access the API")},
        ),
        (OutOfCredit, {"status": 403, "body": error("billing_error")}),
        (NotFound, {"status": 404}),
        (Overflow, {"status": 413}),
        (Overflow, {"overflow": True}),
        (
            Overflow,
            {
                "status": 400,
                "body": error("invalid_request_error", "input length and `max_tokens` exceed context limit: 9 + 9 > 9"),
            },
        ),
        (BadRequest, {"status": 400}),
        (Unreachable, {"error": {"type": "overloaded_error", "message": "Overloaded"}, "after": 4}),
        (RateLimited, {"error": {"type": "rate_limit_error", "message": "Slower"}, "after": 4}),
        (OutOfCredit, {"error": {"type": "billing_error", "message": "Pay"}, "after": 4}),
        (BadRequest, {"error": {"type": "invalid_request_error", "message": "No signature"}, "after": 4}),
        (Unreachable, {"cut_after": 4}),
        (Unreachable, {"end_after": 4}),
        (Unreachable, {"malformed": True}),
        (Unreachable, {"reset": True}),
        (Unreachable, {"reset": True, "after": 4}),
        (Unreachable, {"hang": True}),
    ],
)
async def test_what_goes_wrong_has_its_class(kind, fault):
    async with AnthropicDouble([{"fault": fault, "times": 9}, {"reply": {"text": "Hello there, how are you?"}}]) as one:
        with pytest.raises(kind) as caught:
            await replied(model_at(one.url, idle_s=0.5))
        assert len(one.exchanges) == 1
    assert type(caught.value) is kind
    assert caught.value.retry_after_s == (3 if "retry_after" in fault else None)
    assert caught.value.may_be_billed == (not {"status", "overflow"} & fault.keys())


# ------------------------------------------------------------------------------------------------------- odd streams
def sse(*events: dict, end: str = "") -> bytes:
    return ("".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events) + end).encode()


def start(**usage) -> dict:
    return {"type": "message_start", "message": {"model": "c-1", "usage": usage or {"input_tokens": 5}}}


def block(index: int, **content) -> dict:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int, kind: str, **more) -> dict:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def ends(reason: str | None = "end_turn", **usage) -> list[dict]:
    counts = usage or {"output_tokens": 3}
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": counts},
        {"type": "message_stop"},
    ]


HEL = [start(), block(0, type="text", text=""), delta(0, "text_delta", text="Hello")]
HELLO = (Text("Hello"),)


async def read(*events: dict, end: str = ""):
    async with Raw(HEAD + sse(*events, end=end)) as server:
        return await replied(model_at(server.url))


@pytest.mark.parametrize(
    "events",
    [
        [*HEL, *ends()],
        [*HEL, {"type": "ping"}, {"type": "news", "x": 1}, {"type": "content_block_stop", "index": 0}, *ends()],
        [*HEL, *ends()[:1]],
        [*HEL, ends()[1]],
        [start(), block(0, type="text", text="Hel"), delta(0, "text_delta", text="lo"), *ends()],
        [start(), delta(0, "text_delta", text="Hello"), *ends()],
        [*HEL, delta(0, "citations_delta", citation={}), delta(7, "input_json_delta", partial_json="{"), *ends()],
        [*HEL, block(1, type="server_tool_use", id="s", name="x", input={}), *ends()],
    ],
)
async def test_a_stream_is_understood(events):
    _, end = await read(*events)
    assert (end.reply.parts, end.finish) == (HELLO, "stop")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "filter"),
        ("pause_turn", "other"),
        ("news", "other"),
    ],
)
async def test_every_stop_reason_has_its_meaning(reason, finish):
    assert (await read(*HEL, *ends(reason)))[1].finish == finish


async def test_tokens_of_the_cache_are_part_of_the_prompt_and_later_counts_replace_earlier_ones():
    _, end = await read(
        start(input_tokens=5, cache_read_input_tokens=100, cache_creation_input_tokens=20, output_tokens=1),
        *HEL[1:],
        *ends("end_turn", output_tokens=30, input_tokens=6, output_tokens_details={"thinking_tokens": 12}),
    )
    assert end.usage == Usage(126, 30, 100, 20, 12)
    assert (await read(start(input_tokens=0), *HEL[1:], *ends()))[1].usage is None


async def test_calls_come_in_pieces_at_once_or_without_arguments():
    deltas, end = await read(
        start(),
        block(0, type="tool_use", id="a", name="bash", input={}),
        delta(0, "input_json_delta", partial_json=""),
        delta(0, "input_json_delta", partial_json='{"command": '),
        delta(0, "input_json_delta", partial_json='"ls"}'),
        block(1, type="tool_use", id="b", name="bash", input={"command": "é"}),
        block(2, type="tool_use", id="a", name="plan", input={}),
        *ends("tool_use"),
    )
    assert [(call.tool, call.arguments) for call in end.reply.calls] == [
        ("bash", '{"command": "ls"}'),
        ("bash", '{"command": "é"}'),
        ("plan", "{}"),
    ]
    assert [call.wire_id for call in end.reply.calls[:2]] == ["a", "b"]
    assert end.reply.calls[2].wire_id not in {"", "a", "b"}
    shown = [each for each in deltas if isinstance(each, CallDelta)]
    assert [each.name for each in shown] == ["bash", "bash", "plan"]


async def test_thinking_that_is_not_shown_is_kept_with_its_signature():
    _, end = await read(
        start(),
        block(0, type="thinking", thinking="", signature=""),
        delta(0, "signature_delta", signature="EqQ="),
        block(1, type="redacted_thinking", data="enc"),
        block(2, type="thinking", thinking=""),
        *ends(),
    )
    assert end.reply.parts == (
        Thinking("", "signed_thinking", Opaque("EqQ=")),
        Thinking("", "redacted_thinking", Opaque("enc")),
    )


async def test_a_reply_that_is_not_streamed_is_taken_whole():
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "a", "name": "bash", "input": {"command": "ls"}},
    ]
    usage = {"input_tokens": 12, "output_tokens": 5}
    body = json.dumps({"type": "message", "model": "c", "content": content, "stop_reason": "tool_use", "usage": usage})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    async with Raw((head + body).encode()) as server:
        deltas, end = await replied(model_at(server.url))
    assert [part.__class__ for part in end.reply.parts] == [Thinking, Text, Call]
    assert (end.usage, end.finish) == (Usage(12, 5), "calls")
    assert [each.text for each in deltas if isinstance(each, TextDelta)] == ["Hello"]


async def test_an_error_of_a_server_with_another_shape_is_an_error():
    async with Raw(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{"error": "No"}'
    ) as one:
        with pytest.raises(Unreachable, match="No"):
            await replied(model_at(one.url))
