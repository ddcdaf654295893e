from ml_intern.record.events import BriefSet, Entry, LimitsSet, RuleGiven, RulesSet
from ml_intern.record.log import replay
from ml_intern.record.view import View


def test_the_last_rules_brief_and_deadline_hold():
    rules = [RulesSet((RuleGiven("allow", f"publish hub:{name}/*", "flag"),), (name,)) for name in ("me", "you")]
    briefs = [BriefSet("Be brief.", ""), BriefSet("", '{"type": "object"}')]
    limits = [LimitsSet(3, None, 2_000, 1_000), LimitsSet(4, 60.0)]
    events = [*rules, *briefs, *limits]
    settings = replay(Entry(seq, seq, "main", event) for seq, event in enumerate(events, 1)).settings
    assert (settings.rules, settings.brief, settings.limits) == (rules[1], briefs[1], limits[1])


def test_before_any_was_set_there_are_no_rules_and_no_brief():
    settings = View().settings
    assert (settings.rules, settings.brief) == (RulesSet((), None), BriefSet("", ""))
