"""The bill is exact: every token once, the cached ones at their price, whatever became of the stream."""

import asyncio
import contextlib

import httpx2
import pytest

from tests.doubles.ledger import Ledger, Rates, exchanges, total
from tests.doubles.openai_server import Double

PRICES = "1/4/0.1"


@pytest.mark.parametrize("text", ["", "1", "1/2/3/4", "-1/2", "a/b"])
def test_prices_that_are_none_are_refused(text):
    with pytest.raises((ValueError, ArithmeticError)):
        Rates.parse(text)


def test_a_cost_is_rounded_up_once():
    rates = Rates.parse("0.3/0.7/0.1")
    assert rates.cost(prompt=1, cached=0, output=1) == 1
    assert rates.cost(prompt=10, cached=4, output=3) == 5  # 6 x 0.3 + 4 x 0.1 + 3 x 0.7 = 4.3
    assert rates.cost(prompt=0, cached=0, output=0) == 0
    assert Rates.parse("3/15").cost(prompt=1_000_000, cached=500_000, output=1_000_000) == 18_000_000


async def test_what_is_counted_is_what_was_sent_and_said(client):
    async with Double(
        [{"reply": {"text": "äöü", "thinking": "hm", "calls": [{"name": "bash"}]}}], prices=PRICES
    ) as double:
        await client.ask(double.url, "twelve bytes", tools=None)
        seen = double.exchanges[0]
        assert (seen.prompt_tokens, seen.output_tokens) == (3, 4)  # 12 bytes; 6 + 2 + 4 + 2 bytes
        assert seen.cost == double.ledger.total() == 3 * 1 + 4 * 4


async def test_tools_and_pictures_are_part_of_the_prompt(client):
    async with Double([{"reply": {"text": "x"}}], prices=PRICES) as double:
        await client.ask(double.url, "x")
        picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9000}}
        await client.ask(double.url, [{"role": "user", "content": [picture]}], tools=None)
        with_tools, with_picture = double.exchanges
    assert with_tools.prompt_tokens > 30
    assert with_picture.prompt_tokens == 765


async def test_a_prefix_that_was_sent_before_is_cached_in_steps_of_1024_tokens(client):
    long = "".join(f"{number:07d} " for number in range(2000))  # 4 000 tokens
    history = [{"role": "user", "content": long}]
    grown = [*history, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "and then?"}]
    async with Double([{"reply": {"text": "x"}}], prices=PRICES) as double:
        await client.ask(double.url, history, tools=None)
        await client.ask(double.url, grown, tools=None)
        await client.ask(double.url, [{"role": "user", "content": long[:9000] + "!" + long[9000:]}], tools=None)
        await client.ask(double.url, grown, tools=None, model="other")
        await client.ask(double.url, "something else", tools=None)
        first, second, changed, other, short = double.exchanges
    assert [first.cached_tokens, second.cached_tokens] == [0, 3072]
    assert changed.cached_tokens == 2048
    assert [other.cached_tokens, short.cached_tokens] == [0, 0]
    assert second.cost == Rates.parse(PRICES).cost(second.prompt_tokens, 3072, 1)


async def test_another_key_has_a_cache_of_its_own_and_no_key_stands_in_the_ledger(client):
    request = {"model": "m", "messages": [{"role": "user", "content": "x" * 9000}], "max_tokens": 10}
    async with Double([{"reply": {"text": "x"}}]) as double:
        for key in ("sk-one", "sk-two", "sk-one"):
            await client.send(double.url, request, {"authorization": f"Bearer {key}"})
        assert [exchange.cached_tokens for exchange in double.exchanges] == [0, 0, 2048]
        assert "sk-one" not in double.ledger.path.read_text()


@pytest.mark.parametrize(
    "fault",
    [{"cut_after": 2}, {"end_after": 2}, {"reset": True, "after": 2}, {"malformed": True}, {"error": {"message": "x"}}],
    ids=lambda fault: next(iter(fault)),
)
async def test_a_broken_stream_is_owed_in_full(client, fault):
    script = [{"fault": fault, "times": 1, "reply": {"text": "a reply that somebody must pay for"}}]
    async with Double(script, prices=PRICES) as double:
        with contextlib.suppress(httpx2.TransportError, ValueError, KeyError):
            await client.ask(double.url)
        await client.ask(double.url)
        broken, whole = double.exchanges
    assert broken.cost == whole.cost > 0


async def test_an_abandoned_stream_is_owed_in_full(client):
    async with Double([{"reply": {"text": "word" * 100, "chunk_delay_ms": 50}}], prices="0/4") as double:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(double.url), 0.2)
        while double.exchanges[0].how == "open":
            await asyncio.sleep(0.005)
        assert (double.exchanges[0].how, double.ledger.total()) == ("disconnected", 100 * 4)


async def test_a_usage_of_ones_own_is_reported_and_billed(client):
    reply = {"text": "x", "usage": {"prompt": 1000, "cached": 0, "output": 500, "reasoning": 400}}
    async with Double([{"reply": reply}], prices="1/4") as double:
        answer = await client.ask(double.url, stream_options={"include_usage": True})
        assert answer.events[-2]["usage"]["completion_tokens"] == 500
        assert double.ledger.total() == 1000 + 500 * 4


async def test_a_usage_that_is_not_reported_is_billed_all_the_same(client):
    async with Double([{"reply": {"text": "x", "usage": "none"}}], prices="1/4") as double:
        answer = await client.ask(double.url, stream_options={"include_usage": True})
        assert not any("usage" in event for event in answer.events[:-1])
        assert double.ledger.total() > 0


def test_a_request_is_owed_from_its_arrival_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.arrived("a", 1, {"cost": 7})
    ledger.arrived("b", 2, {"cost": 5})
    ledger.ended("a", "completed", {"chunks": 3})
    ledger.close()
    with path.open("a") as file:
        file.write('{"event":"arri')
    assert total(path) == 12
    assert [(exchange.id, exchange.how) for exchange in exchanges(path)] == [("a", "completed"), ("b", "open")]
