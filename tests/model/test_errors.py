"""What servers say when they fail: the class it is, what is told, what is done about it."""

import json
from typing import Any

import pytest

from ml_intern.base.errors import (
    BadRequest,
    ModelError,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Refused,
    Unauthorised,
    Unreachable,
)
from ml_intern.model.catalog import resolve
from ml_intern.model.wire.errors import cut, from_response, from_stream
from tests.model.raw import HEAD, Raw, chunk, model_at, replied, sse

KEY = "sk-a-secret-key-of-ours"
OPENAI = resolve("openai/gpt-5", "", {"OPENAI_API_KEY": KEY})


def openai(message: str, code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


SAID: list[tuple[type[ModelError], int, Any]] = [
    # ------------------------------------------------------------------------------------------------------- too long
    (
        Overflow,
        400,
        openai("This model's maximum context length is 128000 tokens. However, …", "context_length_exceeded"),
    ),
    (Overflow, 400, {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400}),
    (Overflow, 400, openai("The decoder prompt (length 9000) is longer than the maximum model length of 8192.")),
    (
        Overflow,
        400,
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_ctx": 4096,
            }
        },
    ),
    (Overflow, 500, {"error": "context size exceeded"}),
    (Overflow, 400, {"error": "the input length exceeds the context length"}),
    (
        Overflow,
        400,
        {
            "error": "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded "
            "with context length of only 4096 tokens"
        },
    ),
    (
        Overflow,
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` "
            "tokens and 20 `max_new_tokens`",
            "error_type": "validation",
        },
    ),
    (Overflow, 400, openai("prompt is too long: 210000 tokens > 200000 maximum")),
    (Overflow, 400, openai("input length and `max_tokens` exceed context limit: 190000 + 16384 > 200000")),
    (Overflow, 400, openai("Invalid request: Your request exceeded model token limit: 131072")),
    (Overflow, 400, openai("The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).")),
    (Overflow, 400, {"error": "This model's maximum prompt length is 131072 but the request contains 150000 tokens."}),
    (Overflow, 400, openai("Please reduce the length of the messages or completion.", "context_length_exceeded")),
    (
        Overflow,
        400,
        {"object": "error", "message": "The input (9000 tokens) is longer than the model's context length (8192)."},
    ),
    (
        Overflow,
        413,
        openai("Request too large for model on tokens per minute (TPM): Limit 6000", "rate_limit_exceeded", "tokens"),
    ),
    (Overflow, 413, "<html>too large</html>"),
    # -------------------------------------------------------------------------------------------------------- no money
    (OutOfCredit, 402, {"error": {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}}),
    (
        OutOfCredit,
        429,
        openai("You exceeded your current quota, please check your plan.", "insufficient_quota", "insufficient_quota"),
    ),
    (
        OutOfCredit,
        402,
        {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}},
    ),
    (OutOfCredit, 429, {"error": {"type": "exceeded_current_quota_error", "message": "Your account is suspended"}}),
    (OutOfCredit, 402, {"error": "You have exceeded your monthly included credits for Inference Providers."}),
    (
        OutOfCredit,
        403,
        {"code": "…", "error": "Your team has used all available credits or reached its monthly spending limit."},
    ),
    (OutOfCredit, 400, openai("Your credit balance is too low to access the API.")),
    # ------------------------------------------------------------------------------------------------------ too many
    (
        RateLimited,
        429,
        openai("Rate limit reached for gpt-5 on requests per min (RPM): Limit 3", "rate_limit_exceeded", "requests"),
    ),
    (
        RateLimited,
        429,
        openai("Rate limit reached: too many tokens; reduce the length of the messages", "rate_limit_exceeded"),
    ),
    (RateLimited, 429, ""),
    (RateLimited, 429, "<html>nginx</html>"),
    # -------------------------------------------------------------------------------------------------------- the key
    (Unauthorised, 401, openai(f"Incorrect API key provided: {KEY}.", "invalid_api_key")),
    (Unauthorised, 401, {"error": {"message": "No auth credentials found", "code": 401}}),
    (
        Unauthorised,
        403,
        {"error": "This authentication method does not have sufficient permissions to call Inference Providers"},
    ),
    (Unauthorised, 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory")),
    (Unauthorised, 400, openai("API key not valid. Please pass a valid API key.")),
    # ------------------------------------------------------------------------------------------------------- the model
    (NotFound, 404, openai("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found")),
    (NotFound, 403, openai("Project `p` does not have access to model `gpt-5`", "model_not_found")),
    (NotFound, 404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}}),
    (NotFound, 400, {"error": {"message": "gpt-9 is not a valid model ID", "code": 400}}),
    (
        NotFound,
        400,
        openai("The requested model 'x' is not supported by any provider you have enabled.", "model_not_supported"),
    ),
    (NotFound, 404, {"error": {"message": "No endpoints found that support tool use.", "code": 404}}),
    (NotFound, 400, openai("Model Not Exist")),
    (NotFound, 404, {"detail": "Not Found"}),
    (NotFound, 404, "<!doctype html>"),
    (NotFound, 200, "<html>Log in to the hotel's network</html>"),
    # ---------------------------------------------------------------------------------------------------- the policy
    (
        Refused,
        400,
        openai("The response was filtered due to the prompt triggering content management policy.", "content_filter"),
    ),
    (
        Refused,
        400,
        openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"),
    ),
    (
        Refused,
        403,
        {"error": {"code": 403, "message": "Input was flagged for violence", "metadata": {"reasons": ["violence"]}}},
    ),
    (Refused, 400, openai("Content Exists Risk")),
    (Refused, 400, openai("Input data may contain inappropriate content.", "data_inspection_failed")),
    (Refused, 451, ""),
    # ------------------------------------------------------------------------------------------------------ the form
    (
        BadRequest,
        400,
        openai("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported_parameter"),
    ),
    (BadRequest, 400, openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens.")),
    (BadRequest, 422, {"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}),
    (BadRequest, 400, {"error": {"message": "registry.ollama.ai/library/x does not support tools"}}),
    (BadRequest, 400, "not even JSON"),
    (BadRequest, 405, {"error": "Method Not Allowed"}),
    # -------------------------------------------------------------------------------------------------------- broken
    (Unreachable, 500, openai("The server had an error while processing your request.", None, "server_error")),
    (Unreachable, 502, "<html>Bad gateway</html>"),
    (Unreachable, 503, openai("That model is currently overloaded", "rate_limit_exceeded")),
    (Unreachable, 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    (Unreachable, 408, ""),
    (Unreachable, 409, openai("Conflict")),
    (Unreachable, 425, ""),
    (Unreachable, 504, [{"error": {"code": 504, "message": "Deadline expired", "status": "DEADLINE_EXCEEDED"}}]),
]


def bytes_of(said: Any) -> tuple[dict[str, str], bytes]:
    if isinstance(said, str):
        return {"content-type": "text/html" if said.startswith("<") else "text/plain"}, said.encode()
    return {"content-type": "application/json"}, json.dumps(said).encode()


@pytest.mark.parametrize(("kind", "status", "said"), SAID)
def test_a_status_and_what_is_said_become_one_class(kind, status, said):
    headers, body = bytes_of(said)
    error = from_response(OPENAI, status, headers, body)
    assert type(error) is kind
    assert error.status == status
    assert not error.may_be_billed
    assert error.what.startswith("OpenAI (api.openai.com) ")
    assert error.remedy
    assert KEY not in f"{error!r} {error} {error.what} {error.remedy}"
    assert "\n" not in error.what
    assert len(error.what) < 450


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        (RateLimited, {"error": {"code": 429, "message": "Provider returned error"}}),
        (RateLimited, {"error": {"code": "rate_limit_exceeded", "message": "Rate limit reached"}}),
        (Overflow, {"error": {"code": 400, "message": "maximum context length is 8192"}}),
        (OutOfCredit, {"error": {"code": 402, "message": "Insufficient credits"}}),
        (Refused, {"error": {"code": 403, "message": "flagged as harmful"}}),
        (Unauthorised, {"error": {"code": 401, "message": "User not found."}}),
        (BadRequest, {"error": {"message": "bad", "type": "invalid_request_error"}}),
        (Unreachable, {"error": {"message": "The server had an error", "type": "server_error"}}),
        (Unreachable, {"error": "worker died"}),
        (
            Unreachable,
            {"error": {"code": 502, "message": "Provider returned error", "metadata": {"raw": "upstream died"}}},
        ),
        (BadRequest, {"object": "error", "message": "n must be 1", "code": 400}),
    ],
)
async def test_an_error_in_mid_stream_has_its_class_and_may_be_billed(kind, event):
    direct = from_stream(OPENAI, event)
    assert type(direct) is kind
    async with Raw(HEAD + sse(chunk({"content": "Hel"}), event)) as server:
        with pytest.raises(kind) as caught:
            await replied(model_at(server.url))
    assert caught.value.may_be_billed


@pytest.mark.parametrize(
    "body",
    [
        b'event: error\ndata: {"message": "worker died"}\n\n',
        b'error: {"message": "worker died"}\n\n',
        b'{"error": "worker died"}\n',
    ],
)
async def test_an_error_may_be_named_by_its_event_or_stand_bare(body):
    async with Raw(HEAD + sse(chunk({"content": "Hel"}), end="") + body) as server:
        with pytest.raises(Unreachable, match="worker died"):
            await replied(model_at(server.url))


async def test_an_error_with_a_good_status_is_one():
    text = json.dumps(openai("no such model", "model_not_found")).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n".encode()
    async with Raw(head + text) as server:
        with pytest.raises(NotFound):
            await replied(model_at(server.url))


async def test_an_answer_that_is_no_reply_is_told():
    text = b'{"status": "ok"}'
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n".encode()
    async with Raw(head + text) as server:
        with pytest.raises(Unreachable, match="status"):
            await replied(model_at(server.url))


def test_a_long_message_is_clipped_and_stands_on_one_line():
    error = from_response(OPENAI, 400, {}, json.dumps(openai("so\nlong " * 500)).encode())
    assert "\n" not in error.what
    assert error.what.count("long") < 60


@pytest.mark.parametrize(
    ("message", "end"),
    [("Sorry about that!", "(HTTP 400): Sorry about that!"), ("No.", "(HTTP 400): No."), ("No", "(HTTP 400): No.")],
)
def test_what_a_server_said_has_one_end(message: str, end: str):
    assert from_response(OPENAI, 400, {}, json.dumps(openai(message)).encode()).what.endswith(end)
    assert cut(OPENAI, message).what.endswith(end.removeprefix("(HTTP 400)"))


def test_what_the_upstream_said_is_told_too():
    said = {
        "error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": "prompt is too long: 9 > 8"}}
    }
    error = from_response(OPENAI, 400, {}, json.dumps(said).encode())
    assert type(error) is Overflow
    assert "prompt is too long" in error.what


@pytest.mark.parametrize(
    ("model", "status", "remedy"),
    [
        ("openai/gpt-5", 401, "Check OPENAI_API_KEY"),
        ("openai/gpt-5", 402, "account of OPENAI_API_KEY"),
        ("openai/gpt-oss-20b", 404, "hf/openai/gpt-oss-20b"),
        ("ollama/qwen3", 404, "ollama pull qwen3"),
        ("ollama/qwen3", 500, "the server's own output"),
        ("vllm/x", 401, "Set VLLM_API_KEY to a key that may use this model."),
    ],
)
def test_the_remedy_names_what_to_do(model, status, remedy):
    endpoint = resolve(model, "", {"OPENAI_API_KEY": KEY})
    assert remedy in from_response(endpoint, status, {}, b"").remedy


def test_a_server_that_moved_is_told_where():
    error = from_response(OPENAI, 308, {"location": "https://example.org/v1"}, b"")
    assert type(error) is NotFound
    assert "https://example.org/v1" in error.what
