from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ml_intern.base.errors import BadSettings
from ml_intern.policy.judge import Allow, Ask, Deny, judge
from ml_intern.policy.rules import VERBS, Rule, parse_rule
from ml_intern.record.effects import Destroys, Executes, Publishes, Reaches, Reads, Spends, Writes
from ml_intern.record.events import RuleGiven
from tests.policy.test_judge import ASKED, FLOOR, FREE
from tests.record.legal import of


def rule(decision: Any, text: str, **more: Any) -> Rule:
    return parse_rule(RuleGiven(decision, text, "flag"), **more)


PRIVATE = Publishes("hub:me/model", public=False)
targets = st.sampled_from(["hub:me/model", "a/b", "example.org", "me", "x"])
kinds = type(PRIVATE), Reads, Writes, Executes, Reaches, Spends, Destroys
effects = st.one_of([of(kind) for kind in kinds]) | st.sampled_from([*FREE, *ASKED, *FLOOR])
texts = st.builds(
    lambda verb, glob: f"{verb} {glob}", st.sampled_from(VERBS), targets | st.sampled_from(["*", "hub:*"])
)
rules = st.builds(rule, st.sampled_from(["allow", "ask", "deny"]), texts)
modes = st.sampled_from(["plan", "ask", "auto", "yolo"])
ORDER = {Allow: 0, Ask: 1, Deny: 2}


def on_floor(effect: Any) -> bool:
    match effect:
        case Executes(walled=False) | Publishes(public=True) | Destroys(remote=True) | Spends(own=False):
            return True
        case _:
            return False


def test_a_rule_frees_what_would_be_asked():
    assert isinstance(judge((PRIVATE,), "auto"), Ask)
    assert judge((PRIVATE,), "auto", [rule("allow", "publish hub:me/*, private")]) == Allow()
    assert isinstance(judge((PRIVATE,), "auto", [rule("allow", "publish hub:you/*, private")]), Ask)
    assert isinstance(judge((PRIVATE,), "auto", [rule("allow", "write hub:me/*")]), Ask)


def test_the_strictest_rule_wins_wherever_it_stands():
    allow, ask, deny = (rule(decision, "publish hub:me/*") for decision in ("allow", "ask", "deny"))
    assert isinstance(judge((PRIVATE,), "auto", [allow, ask]), Ask)
    assert isinstance(judge((PRIVATE,), "auto", [ask, allow]), Ask)
    assert isinstance(judge((PRIVATE,), "yolo", [deny, ask, allow]), Deny)
    assert isinstance(judge((PRIVATE,), "yolo", [allow, ask, deny]), Deny)


def test_a_denial_names_the_rule_and_where_it_stands():
    given = RuleGiven("deny", "write *.lock", "workspace")
    verdict = judge((Writes("uv.lock"),), "auto", [parse_rule(given)])
    assert isinstance(verdict, Deny)
    assert "`deny write *.lock` (the settings of this workspace)" in verdict.reason


def test_what_asks_names_the_narrowest_rule_that_would_allow_it():
    verdict = judge((PRIVATE,), "auto")
    assert isinstance(verdict, Ask)
    assert verdict.rule == "publish hub:me/model, private"
    spends = judge((Spends(2_504_000, "me", "a job"),), "ask")
    assert isinstance(spends, Ask)
    assert spends.rule == "spend me, up to 2.51"


def test_a_grant_ends_at_its_bound():
    most = [rule("allow", "spend me, up to 2.50")]
    assert judge((Spends(2_500_000, "me", "a job"),), "ask", most) == Allow()
    assert isinstance(judge((Spends(2_500_001, "me", "a job"),), "ask", most), Ask)
    public = Publishes("hub:me/model", public=True)
    assert isinstance(judge((public,), "yolo", [rule("allow", "publish *")]), Ask)


def test_plan_only_looks_and_no_rule_changes_that():
    for effect in (Writes("out.txt"), Executes("ls"), PRIVATE, Spends(1, "me", "a job")):
        verdict = judge((Reads("a"), effect), "plan", [rule("allow", f"{verb} *") for verb in VERBS])
        assert isinstance(verdict, Deny)
        assert "may only look" in verdict.reason
        assert "--mode auto" in verdict.remedy
    assert judge((Reads("a"), Reaches("hub", known=True)), "plan") == Allow()
    assert judge((), "plan") == Allow()


def test_yolo_frees_what_would_be_asked():
    for effect in ASKED:
        assert judge((effect,), "yolo") == Allow()


def test_hosts_are_the_same_in_capitals_and_paths_are_not():
    assert rule("allow", "reach *.Example.org").matches(Reaches("DATA.example.ORG"))
    assert not rule("allow", "write Data/*").matches(Writes("data/x"))


def test_no_allow_covers_a_way_that_climbs_but_a_deny_does():
    climbing = Writes("/srv/data/../../etc/passwd", within=False)
    assert isinstance(judge((climbing,), "ask", [rule("allow", "write /srv/data/*")]), Ask)
    assert isinstance(judge((climbing,), "ask", [rule("deny", "write /srv/data/*")]), Deny)


@pytest.mark.parametrize(
    ("decision", "text", "said"),
    [
        ("allow", "publsh hub:me/*", "did you mean 'publish'"),
        ("allow", "", "begins with no verb"),
        ("allow", "publish", "does not say what it covers"),
        ("allow", "publish  , private", "does not say what it covers"),
        ("allow", "write *, private", "only what is published"),
        ("allow", "write *, up to 3", "only spending has an amount"),
        ("allow", "spend me, up to lots", "is not an amount"),
        ("deny", "publish *, private", "has a bound"),
        ("ask", "spend *, up to 3", "has a bound"),
    ],
)
def test_a_text_that_is_no_rule_is_told_with_the_way_to_write_it(decision, text, said):
    with pytest.raises(BadSettings, match=said) as told:
        rule(decision, text)
    assert told.value.remedy


def test_examples_are_checked_when_a_rule_is_given():
    rule("allow", "publish hub:me/*", examples=["hub:me/a"], counter=["hub:you/a"])
    with pytest.raises(BadSettings, match="does not cover its example 'hub:you/a'"):
        rule("allow", "publish hub:me/*", examples=["hub:you/a"])
    with pytest.raises(BadSettings, match="covers 'hub:me/secret', its counter-example"):
        rule("allow", "publish hub:me/*", counter=["hub:me/secret"])


@given(effects, modes, st.lists(rules, max_size=6))
def test_no_rules_and_no_mode_cross_the_floor(effect, mode, given_rules):
    if on_floor(effect):
        verdict = judge((effect,), mode, given_rules)
        assert isinstance(verdict, Deny) or (isinstance(verdict, Ask) and verdict.floor)


@given(st.lists(effects, max_size=4), modes, st.lists(rules, max_size=6))
def test_the_verdict_is_the_strictest_of_its_effects(several, mode, given_rules):
    alone = [ORDER[type(judge((effect,), mode, given_rules))] for effect in several]
    assert ORDER[type(judge(tuple(several), mode, given_rules))] == max(alone, default=0)


@given(effects, modes, st.lists(rules, max_size=6), rules)
def test_one_more_rule_that_asks_or_denies_never_frees(effect, mode, given_rules, one_more):
    before, after = (judge((effect,), mode, each) for each in (given_rules, [*given_rules, one_more]))
    if one_more.decision != "allow":
        assert ORDER[type(after)] >= ORDER[type(before)]
    elif one_more.decision == "allow":
        assert ORDER[type(after)] <= ORDER[type(before)]


@given(effects, modes, st.lists(rules, max_size=6))
def test_the_order_of_rules_does_not_matter(effect, mode, given_rules):
    there, back = (judge((effect,), mode, each) for each in (given_rules, given_rules[::-1]))
    assert type(there) is type(back)


@given(effects)
def test_the_rule_that_is_named_does_allow_it(effect):
    assume(not isinstance(effect, Spends) or 0 <= effect.amount <= 10**12)
    verdict = judge((effect,), "ask")
    if isinstance(verdict, Ask) and verdict.rule:
        assert judge((effect,), "ask", [rule("allow", verdict.rule)]) == Allow()
