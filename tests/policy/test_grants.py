from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import Micro
from ml_intern.policy.grants import Grant, granted_of, grants_at, like, line_of
from ml_intern.policy.judge import Allow, Ask, Deny, judge, needs
from ml_intern.policy.rules import Bounds, parse_rule
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Effect, Executes, Publishes, Spends, Writes
from ml_intern.record.events import (
    Entry,
    Event,
    Granted,
    GrantEnded,
    RuleGiven,
    ToolFinished,
    ToolStarted,
    TurnEnded,
    UserSaid,
)
from ml_intern.record.folds.grants import Grants, fold_grants
from tests.policy.test_judge import FLOOR

NOW = 1_800_000_000_000
PRIVATE = Publishes("hub:me/model", public=False, verb="push")
TEXT = "publish hub:me/*, private, 3 times"


def granted(text: str = TEXT, origin: Any = "flag", until: int | None = None) -> Granted:
    return granted_of(parse_rule(RuleGiven("allow", text, origin)), "g1", until)


def used(*grants: str, call: str = "c", reserved: int = 0) -> ToolStarted:
    return ToolStarted(call, "b", (), "findable", reserved, grants=grants)


def finished(cost: int = 0, call: str = "c") -> ToolFinished:
    return ToolFinished(call, "ok", "", TextDisplay(""), cost=cost)


def folded(*events: Event) -> Grants:
    grants: Grants = {}
    for seq, event in enumerate(events, 1):
        grants = fold_grants(grants, Entry(seq, seq, "main", event))
    return grants


def after(*events: Event, now: int = NOW) -> tuple[Grant, ...]:
    return grants_at(folded(*events), now)


def verdict(effect: Effect, *events: Event, mode: Any = "auto", rules: Any = ()) -> Allow | Ask | Deny:
    return judge((effect,), mode, [parse_rule(each) for each in rules], after(*events))


def test_a_permission_allows_so_many_calls_and_then_it_is_asked_with_the_reason():
    uses = [used("g1", call=str(number)) for number in range(3)]
    for count in range(3):
        assert verdict(PRIVATE, granted(), *uses[:count]) == Allow(("g1",))
    last = verdict(PRIVATE, granted(), *uses)
    assert isinstance(last, Ask)
    assert last.reason == f"publishes to hub:me/model (push); `{TEXT}` would allow it, but it is used up (3 of 3)"


@pytest.mark.parametrize(
    "effect",
    [
        Publishes("hub:me/model", public=True, verb="push"),
        Publishes("hub:you/model", public=False),
        Publishes("hub:me/../you/model", public=False),
        Spends(1, "me", "a job"),
        *FLOOR,
    ],
    ids=repr,
)
def test_nothing_else_is_allowed_by_it(effect: Effect):
    assert isinstance(verdict(effect, granted(), mode="ask"), Ask)


@pytest.mark.parametrize("effect", FLOOR, ids=repr)
def test_the_floor_is_never_crossed_by_a_permission_for_many(effect: Effect):
    rules = [f"{verb} *, 9 times" for verb in ("publish", "destroy", "execute", "spend")]
    given = [granted_of(parse_rule(RuleGiven("allow", text, "answer")), text, None) for text in rules]
    found = verdict(effect, *given)
    assert isinstance(found, Ask)
    assert found.floor
    assert needs((effect,), "auto")[1]


def test_a_permission_may_be_for_one_verb_only():
    creates = Publishes("hub:me/model", public=False, verb="create")
    text = "publish hub:me/*, private, push only, once"
    assert verdict(PRIVATE, granted(text)) == Allow(("g1",))
    assert isinstance(verdict(creates, granted(text)), Ask)


def test_money_in_all_is_what_calls_may_still_cost_and_then_what_they_did():
    text = "spend me, up to 2.00, 3.00 in all"
    job, dear = Spends(2_000_000, "me", "a job"), Spends(2_000_001, "me", "a job")
    assert verdict(job, granted(text), mode="ask") == Allow(("g1",))
    assert isinstance(verdict(dear, granted(text), mode="ask"), Ask)
    reserved = used("g1", reserved=2_000_000)
    second = verdict(job, granted(text), reserved, mode="ask")
    assert isinstance(second, Ask)
    assert second.reason.endswith("would allow it, but what is left of it is less")
    assert verdict(job, granted(text), reserved, finished(500_000), mode="ask") == Allow(("g1",))
    spent = verdict(job, granted(text), reserved, finished(3_000_000), mode="ask")
    assert isinstance(spent, Ask)
    assert spent.reason.endswith("but its $3.00 are spent")


def test_two_spendings_of_one_call_count_together():
    text = "spend me, 3.00 in all"
    both = (Spends(2_000_000, "me", "a"), Spends(2_000_000, "me", "b"))
    assert isinstance(judge(both, "ask", (), after(granted(text))), Ask)


def test_a_permission_ends_at_its_time_with_its_turn_or_with_its_line():
    timed = granted("publish *, until 18:30", until=NOW)
    assert judge((PRIVATE,), "auto", (), after(timed, now=NOW - 1)) == Allow(("g1",))
    assert isinstance(judge((PRIVATE,), "auto", (), after(timed)), Ask)
    turn = granted("publish *, this turn")
    assert verdict(PRIVATE, turn, UserSaid("c", "go")) == Allow(("g1",))
    over = verdict(PRIVATE, turn, UserSaid("c", "go"), TurnEnded("done"))
    assert isinstance(over, Ask)
    assert over.reason.endswith("but its turn is over")
    gone = verdict(PRIVATE, granted(), GrantEnded("g1", "its line is gone from the settings"))
    assert isinstance(gone, Ask)
    assert gone.reason.endswith("but its line is gone from the settings")


def test_a_turn_of_a_sub_agent_ends_no_permission():
    grants = fold_grants(folded(granted("publish *, this turn")), Entry(2, 2, "sub", TurnEnded("done")))
    assert grants_at(grants, NOW)[0].over == ""


def test_a_rule_that_asks_yields_to_the_answer_to_its_own_question_and_one_that_denies_to_none():
    asks, denies = RuleGiven("ask", "publish *", "user"), RuleGiven("deny", "publish *", "user")
    assert isinstance(verdict(PRIVATE, granted(), rules=[asks]), Ask)
    answered = granted("publish hub:me/model, private, 3 times", "answer")
    assert verdict(PRIVATE, answered, rules=[asks]) == Allow(("g1",))
    assert isinstance(verdict(PRIVATE, answered, rules=[denies]), Deny)
    assert isinstance(verdict(PRIVATE, answered, mode="plan"), Deny)


def test_a_rule_with_a_count_is_none_until_it_is_counted():
    assert isinstance(verdict(PRIVATE, rules=[RuleGiven("allow", TEXT, "flag")]), Ask)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("publish hub:me/*, private, 3 times", Bounds(times=3)),
        ("publish hub:me/*, once, private", Bounds(times=1)),
        ("spend me, up to 2, 10.50 in all, 4 times", Bounds(times=4, total=Micro(10_500_000))),
        ("reach *.org, until 18:30", Bounds(until="18:30")),
        ("reach *.org, until 2026-12-31 18:30", Bounds(until="2026-12-31 18:30")),
        ("notify boss, this turn", Bounds(turn=True)),
        ("notify boss, this session", Bounds()),
    ],
)
def test_bounds_are_read_in_any_order(text: str, bounds: Bounds):
    rule = parse_rule(RuleGiven("allow", text, "flag"))
    assert (rule.bounds, rule.is_counted) == (bounds, bounds != Bounds())
    assert "," not in rule.glob


@pytest.mark.parametrize(
    ("decision", "text", "why"),
    [
        ("deny", "publish *, 3 times", "a bound"),
        ("ask", "publish *, once", "a bound"),
        ("allow", "publish *, 0 times", "allows nothing"),
        ("allow", "publish *, 5.00 in all", "only spending"),
        ("allow", "spend *, push only", "only what is published"),
        ("allow", "spend me, five in all", "five"),
    ],
)
def test_bounds_that_mean_nothing_are_a_sentence(decision: Any, text: str, why: str):
    with pytest.raises(BadSettings, match=why):
        parse_rule(RuleGiven(decision, text, "flag"))


def test_calls_like_a_held_one_are_those_to_the_very_same_place():
    rules = like((PRIVATE, Spends(2_500_000, "me", "a job")))
    assert [rule.text for rule in rules] == ["publish hub:me/model, private, push only", "spend me, up to 2.50"]
    assert like((PRIVATE, Writes("/a/../b", within=False))) == ()
    assert like((Executes("printf 'a\nb'"),)) == ()


def test_a_line_tells_what_is_allowed_by_whom_and_what_is_left():
    grants = folded(granted("spend me, 3.00 in all, 2 times"), used("g1", reserved=1_000_000), finished(700_000))
    assert line_of(grants["g1"], NOW) == "`spend me, 3.00 in all, 2 times` (a flag): 1 of 2 used, $0.70 of $3.00 spent"
    always = folded(Granted("g2", (RuleGiven("allow", "notify boss", "answer"),)))
    assert line_of(always["g2"], NOW) == "`notify boss` (an answer): 0 used"


@given(st.integers(1, 5), st.lists(st.integers(0, 900_000), max_size=8))
def test_no_order_of_calls_passes_the_count_or_the_sum(times: int, costs: list[int]):
    grants = folded(
        granted_of(parse_rule(RuleGiven("allow", f"spend me, 2.00 in all, {times} times", "flag")), "g1", None)
    )
    job = Spends(900_000, "me", "a job")
    started = 0
    for number, cost in enumerate(costs):
        if judge((job,), "ask", (), grants_at(grants, NOW)) != Allow(("g1",)):
            break
        started += 1
        grants = fold_grants(grants, Entry(1, 1, "main", used("g1", call=str(number), reserved=job.amount)))
        assert grants["g1"].committed <= 2_000_000
        grants = fold_grants(grants, Entry(1, 1, "main", finished(cost, str(number))))
    assert started <= times
