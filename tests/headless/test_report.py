import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_intern.headless.exits import Exit
from ml_intern.headless.report import Tally, answer, as_json, closing_line, held_lines
from ml_intern.record.asides import ASIDES
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import (
    Destroys,
    Effect,
    Executes,
    Notifies,
    Publishes,
    Reaches,
    Reads,
    Spends,
    Writes,
)
from ml_intern.record.events import (
    CapSet,
    Entry,
    Event,
    ModelAsked,
    ModelChosen,
    ModelFailed,
    ModelReplied,
    ModelStopped,
    Paused,
    SessionStarted,
    ToolAnswered,
    ToolFinished,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.facts import FileChange, FileRead
from ml_intern.record.messages import Reply, Usage
from ml_intern.record.view import MAIN, View, fold
from tests.headless.made import NASTY, SPELLED, UNSEEN, call, entry, held, replied, view_of, written
from tests.record.legal import any_entry, records

STARTED = SessionStarted("01s", "/work", "1")
CAP = CapSet(5_000_000, "user")
CHOSEN = ModelChosen("main", "test/model", None, None, None, "me")
SAID = UserSaid("c1", "go")
ASKED = ModelAsked("a", "main", "test/model", 10_000, 1, 1, "head")


def tallied(*events: Event | tuple[str, Event]) -> Tally:
    tally = Tally()
    for seq, each in enumerate(events, start=1):
        lane, event = each if isinstance(each, tuple) else (MAIN, each)
        tally.read(entry(event, seq, lane))
    return tally


def finished(key: str, cost: int = 0, **more: Any) -> ToolFinished:
    return ToolFinished(key, "ok", "done", TextDisplay("t"), cost=cost, **more)


def result(view: View, tally: Tally, code: Exit, seconds: float = 1.0) -> dict[str, Any]:
    text = as_json(view, tally, code, seconds)
    assert "\n" not in text
    return json.loads(text)


def test_a_tally_counts_replies_tokens_and_money():
    usages = (Usage(1_000, 20, cached=900), Usage(1_100, 30, cached=1_000), None)
    tally = tallied(*(replied("Hi.", usage=usage, cost=7) for usage in usages))
    assert (tally.steps, tally.prompt_tokens, tally.output_tokens, tally.cached_tokens) == (3, 2_100, 50, 1_900)
    assert tally.cost == 21


def test_a_failed_and_a_stopped_attempt_cost_money_and_are_no_step():
    failed = ModelFailed("a", "unreachable", "Cut.", "", transient=True, cost=300, bound=True)
    tally = tallied(failed, ModelStopped("b", "so far", 40, bound=True), failed)
    assert tally == Tally(cost=640)


DONE = TurnEnded("done")
FAILED = ModelFailed("a", "unauthorised", "The key is wrong.", "Set it.", transient=False, cost=0)
ANSWERED = (STARTED, SAID, ASKED, replied("It is 42.", cost=0), DONE)


def test_a_call_costs_what_it_says():
    assert tallied(finished("1", 70), finished("2", 5)) == Tally(cost=75)


def test_the_answer_is_what_the_main_agent_said_last():
    assert answer(view_of(*ANSWERED)) == "It is 42."
    assert answer(view_of(*ANSWERED, ("sub", SAID), ("sub", replied("My report.")), ("sub", DONE))) == "It is 42."
    # An answer that was cut or came of a denied call is one all the same: the exit code says the rest.
    for ending in ("denied", "failed"):
        assert answer(view_of(STARTED, SAID, ASKED, replied("It is 42."), TurnEnded(ending))) == "It is 42."


@pytest.mark.parametrize(
    "events",
    [
        (),
        (STARTED,),
        (STARTED, SAID, ASKED, replied("I look.", call("1")), finished("1"), DONE),
        (STARTED, SAID, ASKED, replied("I look.", call("1")), held("1")),
        (STARTED, SAID, ASKED, replied("It is 42.")),
        (*ANSWERED, UserSaid("c2", "and now?")),
        (*ANSWERED, UserSaid("c2", "and now?"), DONE),
        *((STARTED, SAID, ASKED, replied("It is"), TurnEnded(ending)) for ending in ("interrupted", "limit", "budget")),
        (*ANSWERED, UserSaid("c2", "and now?"), ASKED, FAILED, TurnEnded("failed")),
        (STARTED, SAID, ASKED, replied("", call("1")), finished("1"), ASKED, FAILED, TurnEnded("failed")),
        (STARTED, SAID, ASKED, ModelStopped("a", "It is", 0), TurnEnded("interrupted")),
    ],
)
def test_where_a_turn_did_not_end_with_one_or_something_was_said_since_there_is_no_answer(events: tuple[Event, ...]):
    assert answer(view_of(*events)) == ""


@settings(max_examples=60, deadline=None)
@given(records())
def test_what_a_whole_record_comes_to_is_what_the_purse_has_spent(record: list[Entry]):
    tally, view = Tally(), View()
    for each in record:
        tally.read(each)
        view = fold(view, each)
    replies = [each.event for each in record if isinstance(each.event, ModelReplied)]
    assert tally.cost == view.purse.spent
    assert tally.steps == len(replies)
    assert tally.prompt_tokens == sum(reply.usage.prompt for reply in replies if reply.usage)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_entry(), max_size=5))
def test_a_tally_reads_whatever_is_recorded(drawn: list[Entry]):
    tally = Tally()
    for each in drawn:
        tally.read(each)
    assert tally.steps == sum(isinstance(each.event, ModelReplied) and each.event.role not in ASIDES for each in drawn)


def held_view(*events: Event, tool: str = "tell", arguments: str = '{"to": "boss"}') -> View:
    return view_of(STARTED, SAID, ASKED, replied("", call("1", arguments, tool), call("2"), cost=0), *events)


def test_a_held_call_is_shown_whole():
    held_one = held("1", Spends(1_250_000, "the lab", "an H100"), Notifies("boss"), quote=1_250_000, payer="the lab")
    assert held_lines(held_view(held_one)) == [
        'held call 1: tell {"to": "boss"}',
        "  because it sends a message to boss",
        '  would: spends {"amount": 1250000, "payer": "the lab", "what": "an H100", "own": true}',
        '  would: notifies {"recipient": "boss"}',
        "  at most $1.25 of the lab",
    ]


def test_a_call_that_costs_nobody_anything_says_so():
    assert held_lines(held_view(held("1")))[-1] == "  at most $0.00 of nobody"


EFFECTS: list[tuple[Effect, str]] = [
    (Reads("/etc", within=False), 'reads {"target": "/etc", "within": false}'),
    (Writes("a.py"), 'writes {"target": "a.py", "within": true}'),
    (Executes("rm -rf x", walled=False), 'executes {"command": "rm -rf x", "walled": false}'),
    (Reaches("example.invalid"), 'reaches {"host": "example.invalid", "known": false}'),
    (Spends(5, "me", "é", own=False), 'spends {"amount": 5, "payer": "me", "what": "é", "own": false}'),
    (Publishes("me/model", public=True), 'publishes {"target": "me/model", "public": true}'),
    (Destroys("me/model", remote=True), 'destroys {"target": "me/model", "remote": true}'),
    (Notifies("boss"), 'notifies {"recipient": "boss"}'),
]


@pytest.mark.parametrize(("effect", "shown"), EFFECTS)
def test_each_effect_is_shown_with_all_it_says(effect: Effect, shown: str):
    assert f"  would: {shown}" in held_lines(held_view(held("1", effect)))


def test_no_effect_is_left_out():
    assert {type(effect) for effect, _ in EFFECTS} == set(get_args(Effect))


def test_control_characters_of_a_held_call_are_spelled_out():
    view = held_view(held("1", Notifies(f"boss{NASTY}"), reason=NASTY), tool=NASTY, arguments=f'{{"{NASTY}": 1}}')
    header, reason, would, _ = held_lines(view)
    assert header == f'held call 1: {SPELLED} {{"{SPELLED}": 1}}'
    assert reason == f"  because it {SPELLED}"
    # JSON has escapes of its own: what is shown reads back as what it is.
    assert json.loads(would.removeprefix("  would: notifies ")) == {"recipient": f"boss{NASTY}"}
    assert not set("".join(held_lines(view))) & UNSEEN


def test_the_payer_of_a_held_call_is_spelled_out_too():
    assert held_lines(held_view(held("1", payer=NASTY)))[-1] == f"  at most $0.00 of {SPELLED}"


@pytest.mark.parametrize("unseen", ["\r", "\n", "\t", "\u061c", "\u2060", "\U000e0041", "\u00ad"])
def test_no_character_of_a_held_call_can_move_or_forge_a_line(unseen: str):
    evil = f"boss{unseen}held call 2: tell {{}}"
    event = held("1", Notifies(evil), reason=f"sends a message to {evil}", payer=evil)
    lines = held_lines(held_view(event, arguments=f'{{"to":{unseen}"boss"}}'))
    assert len(lines) == 4
    assert not any(unseen in line for line in lines)


def test_only_calls_that_wait_are_shown_in_every_lane():
    answered = ToolAnswered("c2", "2", approve=True, text="", by="user")
    view = view_of(
        *(STARTED, SAID, ASKED, replied("", call("1"), call("2"), call("3"), cost=0)),
        *(held("1"), held("2"), held("3"), answered, ToolAnswered("c3", "3", approve=False, text="no", by="user")),
        *(("sub", UserSaid("c4", "go")), ("sub", replied("", call("4"), cost=0)), ("sub", held("4"))),
    )
    assert [line for line in held_lines(view) if line.startswith("held call")] == [
        "held call 1: tool {}",
        "held call 4: tool {}",
    ]
    assert result(view, Tally(), Exit.HELD)["held"] == ["1", "4"]


@settings(max_examples=60, deadline=None)
@given(records())
def test_each_held_call_of_any_record_is_shown_once_and_listed_in_json(record: list[Entry]):
    view = view_of(*((each.lane, each.event) for each in record))
    waiting = [key for lane in view.lanes.values() for key, each in lane.calls.items() if each.state == "held"]
    shown = [line.split()[2].rstrip(":") for line in held_lines(view) if line.startswith("held call ")]
    assert shown == waiting == result(view, Tally(), Exit.HELD)["held"]


def test_json_of_an_answer_holds_every_figure():
    changes = (FileChange("/work/b.py", None, "1"), FileRead("/work/c.py", "2"), FileChange("/work/a.py", "1", None))
    view = view_of(
        *(STARTED, CAP, CHOSEN, SAID, ASKED, replied("", call("1"), cost=1_000)),
        *(ToolStarted("1", "b-1", (), "findable", 500), finished("1", 400, facts=changes)),
        *(ASKED, replied("« é » \n\x1b[2K", cost=2_000), TurnEnded("done")),
    )
    tally = tallied(replied("", call("1"), cost=1_000), replied("« é » \n\x1b[2K", usage=Usage(5, 6, 4)))
    tally.text = answer(view)
    assert "« é »" in as_json(view, tally, Exit.DONE, 1.0)
    assert result(view, tally, Exit.DONE, 12.34567) == {
        "type": "result",
        "session": "01s",
        "result": "done",
        "exit_code": 0,
        "text": "« é » \n\x1b[2K",
        "what": "",
        "remedy": "",
        "model": "test/model",
        "steps": 2,
        "prompt_tokens": 1_205,
        "output_tokens": 40,
        "cached_tokens": 4,
        "cache_written_tokens": 0,
        "cached_share": 0.0033,
        "answered": {"": 2},
        "cost_usd": 0.0052,
        "session_cost_usd": 0.0034,
        "cap_usd": 5.0,
        "seconds": 12.346,
        "files": ["/work/a.py", "/work/b.py"],
        "held": [],
        "lanes": [],
    }


@pytest.mark.parametrize(
    ("ending", "code", "name"),
    [
        ("failed", Exit.FAILED, "failed"),
        ("overflow", Exit.FAILED, "failed"),
        ("budget", Exit.BUDGET, "budget"),
        ("limit", Exit.LIMIT, "limit"),
        ("denied", Exit.DENIED, "denied"),
        ("interrupted", Exit.INTERRUPTED, "interrupted"),
    ],
)
def test_json_of_any_other_end_says_what_happened_and_what_to_do(ending: Any, code: Exit, name: str):
    view = view_of(STARTED, SAID, TurnEnded(ending, "It ended.", "Go on."))
    found = result(view, Tally(), code)
    assert (found["result"], found["exit_code"]) == (name, int(code))
    assert (found["what"], found["remedy"], found["text"]) == ("It ended.", "Go on.", "")


def test_json_of_a_held_turn_says_nothing_of_the_turn_before_it():
    view = view_of(
        *(STARTED, SAID, UserSaid("c2", "and then this", when="after"), TurnEnded("failed", "It failed.", "Again.")),
        *(ASKED, replied("", call("1"), cost=0), held("1")),
    )
    found = result(view, Tally(), Exit.HELD)
    assert (found["result"], found["exit_code"], found["what"], found["remedy"]) == ("held", 5, "", "")
    assert found["held"] == ["1"]


def test_json_of_a_paused_turn_says_why_and_what_to_do():
    view = view_of(STARTED, SAID, Paused("stall", "Nothing moves.", "Say what to do."))
    found = result(view, Tally(), Exit.HELD)
    assert (found["result"], found["what"], found["remedy"]) == ("held", "Nothing moves.", "Say what to do.")


def test_json_of_a_session_in_which_nothing_happened_has_the_same_names():
    empty = result(View(), Tally(), Exit.DONE)
    assert (empty["session"], empty["model"], empty["cap_usd"], empty["files"], empty["held"]) == ("", "", 0.0, [], [])
    full = result(
        view_of(STARTED, CAP, CHOSEN, SAID, TurnEnded("failed", "a", "b")), tallied(replied("x")), Exit.FAILED
    )
    assert list(empty) == list(full)


def test_the_closing_line_has_the_figures_and_the_way_on():
    view = view_of(STARTED, CAP, SAID, ASKED, replied("Hi.", cost=4_200), TurnEnded("done"))
    tally = tallied(replied("Hi.", usage=Usage(12_345, 6_789)))
    told = "1 step, 83.5 s, 12,345+6,789 tokens, $0.0042 of $5.00 spent; session 01s"
    assert closing_line(view, tally, 83.46) == told


@pytest.mark.parametrize(("steps", "told"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps"), (300, "300 steps")])
def test_one_step_is_no_steps(steps: int, told: str):
    assert closing_line(View(), Tally(steps=steps), 0.0) == f"{told}, 0.0 s, 0+0 tokens, $0.00 of $0.00 spent; session "


def test_the_share_of_the_prompts_that_was_cached_and_who_answered_are_counted():
    tally = Tally()
    for by, cached in (("a", 0), ("b", 90), ("b", 180)):
        usage = Usage(100 + cached // 2, 10, cached=cached // 2, cache_written=5)
        tally.read(Entry(1, 1, "main", ModelReplied("m", Reply((), by), usage, 1, "stop")))
    assert tally.answered == {"a": 1, "b": 2}
    assert (tally.cache_written_tokens, round(tally.cached_share, 2)) == (15, 0.31)
    assert "(31 % of the prompts cached)" in closing_line(View(), tally, 1.0)
    nearly = replied("x", usage=Usage(1_000, 1, cached=919))
    assert "91 % cached" in written(nearly)
    assert "(91 % of the prompts cached)" in closing_line(View(), tallied(nearly), 1.0)
    assert "cached" not in closing_line(View(), Tally(), 1.0)
