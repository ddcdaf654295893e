"""One limiter for each key: a server that complains is left alone by everyone, and nobody is forgotten."""

import asyncio
import json
import time
from collections import deque
from contextlib import aclosing

import pytest

from ml_intern.base.errors import ModelError, RateLimited, Unreachable
from ml_intern.model.catalog import resolve
from ml_intern.model.limiter import PATIENCE_S, Limited, Limiter, Limiters
from ml_intern.model.port import Finished, Model
from ml_intern.model.wire.chat import ChatModel
from ml_intern.model.wire.messages import MessagesModel
from ml_intern.record.messages import Asked
from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.http1 import Answer, Request
from tests.doubles.openai_server import Double
from tests.model.raw import request

WINDOW_S, MOST_IN_WINDOW, WAIT_S = 0.4, 6, 0.5
HURRY_S = 0.1
"""What is on its way when a complaint is sent may still arrive."""


class Strict:
    """Takes so many requests in so much time, and tells the others to wait."""

    def __init__(self, status: int, header: tuple[tuple[str, str], ...]) -> None:
        self.status, self.header = status, header
        self.arrived: list[float] = []
        self.refused: list[float] = []
        self._taken: deque[float] = deque()

    def verdict(self) -> Answer | None:
        now = time.monotonic()
        self.arrived.append(now)
        while self._taken and now - self._taken[0] > WINDOW_S:
            self._taken.popleft()
        if len(self._taken) < MOST_IN_WINDOW:
            self._taken.append(now)
            return None
        self.refused.append(now)
        body = {"error": {"message": "Too many requests", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}
        return Answer(status=self.status, headers=self.header, body=json.dumps(body).encode())

    def impatient(self) -> list[tuple[float, float]]:
        """Requests that arrived while everyone was told to wait."""
        waits = [(at + HURRY_S, at + WAIT_S - 0.02) for at in self.refused]
        return [(at, since) for at in self.arrived for since, until in waits if since < at < until]


class StrictChat(Double):
    def __init__(self, strict: Strict) -> None:
        super().__init__([{"reply": {"text": "Hello.", "first_delay_ms": 30}}])
        self.strict = strict

    def answer(self, request: Request) -> Answer:
        return self.strict.verdict() or super().answer(request)


class StrictMessages(AnthropicDouble):
    def __init__(self, strict: Strict) -> None:
        super().__init__([{"reply": {"text": "Hello.", "first_delay_ms": 30}}])
        self.strict = strict

    def answer(self, request: Request) -> Answer:
        return self.strict.verdict() or super().answer(request)


async def asked_until_answered(model: Model, name: int) -> tuple[int, int, str]:
    """What the loop does: a rate limit is waited for and asked again."""
    for failures in range(20):
        try:
            return name, failures, await text_of(model, name)
        except ModelError as error:
            if error.retry_after_s is None:
                raise
            await asyncio.sleep(error.retry_after_s)
    pytest.fail(f"{name} was never answered")


async def text_of(model: Model, name: int) -> str:
    async with aclosing(model.ask(request(Asked(f"I am {name}")))) as stream:
        items = [item async for item in stream]
    assert isinstance(items[-1], Finished)
    return items[-1].reply.text


@pytest.mark.parametrize("wire", ["chat", "messages"])
@pytest.mark.parametrize(
    ("status", "header"),
    [(429, (("retry-after", str(WAIT_S)),)), (529, (("retry-after-ms", str(int(WAIT_S * 1000))),))],
)
async def test_twenty_at_once_keep_to_what_the_server_takes_and_none_is_starved(wire, status, header):
    strict = Strict(status, header)
    limiters = Limiters()
    async with StrictChat(strict) if wire == "chat" else StrictMessages(strict) as double:
        name = "openai-compatible/m" if wire == "chat" else "anthropic-compatible/m"
        endpoint = resolve(name, double.url, {})
        # Each lane has its own connections, as the roles and sessions of a process have.
        makers = [ChatModel(endpoint) if wire == "chat" else MessagesModel(endpoint) for _ in range(4)]
        models = [Limited(each, limiters.of(endpoint)) for each in makers]
        async with asyncio.timeout(30):
            done = await asyncio.gather(*(asked_until_answered(models[at % 4], at) for at in range(20)))
        for model in models:
            await model.aclose()
    assert [text for _, _, text in done] == ["Hello."] * 20
    assert strict.refused, "the server never complained: the test shows nothing"
    assert strict.impatient() == []
    # The turn of a lane ends after six failures in a row (record/next.py).
    assert max(failures for _, failures, _ in done) <= 3


async def test_without_a_limiter_the_same_server_is_run_over():
    strict = Strict(429, (("retry-after", str(WAIT_S)),))
    async with StrictChat(strict) as double:
        model = ChatModel(resolve("openai-compatible/m", double.url, {}))
        starts = asyncio.gather(*(_later(at * 0.03, asked_until_answered(model, at)) for at in range(20)))
        async with asyncio.timeout(30):
            await starts
        await model.aclose()
    assert strict.impatient() != []


async def _later(seconds, work):
    await asyncio.sleep(seconds)
    return await work


async def holds(limiter: Limiter, seconds: float, order: list[int], name: int) -> None:
    async with limiter.place():
        order.append(name)
        await asyncio.sleep(seconds)


async def test_no_more_run_at_once_than_may_and_the_first_to_come_is_the_first_to_go():
    limiter, order, most = Limiter(3), [], 0
    running = 0

    async def one(name):
        nonlocal running, most
        async with limiter.place():
            running += 1
            most = max(most, running)
            order.append(name)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(one(at) for at in range(30)))
    assert most == 3
    assert order == list(range(30))


async def test_a_cancelled_waiter_frees_its_place():
    limiter, order = Limiter(1), []
    first = asyncio.create_task(holds(limiter, 0.1, order, 0))
    await asyncio.sleep(0)
    second, third = (asyncio.create_task(holds(limiter, 0, order, at)) for at in (1, 2))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)
    assert order == [0, 2]
    assert second.cancelled()


async def test_a_place_that_is_given_in_the_moment_of_a_cancel_goes_to_the_next():
    limiter, order = Limiter(1), []
    entered = limiter.place()
    await entered.__aenter__()
    second, third = (asyncio.create_task(holds(limiter, 0, order, at)) for at in (1, 2))
    await asyncio.sleep(0)
    await entered.__aexit__(None, None, None)  # gives the place to the second, which has not run yet
    second.cancel()
    async with asyncio.timeout(1):
        await third
    assert order == [2]


async def test_a_cancelled_request_frees_its_place():
    limiter, order = Limiter(1), []
    first = asyncio.create_task(holds(limiter, 60, order, 0))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(1):
        await holds(limiter, 0, order, 1)
    assert order == [0, 1]


async def fails(limiter: Limiter, error: ModelError) -> None:
    with pytest.raises(type(error)):
        async with limiter.place():
            raise error


async def test_a_pause_of_one_is_the_pause_of_all_and_ends():
    limiter = Limiter(4)
    await fails(limiter, RateLimited("slow", retry_after_s=0.2))
    begun = time.monotonic()
    await asyncio.gather(*(holds(limiter, 0, [], at) for at in range(5)))
    assert 0.15 < time.monotonic() - begun < 2


async def test_a_server_that_does_not_say_how_long_is_left_alone_for_a_second():
    limiter = Limiter(4)
    await fails(limiter, RateLimited("slow"))
    begun = time.monotonic()
    await holds(limiter, 0, [], 0)
    assert 0.9 < time.monotonic() - begun < 3


async def test_an_ordinary_failure_pauses_nobody():
    limiter = Limiter(4)
    await fails(limiter, Unreachable("cut", may_be_billed=True))
    async with asyncio.timeout(0.2):
        await holds(limiter, 0, [], 0)


async def test_a_pause_that_is_long_is_said_instead_of_waited_for():
    limiter = Limiter(4)
    await fails(limiter, RateLimited("slow", retry_after_s=PATIENCE_S * 4))
    with pytest.raises(RateLimited, match="paused for another 1") as caught:
        await holds(limiter, 0, [], 0)
    assert caught.value.retry_after_s is not None
    assert PATIENCE_S * 3 < caught.value.retry_after_s <= PATIENCE_S * 4
    assert not caught.value.may_be_billed
    assert caught.value.remedy


def test_a_key_at_a_server_has_one_limiter_and_another_key_another():
    limiters = Limiters()
    one, same = (resolve("openai/a", "", {"OPENAI_API_KEY": "sk-one"}) for _ in range(2))
    other = resolve("openai/b", "", {"OPENAI_API_KEY": "sk-two"})
    assert limiters.of(one) is limiters.of(same)
    assert limiters.of(one) is not limiters.of(other)
    assert "sk-one" not in repr(vars(limiters))
