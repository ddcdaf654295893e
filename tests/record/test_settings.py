from ml_intern.record.events import BriefSet, Entry, LimitsSet, ModelChosen, RuleGiven, RulesSet
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


def test_of_each_model_of_a_role_the_last_that_was_recorded_is_known_and_the_last_of_all_answers():
    def chosen(role, model, window):
        return ModelChosen(role, model, window, None, None, "me", f"http://{model}/v1")

    rows = (("main", "p/a", 1), ("research", "p/a", 2), ("main", "q/b", 3), ("main", "p/a", 4))
    events = [chosen(*row) for row in rows]
    settings = replay(Entry(seq, seq, "main", event) for seq, event in enumerate(events, 1)).settings
    assert settings.chosen == (events[1], events[2], events[3])
    assert settings.models == {"main": events[3], "research": events[1]}
