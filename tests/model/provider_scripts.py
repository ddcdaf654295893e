"""What providers of other protocols say, and models that ask them at an address."""

import base64
from contextlib import aclosing

import pytest

from ml_intern.base.errors import (
    ModelError,
)
from ml_intern.model.catalog import resolve
from ml_intern.model.port import Finished, Model
from ml_intern.model.providers.adapter import AdaptedModel
from tests.model.raw import request

KEY = "AIza-a-secret-key-of-ours"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def google_at(url: str, **more) -> AdaptedModel:
    return AdaptedModel(resolve("google/gemini-2.5-pro", url, {"GOOGLE_API_KEY": KEY}), **more)


def mistral_at(url: str, **more) -> AdaptedModel:
    return AdaptedModel(resolve("mistral/mistral-large-latest", url, {"MISTRAL_API_KEY": KEY}), **more)


async def replied(model: Model, asked=None):
    try:
        async with aclosing(model.ask(asked or request())) as stream:
            *deltas, end = [item async for item in stream]
            assert isinstance(end, Finished)
            return deltas, end
    finally:
        await model.aclose()


async def failed(model: Model, asked=None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await replied(model, asked)
    assert KEY not in str(caught.value)
    assert caught.value.remedy
    return caught.value


def said(*parts, **more):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


GOOGLE_USAGE = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 115,
}
GOOGLE = [
    said({"text": "Hmm.", "thought": True}),
    said({"text": "Hel"}),
    said({"text": "lo"}),
    said({"functionCall": {"name": "bash", "args": {"command": "ls"}}, "thoughtSignature": "c2lnbmVk"}),
    {
        **said({"functionCall": {"name": "bash", "args": {"command": "pwd"}}}, finishReason="STOP"),
        "usageMetadata": GOOGLE_USAGE,
        "modelVersion": "gemini-2.5-pro-002",
    },
]


def chunk(delta, finish=None, usage=None):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "mistral-large-2512"} | {
        "choices": [choice],
        **({"usage": usage} if usage else {}),
    }


def call(name, arguments, wire_id="a1b2c3d4e", index=0):
    return {"id": wire_id, "index": index, "function": {"name": name, "arguments": arguments}}


MISTRAL = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Let me "}),
    chunk({"content": "look."}),
    chunk({"tool_calls": [call("bash", '{"command": "ls"}')]}),
    chunk({"content": ""}, "tool_calls", {"prompt_tokens": 50, "completion_tokens": 12, "total_tokens": 62}),
]
