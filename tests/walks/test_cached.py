"""How much of its prompts a session of 100 steps finds cached, as the server counts it and as the product tells it."""

import json
import sys
from typing import Any

import pytest

from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.ledger import Exchange
from tests.doubles.openai_server import Double
from tests.walks.walk import Done, Walk

STEPS = 100
LEAST = 0.9
QUIET = ("--guard-repeats", "off", "--guard-stall", "off", "--guard-plan", "off")


def script() -> list[dict[str, Any]]:
    """A command each step, whose answer says what is next; about 1 kB each."""
    command = "printf 'loss of a step %.0s' {1..60}; echo; echo next=$((HERE + 1))"
    again = {"name": "bash", "arguments": {"command": command.replace("HERE", "{{answer:-1:/next=(\\d+)/}}")}}
    first = {"name": "bash", "arguments": {"command": command.replace("HERE", "0")}}
    return [
        {"when": {"step": 0}, "reply": {"calls": [first]}},
        {"when": {"step_below": STEPS - 1}, "reply": {"thinking": "One more.", "calls": [again]}},
        {"reply": {"text": "All done."}},
    ]


def share(exchanges: list[Exchange]) -> float:
    return sum(each.cached_tokens for each in exchanges) / sum(each.prompt_tokens for each in exchanges)


async def play(walk: Walk, double: Double, provider: str) -> Done:
    words = ("--model", f"{provider}/m", "--base-url", double.url, "--price", "1/4", *QUIET)
    running = await walk.start("Count.", *words, "--output-format", "stream-json")
    done = await running.ended(110)
    assert done.code == 0, done.said
    return done


def check(done: Done, exchanges: list[Exchange]) -> None:
    """The server's figures and the product's are the same, and good."""
    assert len(exchanges) == STEPS
    assert {each.status for each in exchanges} == {200}
    counted = share(exchanges)
    assert counted >= LEAST
    *events, result = map(json.loads, done.out.splitlines())
    assert (result["type"], result["steps"], result["text"]) == ("result", STEPS, "All done.")
    assert result["prompt_tokens"] == sum(each.prompt_tokens for each in exchanges)
    assert result["cached_tokens"] == sum(each.cached_tokens for each in exchanges)
    assert result["cached_share"] == round(counted, 4)
    percent = 100 * result["cached_tokens"] // result["prompt_tokens"]
    assert f"({percent} % of the prompts cached)" in done.err.splitlines()[-1]
    usages = [event["event"]["usage"] for event in events if event["event"]["type"] == "model_replied"]
    assert [each.get("cached", 0) for each in usages] == [each.cached_tokens for each in exchanges]


def is_marked(body: dict[str, Any]) -> bool:
    """Whether the head ends in a mark, and so does what was last in this request and in the one before."""
    said = [row["content"] for row in body["messages"] if row["role"] == "user"]
    return all("cache_control" in blocks[-1] for blocks in (body["system"], *said[-2:]))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "provider"), [(Double, "openai-compatible"), (AnthropicDouble, "anthropic-compatible")]
)
async def test_of_a_hundred_steps_nine_tenths_of_the_prompt_tokens_are_cached(
    walk: Walk, kind: type[Double], provider: str
):
    async with kind(script()) as double:
        check(await play(walk, double, provider), double.exchanges)
        if isinstance(double, AnthropicDouble):
            assert all(map(is_marked, double.bodies)), "the API finds nothing in its cache but what ends at a mark"
        sys.stderr.write(f"{provider}: {100 * share(double.exchanges):.1f} % cached\n")
