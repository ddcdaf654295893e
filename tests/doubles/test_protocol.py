"""The double refuses what the real API refuses, and nothing else."""

from typing import Any

import pytest

from tests.doubles.openai_server import Double

USER = {"role": "user", "content": "hello"}


def called(*ids: str) -> dict[str, Any]:
    calls = [{"id": id_, "type": "function", "function": {"name": "bash", "arguments": "{}"}} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answered(id_: str, text: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": text}


def function(name: str = "f", parameters: object = None, **more: Any) -> dict[str, Any]:
    given = {"type": "object"} if parameters is None else parameters
    return {"type": "function", "function": {"name": name, "parameters": given, **more}}


@pytest.fixture
async def double():
    async with Double([{"reply": {"text": "fine"}}]) as running:
        yield running


TRANSCRIPTS = {
    "an answer without any call": [USER, answered("a")],
    "an answer to another call": [USER, called("a"), answered("b")],
    "an answer given twice": [USER, called("a"), answered("a"), answered("a")],
    "an answer to a call of an earlier reply": [USER, called("a"), answered("a"), called("b"), answered("a")],
    "a call left open at the end": [USER, called("a")],
    "one of two calls left open": [USER, called("a", "b"), answered("a")],
    "a user who speaks before the answers": [USER, called("a", "b"), answered("a"), USER, answered("b")],
    "a model that speaks before the answers": [USER, called("a"), {"role": "assistant", "content": "hm"}],
    "two calls with one id": [USER, called("a", "a"), answered("a")],
    "an unknown role": [{"role": "human", "content": "x"}],
    "no role": [{"content": "x"}],
    "a role that is no text": [{"role": ["user"], "content": "x"}],
    "a user without content": [{"role": "user", "content": None}],
    "a model that says nothing at all": [USER, {"role": "assistant", "content": None}],
    "an answer without content": [USER, called("a"), {"role": "tool", "tool_call_id": "a", "content": None}],
    "an answer without an id": [USER, called("a"), {"role": "tool", "content": "x"}],
    "content that is a number": [{"role": "user", "content": 5}],
    "content without parts": [{"role": "user", "content": []}],
    "an image in an answer": [
        USER,
        called("a"),
        {**answered("a"), "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
    ],
    "an image that is no URL": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "/x.png"}}]}],
    "a part of unknown type": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
    "an unknown key": [{**USER, "cache_control": {"type": "ephemeral"}}],
    "a name in an answer": [USER, called("a"), {**answered("a"), "name": "bash"}],
    "no calls in a list of calls": [USER, {"role": "assistant", "content": "x", "tool_calls": []}],
    "arguments that are no text": [
        USER,
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "bash", "arguments": {}}}],
        },
        answered("a"),
    ],
    "a call without an id": [
        USER,
        {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "bash", "arguments": "{}"}}]},
    ],
    "half a surrogate pair": [{"role": "user", "content": "\ud83d"}],
    "no messages": [],
}


@pytest.mark.parametrize("what", TRANSCRIPTS)
async def test_an_invalid_transcript_is_refused_with_an_error_object(double, client, what):
    answer = await client.ask(double.url, TRANSCRIPTS[what])
    assert answer.status == 400
    assert answer.body["error"].keys() == {"message", "type", "param", "code"}
    assert answer.body["error"]["type"] == "invalid_request_error"
    assert [exchange.how for exchange in double.exchanges] == ["refused"]
    assert double.ledger.total() == 0


GOOD = {
    "parallel calls answered in another order": [USER, called("a", "b"), answered("b"), answered("a")],
    "the same id in a later reply": [USER, called("a"), answered("a"), called("a"), answered("a")],
    "thinking sent back": [USER, {"role": "assistant", "content": "x", "reasoning_content": "because"}, USER],
    "arguments that are no JSON": [
        USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "bash", "arguments": '{"comm'}}],
        },
        answered("a", ""),
    ],
    "parts and a picture": [
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
            ],
        },
    ],
    "two users in a row": [USER, USER],
}


@pytest.mark.parametrize("what", GOOD)
async def test_a_good_transcript_is_answered(double, client, what):
    assert (await client.ask(double.url, GOOD[what])).text == "fine"


REQUESTS: dict[str, dict[str, Any]] = {
    "no model": {"model": None},
    "no limit of the reply": {"max_tokens": None},
    "both limits": {"max_completion_tokens": 5},
    "a limit of nothing": {"max_tokens": 0},
    "a limit that is no number": {"max_tokens": True},
    "an unknown parameter": {"max_output": 5},
    "a stream that is no switch": {"stream": "yes"},
    "stream options without a stream": {"stream": False, "stream_options": {"include_usage": True}},
    "an unknown stream option": {"stream_options": {"usage": True}},
    "several choices": {"n": 2},
    "an empty list of tools": {"tools": []},
    "a choice without tools": {"tools": None, "tool_choice": "auto"},
    "a choice that is no tool": {"tool_choice": {"type": "function", "function": {"name": "zsh"}}},
    "a tool of another type": {"tools": [{"type": "bash"}]},
    "a tool's name with a space": {"tools": [function("a b")]},
    "a tool's name of 65 letters": {"tools": [function("a" * 65)]},
    "two tools of one name": {"tools": [function(), function()]},
    "an unknown key of a tool": {"tools": [function(returns={})]},
    "parameters that are no object": {"tools": [function(parameters={"type": "string"})]},
    "parameters of an unknown type": {
        "tools": [function(parameters={"type": "object", "properties": {"a": {"type": "text"}}})]
    },
    "an array of nothing": {"tools": [function(parameters={"type": "object", "properties": {"a": {"type": "array"}}})]},
    "a reference to nowhere": {
        "tools": [function(parameters={"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}})]
    },
    "required as a switch": {
        "tools": [
            function(parameters={"type": "object", "properties": {"a": {"type": "object", "required": True}}}),
        ]
    },
    "an empty enum": {"tools": [function(parameters={"type": "object", "properties": {"a": {"enum": []}}})]},
    "a strict tool that is not": {
        "tools": [function(parameters={"type": "object", "properties": {"a": {"type": "string"}}}, strict=True)]
    },
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_an_invalid_request_is_refused(double, client, what):
    answer = await client.ask(double.url, **REQUESTS[what])
    assert (answer.status, answer.body["error"]["type"]) == (400, "invalid_request_error")


async def test_pydantic_schemas_are_taken(double, client):
    parameters = {
        "type": "object",
        "additionalProperties": False,
        "$defs": {"Item": {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}}},
        "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}},
            "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "kind": {"enum": ["a", "b"], "type": "string"},
            "any": {},
        },
        "required": ["items"],
    }
    assert (await client.ask(double.url, tools=[function(parameters=parameters)])).text == "fine"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"5", b'{"a": NaN}', b"\xff", b'{"a": 1} x', b'{"a" 1}', b"{1: 2}", b"[" * 100_000]
)
async def test_a_body_that_is_no_json_object_is_refused(double, client, text):
    answer = await client.send(double.url, text)
    assert answer.status == 400
    assert "parse" in answer.body["error"]["message"]


async def test_a_wrong_message_after_good_ones_is_seen_though_those_are_not_read_again(double, client):
    good = [USER, called("a"), answered("a")]
    assert (await client.ask(double.url, good)).text == "fine"
    assert (await client.ask(double.url, [*good, called("b")])).status == 400
    assert (await client.ask(double.url, [*good, answered("a")])).status == 400
    assert (await client.ask(double.url, [*good, USER])).text == "fine"
    assert (await client.ask(double.url, [USER, called("a"), answered("x")])).status == 400


async def test_a_wrong_or_missing_key_is_refused_with_401(client):
    async with Double([{"reply": {"text": "fine"}}], key="sk-right") as double:
        for headers, code in (({}, None), ({"authorization": "Bearer sk-wrong"}, "invalid_api_key")):
            answer = await client.send(double.url, {}, headers)
            assert (answer.status, answer.body["error"]["code"]) == (401, code)
        models = await client.http.get(f"{double.url}/models")
        assert models.status_code == 401


async def test_other_models_are_unknown_and_its_own_are_listed(client):
    async with Double([{"reply": {"text": "fine"}}], models=["m", "org/n"]) as double:
        assert (await client.ask(double.url, model="m")).text == "fine"
        refused = await client.ask(double.url, model="x")
        assert (refused.status, refused.body["error"]["code"]) == (404, "model_not_found")
        listed = (await client.http.get(f"{double.url}/models")).json()
        assert (listed["object"], [model["id"] for model in listed["data"]]) == ("list", ["m", "org/n"])
        one = (await client.http.get(f"{double.url}/models/org/n")).json()
        assert (one["id"], one["object"], one["owned_by"]) == ("org/n", "model", "double")


async def test_other_addresses_and_methods_are_refused(double, client):
    assert (await client.http.get(f"{double.url}/chat/completions")).status_code == 405
    assert (await client.http.post(f"{double.url}/responses", json={})).status_code == 404
    assert (await client.http.post(f"{double.url}/chat/completions", content=b"{}")).status_code == 400


async def test_what_does_not_fit_the_window_is_an_overflow(client):
    async with Double([{"reply": {"text": "fine"}}], window=1200) as double:
        assert (await client.ask(double.url, max_tokens=1000)).text == "fine"
        answer = await client.ask(double.url, "x" * 800, max_tokens=1000)
        assert (answer.status, answer.body["error"]["code"]) == (400, "context_length_exceeded")
        assert "maximum context length is 1200 tokens" in answer.body["error"]["message"]
