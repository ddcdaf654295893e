"""A turn that goes on with a model of another wire: what the first one said is valid for the second, and seen by a
person."""

import json

import pytest

from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import Double
from tests.walks.walk import Hearing, Walk, step

FIRST, SECOND = "openai-compatible/first", "anthropic-compatible/second"
CALL = {
    "thinking": "I look.",
    "text": "First.",
    "calls": [{"name": "bash", "arguments": {"command": "echo found-it"}}],
}
GONE = {"fault": {"status": 402, "body": {"error": {"message": "Payment required.", "type": "billing_error"}}}}


@pytest.mark.parametrize("first", ["chat", "messages"])
async def test_a_turn_goes_on_with_a_model_of_the_other_wire(first, walk: Walk):
    begins = [{"when": {"step": 0}, "reply": CALL}, {"when": {"step_from": 1}, **GONE}]
    ends = [{"when": {"last_contains": "found-it"}, "reply": {"text": "It is found."}}]
    chat = Double(begins if first == "chat" else ends)
    messages = AnthropicDouble(ends if first == "chat" else begins)
    ids = (FIRST, SECOND) if first == "chat" else (SECOND, FIRST)
    async with chat, messages:
        environ = {
            "OPENAI_COMPATIBLE_BASE_URL": chat.url,
            "ANTHROPIC_COMPATIBLE_BASE_URL": messages.url.removesuffix("/v1"),
        }
        ended = await walk.run("look", "--model", ids[0], "--fallback", ids[1], "--output-format", "json", env=environ)
        shown = await walk.run("show", "last", env=environ)
    result = json.loads(ended.out)
    assert (ended.code, result["text"]) == (0, "It is found."), ended.err
    assert result["answered"] == {ids[0]: 1, ids[1]: 1}
    for text in (ended.err, shown.out):
        assert f"model: {ids[1]} answers from here on, paid by this machine. {ids[0]} failed: " in text
    assert f"falls back to {ids[1]}" in shown.out


@pytest.mark.parametrize("fails", [True, False])
async def test_a_chain_resumes_without_a_flag_whether_it_fell_down_or_not(fails, walk: Walk):
    gone = [{"when": {"model": "a"}, **GONE}] if fails else []
    async with Hearing([*gone, step(0, text="Here."), step(1, text="Here again.")]) as model:
        flags = ("--model", "openai-compatible/a", "--fallback", "openai-compatible/c", "--base-url", model.url)
        first = await walk.run("hi", *flags)
        again = await walk.run("resume", "last", "more")
        asked = [json.loads(body)["model"] for body in model.bodies]
    assert (first.code, again.code, again.out.strip()) == (0, 0, "Here again."), again.err
    assert "left out" not in again.err
    assert asked == (["a", "c", "a", "c"] if fails else ["a", "a"])
    settings = (await walk.view()).settings
    assert settings.models["main"].chain == ("openai-compatible/a", "openai-compatible/c")


async def test_a_model_for_titles_names_the_session_aside(walk: Walk):
    names = {"when": {"model": "namer"}, "reply": {"text": '"Reviews: macro-F1 of DistilBERT"'}}
    async with Hearing([names, step(0, calls=[CALL["calls"][0]]), step(1, text="Done.")]) as model:
        flags = ("--model", "openai-compatible/a", "--title-model", "openai-compatible/namer", "--base-url", model.url)
        ended = await walk.run("train it on the reviews", *flags, "--output-format", "json")
        listed = await walk.run("sessions", "--json")
        shown, all_shown = await walk.run("show"), await walk.run("show", "--full")
        asked = [json.loads(body)["model"] for body in model.bodies]
        prompts = [json.loads(body)["messages"][-1]["content"] for body in model.bodies]
    assert (ended.code, asked) == (0, ["a", "namer", "a"]), ended.err
    assert json.loads(listed.out)["title"] == "Reviews: macro-F1 of DistilBERT"
    assert ("train it on the reviews" in prompts[1], "title   " in ended.err) == (True, True)
    said = '  | "Reviews: macro-F1 of DistilBERT"'
    assert (said in shown.out, said in all_shown.out) == (False, True)
    assert json.loads(ended.out)["steps"] == 2
