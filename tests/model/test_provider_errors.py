"""What goes wrong at providers of other protocols is one of our errors, and says whether it may be billed."""

import asyncio
from contextlib import aclosing

import pytest
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelConnectionError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UserError,
)

from ml_intern.base.errors import (
    BadRequest,
    ModelError,
    NoServer,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Refused,
    Unauthorised,
    Unreachable,
)
from ml_intern.model.catalog import resolve
from ml_intern.model.providers.adapter import AdaptedModel
from ml_intern.model.providers.failures import of_error
from tests.doubles.sse_server import SseDouble
from tests.model.provider_scripts import (
    GOOGLE,
    GOOGLE_USAGE,
    KEY,
    MISTRAL,
    failed,
    google_at,
    mistral_at,
    replied,
    said,
)
from tests.model.raw import request


# -------------------------------------------------------------------------------------------------------------- errors
def google_error(code, status, message, **details):
    return (code, {}, {"error": {"code": code, "status": status, "message": message, **details}})


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (google_error(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted", details=[RETRY]), RateLimited),
        (google_error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), Unauthorised),
        (google_error(403, "PERMISSION_DENIED", "Permission denied"), Unauthorised),
        (google_error(404, "NOT_FOUND", "models/x is not found for API version v1beta"), NotFound),
        (google_error(400, "INVALID_ARGUMENT", "Unknown name"), BadRequest),
        (
            google_error(
                400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8)."
            ),
            Overflow,
        ),
        (google_error(503, "UNAVAILABLE", "The model is overloaded."), Unreachable),
        (google_error(500, "INTERNAL", "An internal error has occurred."), Unreachable),
        ((402, {}, {"error": {"code": 402, "message": "Payment required"}}), OutOfCredit),
    ],
)
async def test_an_error_answer_is_known_by_its_kind_and_costs_nothing(answer, kind):
    async with SseDouble(answer) as double:
        error = await failed(google_at(double.url))
        assert len(double.bodies) == 1, "a client asked again on its own account"
    assert type(error) is kind
    assert (error.status, error.may_be_billed) == (answer[0], False)
    assert error.what.startswith("Google (127.0.0.1:")
    if kind is RateLimited:
        assert error.retry_after_s == 7


@pytest.mark.parametrize("wire", ["mistral", "nebius"])
async def test_other_clients_do_not_ask_again_on_their_own_account_either(wire):
    answer = (429, {"retry-after": "3"}, {"object": "error", "message": "Requests rate limit exceeded", "code": "1300"})
    async with SseDouble(answer) as double:
        nebius = resolve("nebius/m", f"{double.url}/v1", {"NEBIUS_API_KEY": KEY})
        error = await failed(mistral_at(double.url) if wire == "mistral" else AdaptedModel(nebius))
        assert len(double.bodies) == 1
    assert type(error) is RateLimited
    assert (error.retry_after_s, error.may_be_billed) == (3, False)


async def test_a_cut_stream_may_be_billed():
    for make_model, script in ((google_at, GOOGLE), (mistral_at, MISTRAL)):
        async with SseDouble(script, cut_after=3) as double:
            error = await failed(make_model(double.url))
        assert isinstance(error, Unreachable)
        assert (error.may_be_billed, error.transient) == (True, True)


async def test_a_stream_that_ends_before_the_reply_does_is_no_reply():
    bad = said({"text": "oh"}, finishReason="MALFORMED_FUNCTION_CALL")
    scripts = (
        (google_at, GOOGLE[:3], "closed before its end"),
        (mistral_at, MISTRAL[:3], "closed before its end"),
        (google_at, [bad], "MALFORMED_FUNCTION_CALL"),
        (google_at, [], ""),
    )
    for make_model, script, why in scripts:
        async with SseDouble(script) as double:
            error = await failed(make_model(double.url))
        assert isinstance(error, Unreachable), script
        assert why in error.what
        assert error.may_be_billed


async def test_nobody_there_costs_nothing():
    async with SseDouble() as double:
        url = double.url
    for make_model in (google_at, mistral_at):
        error = await failed(make_model(url))
        assert type(error) is NoServer
        assert not error.may_be_billed


async def test_silence_ends_and_a_cancelled_request_leaves_the_server_at_once():
    hanging = [*MISTRAL[:2], {"hang": True}]
    async with SseDouble(hanging) as double:
        error = await failed(mistral_at(double.url, idle_s=1.0))
        assert "silent for 1 s" in error.what
        assert error.may_be_billed
    async with SseDouble(hanging) as double:
        model = mistral_at(double.url)

        async def read():
            async with aclosing(model.ask(request())) as stream:
                async for _ in stream:
                    pass

        task = asyncio.create_task(read())
        while not double.bodies:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(3):
            await double.left.wait()
        await model.aclose()


async def test_a_refusal_by_policy_is_one():
    blocked = [{"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": GOOGLE_USAGE}]
    async with SseDouble(blocked) as double:
        model = google_at(double.url)
        try:
            _, end = await replied(model)
        except ModelError as error:
            assert type(error) is Refused  # noqa: PT017 - either is right: a refusal, or a reply that says so
        else:
            assert end.finish == "filter"


@pytest.mark.parametrize(
    ("raised", "kind", "billed"),
    [
        (ModelConnectionError("m", "reset", phase="connect"), Unreachable, False),
        (ModelConnectionError("m", "reset", phase="read"), Unreachable, True),
        (ModelConnectionError("m", "reset"), Unreachable, True),
        (UnexpectedModelBehavior("nonsense"), Unreachable, True),
        (ContentFilterError("filtered"), Refused, True),
        (UserError("wrong"), BadRequest, False),
        (ModelHTTPError(418, "m", {"error": {"message": "teapot"}}), BadRequest, False),
    ],
)
def test_every_error_of_theirs_is_one_of_ours(raised, kind, billed):
    endpoint = resolve("google/gemini-2.5-pro", "", {"GOOGLE_API_KEY": KEY})
    error = of_error(endpoint, raised, has_begun=False)
    assert type(error) is kind
    assert error.may_be_billed is billed
    assert error.what.endswith(".")
    assert error.remedy
