from typing import get_args

import pytest

from ml_intern.cli.main import cli
from ml_intern.headless.exits import Exit, exit_of
from ml_intern.record.events import Ending

TABLE: dict[Ending, Exit] = {
    "done": Exit.DONE,
    "failed": Exit.FAILED,
    "overflow": Exit.FAILED,
    "budget": Exit.BUDGET,
    "limit": Exit.LIMIT,
    "held": Exit.HELD,
    "denied": Exit.DENIED,
    "interrupted": Exit.INTERRUPTED,
}


def test_the_numbers_are_a_promise_to_scripts():
    assert {code.name: int(code) for code in Exit} == {
        "DONE": 0,
        "FAILED": 1,
        "BAD_SETTINGS": 2,
        "BUDGET": 3,
        "LIMIT": 4,
        "HELD": 5,
        "DENIED": 6,
        "HUNG_UP": 129,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def test_the_table_holds_every_ending():
    assert set(TABLE) == set(get_args(Ending))


@pytest.mark.parametrize("ending", get_args(Ending))
def test_each_ending_has_its_code(ending: Ending):
    assert exit_of(ending) is TABLE[ending]


LEFT_OPEN = {Exit.HUNG_UP, Exit.TERMINATED}
"""A signal to end leaves the turn without an ending."""


def test_only_an_answer_is_a_success_and_every_code_but_those_of_bad_settings_and_signals_is_an_ending():
    assert [ending for ending, code in TABLE.items() if int(code) == 0] == ["done"]
    assert {exit_of(ending) for ending in get_args(Ending)} == set(Exit) - {Exit.BAD_SETTINGS, *LEFT_OPEN}


def test_the_help_names_every_code_with_its_number():
    told = ", ".join(f"{int(code)} {code.name.lower().replace('_', ' ')}" for code in Exit)
    assert cli.epilog == f"Exit codes: {told}."
