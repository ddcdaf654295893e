"""The official clients and ours: the same conversation is the same request, the same bytes are the same reply.

Where the two differ on purpose, the difference stands in one table (differences.py), with its reason; one that no
longer occurs turns the test red.
"""

import base64
import json
import random
from collections import Counter
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from pydantic import TypeAdapter

from ml_intern.model.catalog import resolve
from ml_intern.model.port import Finished, Request, TextDelta
from ml_intern.model.wire import messages
from ml_intern.model.wire.assemble import Assembly
from ml_intern.model.wire.blocks import Blocks
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.reading import Reading
from ml_intern.model.wire.turns import TurnEncoder
from ml_intern.record.messages import Answered, Asked, Image, Message, Text, Thinking
from tests.model.conversations import (
    COUNT,
    PNG,
    Conversation,
    Step,
    anthropic_bytes,
    conversations,
    cut,
    openai_bytes,
)
from tests.model.differences import CHAT_DIFFERENCES, MESSAGES_DIFFERENCES, Body, assert_alike
from tests.model.raw import BASH

PICTURE = Image("5a", "image/png")
DATA = base64.b64encode(PNG).decode()
CHAT = resolve("openai-compatible/m", "http://127.0.0.1:1", {})
MESSAGES = resolve("anthropic-compatible/m", "http://127.0.0.1:1", {})


# ------------------------------------------------------------------------------------------------------ both sides
class Sent:
    """A transport of the official clients that keeps the body and answers with given bytes, cut anywhere."""

    def __init__(self) -> None:
        self.body: Body = {}
        self.pieces: list[bytes] = []

    def client(self) -> httpx2.Client:
        return httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.body = json.loads(request.content)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=iter(self.pieces))


def read(reading: Reading, pieces: list[bytes]) -> tuple[list[Any], Finished]:
    deltas: list[Any] = []
    for piece in pieces:
        if reading.ends:
            reading.keep(piece)
        else:
            deltas += reading.read(piece)
    return [*deltas, *reading.rest()], reading.finished()


def asked(step: Step) -> list[Message]:
    return [Asked(text, (PICTURE,) if has_picture else ()) for text, has_picture in step.asks]


def answered(step: Step, end: Finished) -> list[Message]:
    return [
        Answered(call.id, call.wire_id, "bash", text, ok, (PICTURE,) if has_picture else ())
        for call, (text, ok, has_picture) in zip(end.reply.calls, step.answers, strict=True)
    ]


def request_of(conversation: Conversation, transcript: list[Message]) -> Request:
    tools = (BASH,) if conversation.has_tools else ()
    return Request(conversation.system, tools, transcript, 1000, "s-1", 0)


# ------------------------------------------------------------------------------------------------ the messages API
VALID_MESSAGES = TypeAdapter(MessageCreateParamsStreaming)


def anthropic_image() -> Body:
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}


def anthropic_asks(step: Step) -> list[Body]:
    return [
        {"role": "user", "content": [{"type": "text", "text": text}, *([anthropic_image()] if has_picture else [])]}
        for text, has_picture in step.asks
    ]


def anthropic_answers(step: Step, message: Any) -> list[Body]:
    ids = [block.id for block in message.content if block.type == "tool_use"]
    return [
        {"role": "user", "content": [anthropic_result(id_, *answer)]}
        for id_, answer in zip(ids, step.answers, strict=True)
    ]


def anthropic_result(id_: str, text: str, ok: bool, has_picture: bool) -> Body:
    content = [{"type": "text", "text": text}, anthropic_image()] if has_picture else text
    result: Body = {"type": "tool_result", "tool_use_id": id_, "content": content}
    return result if ok else {**result, "is_error": True}


def assert_same_message(end: Finished, theirs: Any) -> None:
    parts: list[tuple[Any, ...]] = []
    for block in theirs.content:
        match block.type:
            case "text":
                parts.append(("text", block.text))
            case "thinking":
                parts.append(("signed_thinking", block.thinking, block.signature))
            case "redacted_thinking":
                parts.append(("redacted_thinking", "", block.data))
            case _:
                parts.append((block.id, block.name, block.input))
    ours: list[tuple[Any, ...]] = []
    for part in end.reply.parts:
        match part:
            case Text(text=text):
                ours.append(("text", text))
            case Thinking(text=text, field=field, state=state):
                ours.append((field, text, state.value if state else None))
            case call:
                is_cut = theirs.stop_reason == "max_tokens" and call is end.reply.parts[-1]
                ours.append((call.wire_id, call.tool, parts[-1][2] if is_cut else json.loads(call.arguments)))
    assert ours == parts
    usage = theirs.usage
    cached, written = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    details = usage.output_tokens_details
    assert end.usage is not None
    assert (end.usage.prompt, end.usage.cached) == (usage.input_tokens + cached + written, cached)
    assert (end.usage.output, end.usage.cache_written) == (usage.output_tokens, written)
    assert end.usage.reasoning == (details.thinking_tokens if details else 0)
    assert end.finish == {"end_turn": "stop", "tool_use": "calls", "max_tokens": "length"}[theirs.stop_reason]
    assert end.served_by == theirs.model


def walk_messages(conversation: Conversation, met: Counter[str]) -> None:
    sent, encoder, dice = Sent(), TurnEncoder(MESSAGES), random.Random(conversation.seed)
    transcript: list[Message] = []
    theirs: list[Any] = []
    fixed: Body = {"tools": [{"name": BASH.name, "description": BASH.text, "input_schema": BASH.parameters}]}
    fixed = fixed if conversation.has_tools else {}
    if conversation.system:
        fixed["system"] = [{"type": "text", "text": conversation.system}]
    with anthropic.Anthropic(api_key="k", base_url="http://x", http_client=sent.client(), max_retries=0) as client:
        for step in conversation.steps:
            transcript += asked(step)
            theirs += anthropic_asks(step)
            data = anthropic_bytes(step.said, dice)
            sent.pieces = cut(data, dice)
            with client.messages.stream(model="m", max_tokens=1000, messages=theirs, **fixed) as stream:
                message = stream.get_final_message()
            ours: Body = json.loads(encoder.body(request_of(conversation, transcript), {"5a": PNG}))
            VALID_MESSAGES.validate_python(ours)
            assert_alike(ours, sent.body, MESSAGES_DIFFERENCES, met)
            deltas, end = read(Reading(MESSAGES, Blocks(), None), cut(data, dice))
            assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == end.reply.text
            assert_same_message(end, message)
            transcript += [end.reply, *answered(step, end)]
            theirs += [message.to_param(), *anthropic_answers(step, message)]


# ------------------------------------------------------------------------------------------------ chat completions
VALID_CHAT = TypeAdapter(CompletionCreateParamsStreaming)


def openai_image() -> Body:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DATA}"}}


def openai_asks(step: Step) -> list[Body]:
    return [
        {"role": "user", "content": [{"type": "text", "text": text}, openai_image()] if has_picture else text}
        for text, has_picture in step.asks
    ]


def openai_answers(step: Step, message: Any) -> list[Body]:
    calls = message.tool_calls or []
    rows: list[Body] = [
        {"role": "tool", "tool_call_id": call.id, "content": text}
        for call, (text, _, _) in zip(calls, step.answers, strict=True)
    ]
    pictures = [openai_image() for _, _, has_picture in step.answers if has_picture]
    # An answer cannot carry one.
    said = {"type": "text", "text": "Images of the answers above:"}
    return [*rows, {"role": "user", "content": [said, *pictures]}] if pictures else rows


def as_param(message: Any) -> Body:
    """What the client read, without what its streaming helper adds."""
    row = message.to_dict(exclude_none=True)
    calls = [
        {**call, "function": {"name": call["function"]["name"], "arguments": call["function"]["arguments"]}}
        for call in row.get("tool_calls") or ()
    ]
    kept = {name: row[name] for name in ("role", "content", "reasoning_content") if name in row}
    return kept | (
        {"tool_calls": [{name: call[name] for name in ("id", "type", "function")} for call in calls]} if calls else {}
    )


def assert_same_completion(end: Finished, theirs: Any) -> None:
    message, usage = theirs.choices[0].message, theirs.usage
    assert end.reply.text == (message.content or "")
    thinking = [part.text for part in end.reply.parts if isinstance(part, Thinking)]
    assert thinking == [each for each in [getattr(message, "reasoning_content", None)] if each]
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    assert [(call.wire_id, call.tool, call.arguments) for call in end.reply.calls] == calls
    assert end.usage is not None
    assert (end.usage.prompt, end.usage.output) == (usage.prompt_tokens, usage.completion_tokens)
    assert end.usage.cached == usage.prompt_tokens_details.cached_tokens
    assert end.usage.reasoning == usage.completion_tokens_details.reasoning_tokens
    assert end.finish == {"stop": "stop", "tool_calls": "calls", "length": "length"}[theirs.choices[0].finish_reason]
    assert end.served_by == theirs.model


def completion_of(stream: Any) -> Any:
    state = ChatCompletionStreamState()
    for event in stream:
        state.handle_chunk(event)
    # get_final_completion raises for a reply that was cut.
    return state.current_completion_snapshot


def walk_chat(conversation: Conversation, met: Counter[str]) -> None:
    sent, encoder, dice = Sent(), Encoder(CHAT), random.Random(conversation.seed)
    transcript: list[Message] = []
    theirs: list[Any] = [{"role": "system", "content": conversation.system}] if conversation.system else []
    function = {"name": BASH.name, "description": BASH.text, "parameters": BASH.parameters}
    fixed: Body = {"tools": [{"type": "function", "function": function}]} if conversation.has_tools else {}
    fixed |= {"model": "m", "max_tokens": 1000, "stream": True, "stream_options": {"include_usage": True}}
    with openai.OpenAI(api_key="k", base_url="http://x", http_client=sent.client(), max_retries=0) as client:
        for step in conversation.steps:
            transcript += asked(step)
            theirs += openai_asks(step)
            data = openai_bytes(step.said, dice)
            sent.pieces = cut(data, dice)
            completion = completion_of(client.chat.completions.create(messages=theirs, **fixed))
            ours: Body = json.loads(encoder.body(request_of(conversation, transcript), {"5a": PNG}))
            VALID_CHAT.validate_python(ours)
            assert_alike(ours, sent.body, CHAT_DIFFERENCES, met)
            deltas, end = read(Reading(CHAT, Assembly(), None), cut(data, dice))
            assert "".join(each.text for each in deltas if isinstance(each, TextDelta)) == end.reply.text
            assert_same_completion(end, completion)
            message = completion.choices[0].message
            transcript += [end.reply, *answered(step, end)]
            theirs += [as_param(message), *openai_answers(step, message)]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("walk", "differences"),
    [(walk_messages, MESSAGES_DIFFERENCES), (walk_chat, CHAT_DIFFERENCES)],
    ids=["messages", "chat"],
)
def test_requests_and_replies_are_those_of_the_official_client(walk, differences):
    met: Counter[str] = Counter()
    for conversation in conversations():
        walk(conversation, met)
    assert COUNT >= 150
    assert {name for name, count in met.items() if count} == {*differences}


@pytest.mark.parametrize("differences", [MESSAGES_DIFFERENCES, CHAT_DIFFERENCES])
def test_every_difference_has_its_reason(differences):
    assert all(len(each.reason.split()) > 5 for each in differences.values())


def test_the_clients_versions_are_those_the_wire_was_written_for():
    assert anthropic._constants.ANTHROPIC_API_VERSION == messages.VERSION
