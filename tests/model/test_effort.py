"""How much a model is to think: what each server is sent, and what a refusal teaches, once and for later sessions."""

import asyncio
import json
from typing import Any

import pytest
from msgspec.structs import replace

from ml_intern.base.errors import BadRequest
from ml_intern.model.catalog import resolve
from ml_intern.model.effort import EFFORTS, chat_fields, is_adaptive, left_after, message_fields, nearest, taken
from ml_intern.model.learned import Learned, Lesson
from ml_intern.model.port import Finished, Request
from ml_intern.model.wire.chat import ChatModel
from ml_intern.model.wire.messages import MessagesModel
from ml_intern.policy.purse import quote_attempt
from ml_intern.record.events import ModelChosen
from ml_intern.record.folds.purse import Purse
from ml_intern.record.messages import Asked, Prices
from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import Double


class Kept(Double):
    """Keeps what was sent."""

    def __init__(self, script: Any) -> None:
        super().__init__(script)
        self.bodies: list[dict[str, Any]] = []

    def answer(self, request: Any) -> Any:
        self.bodies.append(json.loads(request.body or b"{}"))
        return super().answer(request)


REPLY = {"reply": {"text": "Hello."}}


def refused(message: str, times: int = 1, code: str = "unsupported_value") -> dict:
    error = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    return {"fault": {"status": 400, "body": error}, "times": times}


def request(*texts: str, max_output: int = 16_384) -> Request:
    return Request("system", (), [Asked(text) for text in texts or ("hi",)], max_output, "s")


async def ask(model, asked: Request) -> Finished:
    items = [item async for item in model.ask(asked)]
    assert isinstance(items[-1], Finished)
    return items[-1]


def chat(url: str, effort, lesson: Lesson | None = None) -> ChatModel:
    return ChatModel(resolve("openai-compatible/m", url, {}), effort=effort, lesson=lesson)


def messages(url: str, effort, lesson: Lesson | None = None, model: str = "claude-opus-4-8") -> MessagesModel:
    endpoint = resolve(f"anthropic-compatible/{model}", url, {})
    return MessagesModel(endpoint, effort=effort, lesson=lesson)


@pytest.mark.parametrize(
    ("wanted", "takes", "found"),
    [
        ("max", ("low", "medium", "high"), "high"),
        ("minimal", ("off", "low", "high"), "low"),
        ("off", ("low", "high"), "low"),
        ("off", ("off", "low"), "off"),
        ("medium", ("low", "high"), "low"),
        ("medium", ("off",), None),
        ("high", (), None),
    ],
)
def test_the_nearest_value_is_asked_for_and_no_thinking_only_where_it_is_wanted(wanted, takes, found):
    assert nearest(wanted, takes) == found


@pytest.mark.parametrize(
    ("provider", "effort", "fields"),
    [
        ("openai", "off", {"reasoning_effort": "none"}),
        ("openai", "xhigh", {"reasoning_effort": "xhigh"}),
        ("hf", "high", {"reasoning_effort": "high"}),
        ("ollama", "off", {"reasoning_effort": "none"}),
        ("openrouter", "minimal", {"reasoning": {"effort": "minimal"}}),
        ("vllm", "off", {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        (
            "vllm",
            "high",
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}, "reasoning_effort": "high"},
        ),
        (
            "llamacpp",
            "low",
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}},
        ),
        ("moonshot", "off", {"thinking": {"type": "disabled"}}),
        ("deepseek", "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("openai", None, {}),
    ],
)
def test_each_server_is_asked_in_its_own_words(provider, effort, fields):
    assert chat_fields(provider, effort) == fields


def test_messages_ask_by_effort_and_older_models_within_a_budget_that_leaves_room_for_the_text():
    assert message_fields("high", 16_384, adaptive=True) == {
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
    }
    assert message_fields("max", 16_384, adaptive=False) == {"thinking": {"type": "enabled", "budget_tokens": 12_288}}
    assert message_fields("high", 1_300, adaptive=False) == {}
    assert message_fields("off", 16_384, adaptive=True) == {"thinking": {"type": "disabled"}}
    assert message_fields(None, 16_384, adaptive=True) == {}


@pytest.mark.parametrize(
    ("model", "adaptive"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-sonnet-4-5-20250929", False),
        ("claude-opus-4-1", False),
        ("claude-opus-4-6", True),
        ("claude-sonnet-5", True),
    ],
)
def test_which_models_think_by_effort_is_guessed_by_name(model, adaptive):
    assert is_adaptive(model) is adaptive


@pytest.mark.parametrize(
    ("said", "sent", "left"),
    [
        ("'minimal' is not supported. Supported values are: 'none', 'low', 'medium', and 'high'.", "minimal",
         ("off", "low", "medium", "high")),
        ("Unrecognized request argument supplied: reasoning_effort", "high", ()),
        ("reasoning_effort: Extra inputs are not permitted", "high", ()),
        ("`reasoning_effort` is not supported with this model", "high", ()),
        ("reasoning_effort: invalid value", "xhigh", ("off", "minimal", "low", "medium", "high")),
    ],
)  # fmt: skip
def test_a_refusal_leaves_what_it_lists_or_what_was_not_refused(said, sent, left):
    assert left_after(said, sent, "openai", None) == left


@pytest.mark.parametrize("effort", EFFORTS)
def test_learning_comes_to_an_end_whatever_the_server_lists(effort):
    learned, rounds = None, 0
    while (sent := nearest(effort, taken("openai", learned))) is not None:
        learned = left_after(
            "effort: must be one of max, xhigh, high, medium, low, minimal, none", sent, "openai", learned
        )
        rounds += 1
        assert rounds < 10


async def test_a_refused_effort_costs_one_request_and_is_remembered_and_told_once(tmp_path):
    lesson = Lesson(tmp_path / "learned.json", "openai-compatible/m", "http://x")
    double = Kept([refused(SAYS), REPLY])
    async with double:
        model = chat(double.url, "xhigh", lesson)
        await ask(model, request())
        await ask(model, request())
        await model.aclose()
        assert [body.get("reasoning_effort") for body in double.bodies] == ["xhigh", "medium", "medium"]
    [line] = lesson.told()
    assert "takes only these efforts: low, medium" in line
    lesson.save()
    later = Lesson(tmp_path / "learned.json", "openai-compatible/m", "http://x")
    later.load()
    assert later.learned.efforts == ("low", "medium")
    assert later.told() == []


SIDE_BY_SIDE = 8
SAYS = "Unsupported value: 'xhigh' is not supported with this model. Supported values are: 'low' and 'medium'."


async def test_lanes_that_are_refused_side_by_side_all_go_on_with_what_the_first_one_learned():
    lesson = Lesson()
    double = Kept([refused(SAYS, times=SIDE_BY_SIDE), REPLY])
    async with double:
        models = [chat(double.url, "xhigh", lesson) for _ in range(SIDE_BY_SIDE)]
        await asyncio.gather(*(ask(model, request()) for model in models))
        for model in models:
            await model.aclose()
        sent = [body.get("reasoning_effort") for body in double.bodies]
    assert (sent[:SIDE_BY_SIDE], sent[SIDE_BY_SIDE:]) == (["xhigh"] * SIDE_BY_SIDE, ["medium"] * SIDE_BY_SIDE)
    assert lesson.learned.efforts == ("low", "medium")


@pytest.mark.parametrize(
    ("said", "learned"),
    [
        ("adaptive thinking is not supported on this model", Learned(adaptive=False)),
        ("max_tokens: 16384 > 8192, which is the maximum allowed number of output tokens", Learned(most_output=8192)),
        ("messages.0.content.0.cache_control: Extra inputs are not permitted", Learned(marks=False)),
    ],
)
async def test_the_same_holds_for_what_the_messages_api_refuses(said, learned):
    lesson = Lesson()
    async with AnthropicDouble([refused(said, times=SIDE_BY_SIDE), REPLY]) as double:
        models = [messages(double.url, "low", lesson) for _ in range(SIDE_BY_SIDE)]
        await asyncio.gather(*(ask(model, request()) for model in models))
        for model in models:
            await model.aclose()
    assert (lesson.learned, len(double.bodies)) == (learned, 2 * SIDE_BY_SIDE)


async def test_a_server_that_knows_no_effort_is_sent_none_from_then_on():
    lesson = Lesson()
    double = Kept([refused("Unrecognized request argument supplied: reasoning_effort"), REPLY])
    async with double:
        model = chat(double.url, "high", lesson)
        await ask(model, request())
        await model.aclose()
        assert [body.get("reasoning_effort") for body in double.bodies] == ["high", None]
    assert "takes no effort, so it thinks as it does by itself" in lesson.told()[0]


async def test_another_refusal_teaches_nothing_about_effort():
    lesson = Lesson()
    async with Kept([refused("messages: something else is wrong"), REPLY]) as double:
        model = chat(double.url, "high", lesson)
        with pytest.raises(BadRequest):
            await ask(model, request())
        await model.aclose()
    assert lesson.learned.efforts is None


async def test_a_model_that_thinks_within_a_budget_is_learned_from_its_refusal():
    lesson = Lesson()
    said = "adaptive thinking is not supported on this model"
    async with AnthropicDouble([refused(said), REPLY]) as double:
        model = messages(double.url, "low", lesson)
        await ask(model, request())
        await model.aclose()
        assert [body["thinking"]["type"] for body in double.bodies] == ["adaptive", "enabled"]
        assert double.bodies[1]["thinking"]["budget_tokens"] < double.bodies[1]["max_tokens"]
    assert lesson.learned.adaptive is False


async def test_a_budget_waits_where_the_open_calls_are_of_a_model_that_thought_otherwise():
    said = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
    async with AnthropicDouble([refused(said), REPLY]) as double:
        model = messages(double.url, "low", model="claude-sonnet-4-5")
        await ask(model, request())
        await ask(model, request())
        await ask(model, request("hi", "more"))
        await model.aclose()
        assert ["thinking" in body for body in double.bodies] == [True, False, False, True]


def test_much_thinking_gets_a_longer_reply_that_is_reserved():
    chosen = ModelChosen("main", "m", 1_000_000, None, Prices(1_000_000, 4_000_000), "me")
    purse = Purse(cap=100_000_000)
    usual, most = quote_attempt(purse, chosen, 100), quote_attempt(purse, replace(chosen, effort="max"), 100)
    assert usual is not None
    assert most is not None
    assert (usual.max_output, most.max_output) == (16_384, 65_536)
    assert most.reserved > usual.reserved
    assert quote_attempt(purse, replace(chosen, effort="low"), 100) == usual
