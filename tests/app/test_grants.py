from typing import Any

import pytest

from ml_intern.app.grants import check_end, grant_events, split_rules, until_of
from ml_intern.app.settings import Flags, make_launch
from ml_intern.base.errors import BadSettings
from ml_intern.policy.rules import parse_rule
from ml_intern.record.events import Granted, GrantEnded, RuleGiven
from ml_intern.record.folds.grants import Given, Grants

FLAG = RuleGiven("allow", "publish hub:me/*, private, 3 times", "flag")
LINE = RuleGiven("allow", "publish hub:us/*, private, 3 times", "user")
PLAIN = RuleGiven("allow", "publish hub:them/*", "user")
HOUR = 3_600_000


def events(grants: Grants, *rules: RuleGiven) -> list[Granted | GrantEnded]:
    return grant_events(grants, split_rules(rules)[0])


def taken(*granted: Granted | GrantEnded) -> Grants:
    return {each.grant: Given(each) for each in granted if isinstance(each, Granted)}


def test_rules_with_a_count_become_permissions_and_the_others_stay_rules():
    counted, plain = split_rules((FLAG, PLAIN, LINE))
    assert [rule.given for rule in counted] == [FLAG, LINE]
    assert plain == (PLAIN,)
    found = events({}, FLAG, PLAIN)
    assert [(each.rules, each.times) for each in found if isinstance(each, Granted)] == [((FLAG,), 3)]


def test_a_line_of_a_file_gives_once_in_a_session_and_a_flag_each_time_it_is_said():
    grants = taken(*events({}, FLAG, LINE))
    again = events(grants, FLAG, LINE)
    assert [each.rules for each in again if isinstance(each, Granted)] == [(FLAG,)]
    assert events(grants, LINE) == []


def test_a_line_that_is_gone_ends_its_permission_and_a_flag_that_is_not_repeated_does_not():
    grants = taken(*events({}, FLAG, LINE))
    line = next(key for key, given in grants.items() if given.granted.rules == (LINE,))
    assert events(grants) == [GrantEnded(line, "its line is gone from the settings")]


def test_an_end_is_a_time_of_this_machines_clock():
    now = 1_800_000_000_000
    rule = parse_rule(RuleGiven("allow", "publish *, until 18:30", "flag"))
    found = until_of(rule, now)
    assert found is not None
    assert 0 < found - now <= 24 * HOUR
    day = until_of(parse_rule(RuleGiven("allow", "publish *, until 2999-12-31", "user")), now)
    clock = until_of(parse_rule(RuleGiven("allow", "publish *, until 2999-12-31 23:59", "user")), now)
    assert day is not None
    assert clock is not None
    assert day - clock == 59_000


@pytest.mark.parametrize(
    ("origin", "text", "why"),
    [
        ("user", "publish *, until 18:30", "another day at each start"),
        ("workspace", "publish *, this turn", "a file knows no turn"),
        ("flag", "publish *, until 2001-01-01", "has ended already"),
        ("flag", "publish *, until 2026-13-01", "month"),
        ("flag", "publish *, until 25:00", "no time of day"),
    ],
)
def test_an_end_that_means_nothing_is_a_sentence(origin: Any, text: str, why: str):
    with pytest.raises(BadSettings, match=why):
        check_end(parse_rule(RuleGiven("allow", text, origin)))


def test_a_flag_is_checked_before_anything_starts():
    with pytest.raises(BadSettings, match=r"--allow: .*has ended already"):
        make_launch(Flags(allow=("publish *, until 2001-01-01",)), {})
