"""The double speaks to the official client, and refuses what the real API refuses."""

import json
from typing import Any

import anthropic
import httpx2
import pytest

from tests.doubles.anthropic_server import AnthropicDouble

TOOL: Any = {
    "name": "bash",
    "description": "Run a command.",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}},
}
CALLS = [{"name": "bash", "arguments": {"command": word}} for word in ("ls", "pwd")]
ASKED: Any = {"role": "user", "content": "Look"}
HEADERS = {"anthropic-version": "2026-10-21", "content-type": "application/json", "x-api-key": "k"}


def client(double: AnthropicDouble, key: str = "k") -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=key, base_url=double.url.removesuffix("/v1"), max_retries=0)


async def said(double: AnthropicDouble, *messages: Any, **more: Any) -> Any:
    async with client(double) as official:
        asked = {"model": "m", "max_tokens": 1000, "messages": [*messages], "tools": [TOOL], **more}
        async with official.messages.stream(**asked) as stream:
            return await stream.get_final_message()


async def test_the_official_client_reads_its_streams_and_may_send_back_what_it_read():
    script = [
        {"when": {"step": 0}, "reply": {"redacted": "r", "thinking": "Hm.", "text": "I look.", "calls": CALLS}},
        {"reply": {"text": "{{answer:0}} {{answer:1}}"}},
    ]
    async with AnthropicDouble(script) as double:
        first = await said(double, ASKED)
        assert [block.type for block in first.content] == [
            "redacted_thinking",
            "thinking",
            "text",
            "tool_use",
            "tool_use",
        ]
        assert (first.stop_reason, first.content[3].input) == ("tool_use", {"command": "ls"})
        assert first.usage.input_tokens > 0
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": block.input["command"]}
            for block in first.content[3:]
        ]
        second = await said(double, ASKED, first.to_param(), {"role": "user", "content": results})
        assert (second.content[0].text, second.stop_reason) == ("ls pwd", "end_turn")


async def test_a_reply_in_one_piece_is_the_same():
    async with AnthropicDouble([{"reply": {"thinking": "Hm.", "text": "I look.", "calls": CALLS}}]) as double:
        streamed = await said(double, ASKED)
        async with client(double) as official:
            whole = await official.messages.create(model="m", max_tokens=1000, messages=[ASKED], tools=[TOOL])
    assert whole.to_dict()["content"] == [{**block.to_dict()} for block in streamed.content]
    assert whole.stop_reason == streamed.stop_reason


def call(**more):
    return {"type": "tool_use", "id": "t1", "name": "bash", "input": {}, **more}


def result(id_="t1"):
    return {"type": "tool_result", "tool_use_id": id_, "content": "x"}


def turn(*blocks):
    return [ASKED, {"role": "assistant", "content": [*blocks]}]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"temperature": 1}, "temperature"),
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "at least one message"),
        ({"messages": turn({"type": "text", "text": "Hi"})}, "prefill"),
        ({"messages": [{"role": "user", "content": " "}]}, "non-whitespace"),
        ({"messages": [*turn(call()), ASKED]}, "without `tool_result`"),
        ({"messages": [*turn(call()), {"role": "user", "content": [result("t2")]}]}, "unexpected `tool_use_id`"),
        ({"messages": [*turn(call(input="{}")), {"role": "user", "content": [result()]}]}, "valid dictionary"),
        ({"messages": [*turn(call(id="a.b")), {"role": "user", "content": [result("a.b")]}]}, "match pattern"),
        (
            {"messages": [*turn({"type": "thinking", "thinking": "Hm", "signature": "other"}), ASKED]},
            "Invalid `signature`",
        ),
        (
            {"messages": [*turn(call()), {"role": "user", "content": [{"type": "text", "text": "a"}, result()]}]},
            "come first",
        ),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "match pattern"),
        ({"tools": [{**TOOL, "cache_control": {"type": "ephemeral"}, "name": f"t{n}"} for n in range(5)]}, "maximum"),
    ],
)
async def test_it_refuses_what_the_api_refuses(more, words):
    body = {"model": "m", "max_tokens": 10, "messages": [ASKED], "tools": [TOOL], **more}
    async with AnthropicDouble([{"reply": {"text": "Hello"}}]) as double, httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{double.url}/messages", content=json.dumps(body).encode(), headers=HEADERS)
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 401}, anthropic.AuthenticationError),
        ({"status": 429, "retry_after": 1}, anthropic.RateLimitError),
        ({"status": 529}, anthropic.InternalServerError),
        ({"overflow": True}, anthropic.BadRequestError),
        ({"error": {"type": "overloaded_error", "message": "Overloaded"}, "after": 3}, anthropic.APIStatusError),
    ],
)
async def test_its_faults_are_the_clients_errors(fault, kind):
    async with AnthropicDouble([{"fault": fault}]) as double:
        with pytest.raises(kind):
            await said(double, ASKED)
