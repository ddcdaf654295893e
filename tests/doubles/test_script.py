"""Scripts: the right reply for every transcript, faults as often as told, no slip unnoticed."""

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.doubles.chaos import TRANSIENT, chaotic
from tests.doubles.conftest import Answer
from tests.doubles.openai_server import Double
from tests.doubles.script import ScriptWrong, load

USER = {"role": "user", "content": "go"}


def step(id_: str, answer: str) -> list[dict[str, Any]]:
    call = {"id": id_, "type": "function", "function": {"name": "bash", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": id_, "content": answer},
    ]


async def test_the_rule_is_chosen_by_the_transcript_so_a_client_that_starts_again_goes_on(client):
    script = [
        {"when": {"step": 0}, "reply": {"calls": [{"name": "bash", "arguments": {"command": "ls"}}]}},
        {"when": {"step": 1, "last_contains": "lost"}, "reply": {"text": "What a pity."}},
        {"when": {"step": 1}, "reply": {"text": "second"}},
        {"when": {"step_from": 2}, "reply": {"text": "late"}},
    ]
    async with Double(script) as double:
        first = await client.ask(double.url, [USER])
        assert first.calls == [{"id": "call_0_0", "name": "bash", "arguments": '{"command": "ls"}'}]
        assert (await client.ask(double.url, [USER, *step("a", "x")])).text == "second"
        assert (await client.ask(double.url, [USER, *step("a", "it is lost")])).text == "What a pity."
        assert (await client.ask(double.url, [USER, *step("a", "x"), *step("b", "y")])).text == "late"
        assert (await client.ask(double.url, [USER])).calls == first.calls


@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ({}, True),
        ({"step_below": 2}, True),
        ({"step_below": 1}, False),
        ({"last_role": "tool"}, True),
        ({"last_role": "user"}, False),
        ({"user_contains": "go"}, True),
        ({"user_contains": "42"}, False),
        ({"any_contains": "42"}, True),
        ({"system_contains": "be good"}, True),
        ({"system_contains": "42"}, False),
        ({"model": "m"}, True),
        ({"model": "n"}, False),
        ({"tool_offered": "bash"}, True),
        ({"tool_offered": "write"}, False),
        ({"step": 1, "last_contains": "42", "model": "n"}, False),
    ],
)
async def test_every_condition(client, when, matches):
    script = [{"when": when, "reply": {"text": "yes"}}, {"reply": {"text": "no"}}]
    async with Double(script) as double:
        system = {"role": "system", "content": "be good"}
        answer = await client.ask(double.url, [system, USER, *step("a", "it is 42")])
    assert answer.text == ("yes" if matches else "no")


async def test_values_are_captured_from_earlier_answers(client):
    script = [
        {"when": {"step": 2}, "reply": {"text": "{{answer:-1:/sha256: (\\w+)/}} and {{answer:0}}; {{user:0}}"}},
        {
            "reply": {
                "calls": [
                    {"name": "bash", "arguments": {"command": 'echo "{{answer:0:/n=\\d+/}}"', "list": ["{{user:0}}"]}}
                ]
            }
        },
    ]
    async with Double(script) as double:
        call = (await client.ask(double.url, [USER, *step("a", "line\nn=17")])).calls[0]
        assert json.loads(call["arguments"]) == {"command": 'echo "n=17"', "list": ["go"]}
        answer = await client.ask(double.url, [USER, *step("a", "n=17"), *step("b", "sha256: ab12\nsize: 3")])
        assert answer.text == "ab12 and n=17; go"


async def test_the_frame_around_what_a_tool_read_is_no_value(client):
    script = [{"reply": {"text": "{{answer:0}} and {{answer:0:/\\d+/}}"}}]
    framed = "ours\n[data 12ab34cd56ef | untrusted text]\nrows\n17\n[end of data 12ab34cd56ef]"
    async with Double(script) as double:
        answer = await client.ask(double.url, [USER, *step("a", framed)])
    assert answer.text == "ours\nrows\n17 and 17"


@pytest.mark.parametrize("template", ["{{answer:0}}", "{{user:0:/nothing/}}", "{{user:-2}}"])
async def test_what_cannot_be_captured_is_told_not_guessed(client, template):
    async with Double([{"reply": {"text": template}}]) as double:
        answer = await client.ask(double.url, [USER])
    assert (answer.status, answer.body["error"]["code"]) == (400, "script_over")
    assert template in answer.body["error"]["message"]


async def test_a_transcript_without_a_rule_is_told(client):
    async with Double([{"when": {"step": 3}, "reply": {"text": "x"}}]) as double:
        answer = await client.ask(double.url, [USER])
        assert (answer.status, answer.body["error"]["code"]) == (400, "script_over")
        assert double.exchanges[0].how == "refused"


async def test_an_id_that_the_transcript_has_is_not_given_again(client):
    async with Double([{"reply": {"calls": [{"name": "bash"}, {"name": "bash"}]}}]) as double:
        answer = await client.ask(double.url, [USER, *step("call_1_0", "x")])
    assert [call["id"] for call in answer.calls] == ["call_1_0x", "call_1_1"]


async def test_a_fault_happens_as_often_as_told_and_then_the_reply_is_good(client):
    async with Double([{"fault": {"status": 500}, "times": 2, "reply": {"text": "at last"}}]) as double:
        assert [(await client.ask(double.url)).status for _ in range(4)] == [500, 500, 200, 200]


async def test_a_rule_answers_as_often_as_told(client):
    script = [{"times": 1, "reply": {"text": "once"}}, {"reply": {"text": "then"}}]
    async with Double(script) as double:
        assert [(await client.ask(double.url)).text for _ in range(3)] == ["once", "then", "then"]


async def test_a_fault_without_a_reply_befalls_what_the_next_rule_says(client):
    script = [
        {"fault": {"truncated_call": True}, "times": 1},
        {"reply": {"calls": [{"name": "bash", "arguments": {"command": "ls -l"}}]}},
    ]
    async with Double(script) as double:
        assert (await client.ask(double.url)).calls[0]["arguments"] == '{"command"'
        assert (await client.ask(double.url)).calls[0]["arguments"] == '{"command": "ls -l"}'


async def test_several_servers_with_one_ledger_agree_how_often_a_fault_has_happened(client, tmp_path):
    script = [{"fault": {"status": 429}, "times": 3, "reply": {"text": "ok"}}]
    ledger = tmp_path / "ledger.jsonl"
    async with Double(script, ledger=ledger) as one, Double(script, ledger=ledger) as other:
        asked = [(await client.ask(double.url)).status for double in (one, other, one, other, one)]
    assert asked == [429, 429, 429, 200, 200]
    async with Double(script, ledger=ledger) as third:
        assert (await client.ask(third.url)).status == 200
        assert len(third.exchanges) == 6


async def is_through(asking: Awaitable[Answer]) -> bool:
    try:
        answer = await asking
    except (httpx2.TransportError, json.JSONDecodeError, KeyError):
        return False
    return answer.text == "through" and answer.finish == "stop"


async def test_chaos_is_passed_by_asking_again_at_most_three_times(client):
    script = chaotic([{"reply": {"text": "through"}}], steps=2, seed=11)
    assert len(script) > 2
    async with Double(script) as double:
        for messages in ([USER], [USER, *step("a", "x")]):
            assert True in [await is_through(client.ask(double.url, messages)) for _ in range(4)]


def test_chaos_is_the_same_for_the_same_seed():
    rules = [{"reply": {"text": "x"}}]
    assert chaotic(rules, 20, seed=1) == chaotic(rules, 20, seed=1) != chaotic(rules, 20, seed=2)
    assert len(load(chaotic(rules, 50, seed=3)).rules) > 50
    assert len(TRANSIENT) >= 10


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"reply": {"txt": "x"}},
        {"wen": {}, "reply": {}},
        {"when": {"last": "x"}, "reply": {}},
        {"reply": {"calls": [{"nam": "x"}]}},
        {"fault": {"status": 429, "overflow": True}},
        {"fault": {"retry_after": 3}},
        {"fault": {"status": "429"}},
        {"fault": {"hang": False}},
        {"fault": {"hang": True, "soon": 1}},
    ],
)
def test_a_slip_in_a_script_is_found_when_it_is_loaded(rule, tmp_path):
    file = tmp_path / "script.json"
    file.write_text(json.dumps([rule]))
    with pytest.raises(ScriptWrong, match="rule 0"):
        load(file)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "bench" / "scripts").glob("*.json")), ids=str)
def test_the_scripts_of_the_bench_can_be_played(path):
    assert load(path).rules
