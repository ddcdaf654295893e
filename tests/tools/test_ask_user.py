from dataclasses import replace

import pytest

from ml_intern.base.errors import ToolFailed
from ml_intern.policy.judge import Ask, judge
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Notifies
from ml_intern.record.events import Entry, Event, ModelReplied, ModeSet, OnAsk, ToolAnswered, ToolHeld
from ml_intern.record.messages import Call, Reply
from ml_intern.record.view import fold
from ml_intern.tools.ask_user import AskUser
from tests.tools.bench import Bench

QUESTION = {"question": "Which split?", "options": ["the official one", "a new one"]}


def at(bench: Bench, *events: Event) -> Bench:
    view = bench.view
    for event in events:
        view = fold(view, Entry(view.seq + 1, 0, "main", event))
    return replace(bench, view=view)


def attended(bench: Bench, on_ask: OnAsk) -> Bench:
    return at(bench, ModeSet("auto", on_ask))


def answered(bench: Bench, text: str) -> Bench:
    call = Call("call-1", "w", "ask_user", "{}")
    held = ToolHeld("call-1", "b", "", (), 0, "", TextDisplay(""))
    return at(
        attended(bench, "hold"),
        ModelReplied("a", Reply((call,)), None, 0, "calls"),
        held,
        ToolAnswered("c", "call-1", approve=True, text=text, by="user"),
    )


async def test_where_nobody_is_there_the_model_is_told_to_decide_and_to_say_so(bench):
    result = await attended(bench, "deny").call(AskUser(), **QUESTION)
    assert result.outcome == "ok"
    assert "Decide yourself" in result.text
    assert "final answer" in result.text


async def test_where_one_may_come_the_question_is_held_in_every_mode(bench):
    prepared = await attended(bench, "hold").prepare(AskUser(), **QUESTION)
    [effect] = prepared.effects
    assert isinstance(effect, Notifies)
    assert isinstance(judge(prepared.effects, "ask"), Ask)
    assert isinstance(judge(prepared.effects, "auto"), Ask)
    assert prepared.display == TextDisplay("Which split?", "1. the official one\n2. a new one")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("2", "The user chose: a new one"),
        ("3", "The user answered: 3"),
        ("neither: drop it", "The user answered: neither: drop it"),
    ],
)
async def test_the_persons_words_are_the_answer(bench, said, text):
    assert (await answered(bench, said).call(AskUser(), **QUESTION)).text == text


async def test_a_yes_without_a_word_is_the_first_option(bench):
    assert "first option" in (await answered(bench, "").call(AskUser(), **QUESTION)).text


@pytest.mark.parametrize(
    "wrong", [{"question": " "}, {"question": "a?", "options": ["x", "x "]}, {"question": "a?", "options": [""]}]
)
async def test_a_blank_or_double_option_is_told(bench, wrong):
    with pytest.raises(ToolFailed):
        await bench.prepare(AskUser(), **wrong)
