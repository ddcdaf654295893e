import pytest
from hypothesis import given, settings

from ml_intern.record.events import (
    ModelFailed,
    ModelReplied,
    ModelStopped,
    RetryPlanned,
    StopAsked,
    ToolAnswered,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.folds.turn import Stopping
from ml_intern.record.log import replay
from ml_intern.record.messages import Reply, Text
from ml_intern.record.next import MOST_FAILURES, AskModel, Rest, SettleCalls, Wait, next_step
from ml_intern.record.view import MAIN
from tests.record.legal import records
from tests.record.test_folds import after, asked, finished, held, replied, started

GO = UserSaid("c", "go")
NO = ToolAnswered("n", "k", False, "no", "u")


def failed(kind="unreachable", *, transient=True):
    return ModelFailed("a", kind, "what", "remedy", transient=transient, cost=0)


def ended(finish):
    return ModelReplied("a", Reply((Text("x"),)), None, 0, finish)


TABLE = {
    "nothing was said": ((), Rest()),
    "something was said": ((GO,), AskModel()),
    "an attempt was lost open": ((GO, asked("a")), AskModel()),
    "the last word": ((GO, asked("a"), replied("a", text="hi")), Rest(Stopping("done"))),
    "the turn ended": ((GO, asked("a"), replied("a", text="hi"), TurnEnded("done")), Rest()),
    "steered meanwhile": ((GO, asked("a"), UserSaid("d", "x"), replied("a", text="hi")), AskModel()),
    "a follow-up waits": (
        (GO, asked("a"), UserSaid("d", "x", when="after"), replied("a", text="hi")),
        Rest(Stopping("done")),
    ),
    "a follow-up's turn": (
        (GO, asked("a"), UserSaid("d", "x", when="after"), replied("a", text="hi"), TurnEnded("done")),
        AskModel(),
    ),
    "a new call": ((GO, asked("a"), replied("a", "k")), SettleCalls()),
    "a held call": ((GO, asked("a"), replied("a", "k"), held("k")), Wait("person")),
    "one held, one new": ((GO, asked("a"), replied("a", "k", "l"), held("k")), SettleCalls()),
    "a started call": ((GO, asked("a"), replied("a", "k"), started("k")), SettleCalls()),
    "an answered call": ((GO, asked("a"), replied("a", "k"), held("k"), NO), SettleCalls()),
    "held when stopped": ((GO, asked("a"), replied("a", "k"), held("k"), StopAsked("s")), SettleCalls()),
    "all calls finished": ((GO, asked("a"), replied("a", "k"), finished("k")), AskModel()),
    "a passing failure": ((GO, asked("a"), failed()), AskModel()),
    "a planned retry": ((GO, asked("a"), failed(), RetryPlanned(2_000_000, 1)), Wait("instant", 2_000_000)),
    "a due retry": ((GO, asked("a"), failed(), RetryPlanned(1_000_000, 1)), AskModel()),
    "a lasting failure": ((GO, asked("a"), failed(transient=False)), Rest(Stopping("failed", "what", "remedy"))),
    "a lasting failure, and somebody was asked since": (
        (GO, asked("a"), failed(transient=False), asked("b"), ModelStopped("b", "", 0)),
        AskModel(),
    ),
    "too long": ((GO, asked("a"), failed("overflow", transient=False)), Rest(Stopping("overflow", "what", "remedy"))),
    "as many failures as may be": ((GO, *[asked("a"), failed()] * MOST_FAILURES), AskModel()),
    "more failures, and one more try planned": (
        (GO, *[asked("a"), failed()] * (MOST_FAILURES + 1), RetryPlanned(2_000_000, 7)),
        Wait("instant", 2_000_000),
    ),
    "our own death after many failures": (
        (GO, *[asked("a"), failed()] * MOST_FAILURES, asked("a"), failed("lost")),
        AskModel(),
    ),
    "one failure too many": (
        (GO, *[asked("a"), failed()] * (MOST_FAILURES + 1)),
        Rest(Stopping("failed", "what", "remedy")),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_next_step_when(name):
    events, expected = TABLE[name]
    assert next_step(after(*events), MAIN, 1_000_000) == expected


ENDINGS = {
    "stopped": ((GO, asked("a"), ModelStopped("a", "half", 0), StopAsked("s")), "interrupted"),
    "stopped before": ((GO, StopAsked("s")), "interrupted"),
    "out of time": ((GO, StopAsked("s", "limit")), "limit"),
    "cut": ((GO, asked("a"), ended("length")), "failed"),
    "filtered": ((GO, asked("a"), ended("filter")), "failed"),
    "overrun": ((GO, asked("a"), replied("a", cost=9, overrun=True)), "budget"),
    "denied": (
        (GO, asked("a"), replied("a", "k"), finished("k", outcome="denied"), asked("b"), replied("b", text="ok")),
        "denied",
    ),
    "denied, then gone on": (
        (
            *(GO, asked("a"), replied("a", "k"), finished("k", outcome="denied"), asked("b"), replied("b", "l")),
            *(finished("l"), asked("d"), replied("d", text="ok")),
        ),
        "done",
    ),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_turn_ends_when(name):
    events, reason = ENDINGS[name]
    step = next_step(after(*events), MAIN, 0)
    assert isinstance(step, Rest)
    assert step.ending
    assert step.ending.reason == reason


@settings(max_examples=60, deadline=None)
@given(records())
def test_some_step_follows_from_every_record_and_it_only_depends_on_it(entries):
    view = replay(entries)
    for lane in (MAIN, "sub"):
        step = next_step(view, lane, 0)
        assert step == next_step(replay(entries), lane, 0)
        if isinstance(step, SettleCalls) or step == Wait("person"):
            assert view.lane(lane).calls
        if isinstance(step, AskModel):
            assert not view.lane(lane).calls
            assert view.lane(lane).turn.open
