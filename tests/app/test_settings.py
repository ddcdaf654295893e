from datetime import datetime
from pathlib import Path

import pytest

from ml_intern.app.deadline import due_of
from ml_intern.app.options import BY_NAME, OPTIONS, Option, strangers
from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.sources import parsed
from ml_intern.base.errors import BadSettings
from ml_intern.cli.main import run
from ml_intern.record.events import RuleGiven

NOON = round(datetime(2026, 3, 14, 12, 0).timestamp() * 1000)
HOUR = 3_600_000


def test_every_setting_has_its_flag_and_a_variable_of_its_own():
    flags = {name for parameter in run.params for name in parameter.opts}
    assert {option.flag for option in OPTIONS} <= flags
    assert {option.field for option in OPTIONS} <= set(Flags.__struct_fields__)
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ML_INTERN_BUGDET", "Did you mean ML_INTERN_BUDGET?"),
        ("ML_INTERN_MODLE", "Did you mean ML_INTERN_MODE or ML_INTERN_MODEL?"),
        ("MLINTERN_PRICE", "Did you mean ML_INTERN_PRICE?"),
        ("ml_intern_price", "Did you mean ML_INTERN_PRICE?"),
        ("ML_INTERN_DAAT", "Did you mean ML_INTERN_DATA?"),
        ("ML_INTERN_WEATHER", "`ml-intern settings --json` lists those there are."),
    ],
)
def test_a_variable_that_only_looks_like_ours_is_told_with_the_one_that_was_meant(name: str, meant: str):
    known = {option.variable: "x" for option in OPTIONS}
    assert strangers({**known, "ML_INTERN_DATA": "x", "HOME": "x", name: "y"}) == [
        f"{name} is no variable of ml-intern and counts for nothing. {meant}"
    ]


def test_a_wrong_variable_is_told_by_its_name():
    with pytest.raises(BadSettings, match=r"ML_INTERN_BUDGET: 'lots' is not an amount"):
        make_launch(Flags(), {"ML_INTERN_BUDGET": "lots"})
    with pytest.raises(BadSettings, match=r"There is no mode 'plam' .ML_INTERN_MODE"):
        make_launch(Flags(), {"ML_INTERN_MODE": "plam"})
    assert make_launch(Flags(), {"ML_INTERN_MODE": ""}).mode is None


def test_rules_of_flags_are_checked_and_kept_in_order():
    launch = make_launch(Flags(allow=("publish hub:me/*, private",), deny=("write *.lock",)), {})
    assert launch.rules == (
        RuleGiven("allow", "publish hub:me/*, private", "flag"),
        RuleGiven("deny", "write *.lock", "flag"),
    )
    with pytest.raises(BadSettings, match="--deny: The rule 'writ x' begins with no verb"):
        make_launch(Flags(deny=("writ x",)), {})


def test_a_deadline_is_the_next_time_the_clock_shows_it():
    assert due_of(None, "10h", NOON) == NOON + 10 * HOUR
    assert due_of("18:30", None, NOON) == NOON + 6 * HOUR + HOUR // 2
    assert due_of("12:00", None, NOON) == NOON + 24 * HOUR
    assert due_of("6:00", None, NOON) == NOON + 18 * HOUR
    assert due_of(None, None, NOON) is None


@pytest.mark.parametrize(
    ("until", "lasting", "said"),
    [
        ("25:00", None, "no time of day"),
        ("soon", None, "no time of day"),
        (None, "0", "--for 0"),
        ("1:00", "1h", "two"),
    ],
)
def test_a_deadline_that_is_none_is_told(until, lasting, said):
    with pytest.raises(BadSettings, match=said):
        due_of(until, lasting, NOON)


def test_a_schema_that_cannot_be_checked_is_refused(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "propertees": {}}')
    with pytest.raises(BadSettings, match="the keyword 'propertees', which is not checked"):
        make_launch(Flags(output_schema=str(schema)), {})
    with pytest.raises(BadSettings, match="cannot be read"):
        make_launch(Flags(output_schema=str(tmp_path / "none.json")), {})


def test_who_pays_is_a_name_or_nobody_else_and_ours_goes_before_the_hubs():
    both = {"HF_BILL_TO": "theirs", "ML_INTERN_BILL_TO": "ours"}
    assert make_launch(Flags(bill_to="flag"), both).bill_to == "flag"
    assert make_launch(Flags(), both).bill_to == "ours"
    assert make_launch(Flags(), {"HF_BILL_TO": "theirs"}).bill_to == "theirs"
    assert make_launch(Flags(bill_to=""), both).bill_to == ""
    assert make_launch(Flags(), {"HF_BILL_TO": ""}).bill_to is None
    with pytest.raises(BadSettings, match=r"HF_BILL_TO 'a b' is no name of an organisation"):
        make_launch(Flags(), {"HF_BILL_TO": "a b"})


def test_fallbacks_come_from_flags_and_variables_in_order_and_once():
    launch = make_launch(Flags(model="a", fallback=("b", "c", "b")), {"ML_INTERN_FALLBACK": "d"})
    assert (launch.model, launch.fallback) == ("a", ("b", "c"))
    assert make_launch(Flags(), {"ML_INTERN_FALLBACK": "b, c"}).fallback == ("b", "c")
    assert make_launch(Flags(model="a"), {}).fallback is None


def test_the_main_chain_may_be_one_list_and_single_settings_go_before_it():
    whole = {"ML_INTERN_MAIN_MODEL": "a,b,c"}
    assert (make_launch(Flags(), whole).model, make_launch(Flags(), whole).fallback) == ("a", ("b", "c"))
    launch = make_launch(Flags(fallback=("x",)), whole)
    assert (launch.model, launch.fallback) == ("a", ("x",))
    launch = make_launch(Flags(model="y"), whole)
    assert (launch.model, launch.fallback) == ("y", None)


def test_a_flag_that_names_the_whole_chain_wins_over_variables_that_name_parts_of_it():
    parts = {"ML_INTERN_MODEL": "x", "ML_INTERN_FALLBACK": "y"}
    launch = make_launch(Flags(main_model="a,b"), parts)
    assert (launch.model, launch.fallback) == ("a", ("b",))
    launch = make_launch(Flags(main_model="a"), parts)
    assert (launch.model, launch.fallback) == ("a", ())


@pytest.mark.parametrize(
    ("flags", "variables", "what"),
    [
        ({"model": "x", "main_model": "y"}, {}, "--main-model and --model say"),
        ({"model": "b", "main_model": "a,b"}, {}, "--main-model and --model say"),
        ({"fallback": ("x",), "main_model": "a,b"}, {}, "--main-model and --fallback say"),
        ({}, {"ML_INTERN_MODEL": "x", "ML_INTERN_MAIN_MODEL": "y"}, "ML_INTERN_MAIN_MODEL and ML_INTERN_MODEL say"),
        ({}, {"ML_INTERN_FALLBACK": "x", "ML_INTERN_MAIN_MODEL": "y"}, "ML_INTERN_MAIN_MODEL and ML_INTERN_FALLBACK"),
    ],
)
def test_two_names_of_the_main_model_in_one_place_must_say_the_same(flags, variables, what):
    with pytest.raises(BadSettings, match=what) as caught:
        make_launch(Flags(**flags), variables)
    assert caught.value.remedy == "Keep one of them."


def test_two_names_of_the_main_model_may_say_the_same():
    launch = make_launch(Flags(model="a", main_model="a,b"), {})
    assert (launch.model, launch.fallback) == ("a", ("b",))
    launch = make_launch(Flags(model="a", fallback=("b",), main_model="a,b"), {})
    assert (launch.model, launch.fallback) == ("a", ("b",))


def test_roles_have_models_and_an_effort_of_their_own():
    launch = make_launch(Flags(research_model="a,b", effort="high"), {"ML_INTERN_JUDGE_EFFORT": "low"})
    assert (launch.roles, launch.effort, launch.efforts) == ({"research": ("a", "b")}, "high", {"judge": "low"})
    with pytest.raises(BadSettings, match=r"There is no effort 'hihg' .--effort.") as caught:
        make_launch(Flags(effort="hihg"), {})
    assert caught.value.remedy == "Did you mean high?"
    with pytest.raises(BadSettings, match="--research-model names no model"):
        make_launch(Flags(research_model=" , "), {})


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_value_of_the_wrong_kind_is_answered_with_one_that_does(option: Option):
    table, _, key = option.name.rpartition(".")
    head = f"[{table}]\n" if table else ""
    with pytest.raises(BadSettings, match=f"{option.name} takes ") as told:
        parsed(Path("s.toml"), "user", f"{head}{key} = {{}}\n".encode())
    assert told.value.remedy == f"Write {key} = {option.example}, for example."
    assert option.name in parsed(Path("s.toml"), "user", f"{head}{key} = {option.example}\n".encode()).values


def test_a_switch_names_its_own_two_words():
    for name, words in (("guards.plan", "on or off"), ("offline", "true or false")):
        with pytest.raises(BadSettings, match=f"maybe is neither {words.replace(' or ', ' nor ')}") as told:
            BY_NAME[name].parse("maybe", "--x")
        assert told.value.remedy == f"Write {words}."


def test_nothing_joins_beside_none():
    with pytest.raises(BadSettings, match="--join none,memory: none stands alone"):
        make_launch(Flags(join="none,memory"), {})
    assert make_launch(Flags(join="none"), {}).join == ()
