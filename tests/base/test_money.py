from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import Micro, Rate, cost, show, usd


@pytest.mark.parametrize(
    ("amount", "micro"), [("2.50", 2_500_000), (0, 0), ("0.0000001", 1), (0.1, 100_000), ("1e2", 10**8)]
)
def test_dollars_become_micro_dollars_rounded_up(amount, micro):
    assert usd(amount) == micro


@pytest.mark.parametrize("amount", ["", "free", "-1", "nan", "inf", "1,5", "$5"])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(BadSettings):
        usd(amount)


@given(st.decimals(0, 10**6, places=8))
def test_an_amount_is_never_understated(amount):
    assert Fraction(usd(amount), 10**6) >= Fraction(amount)
    assert Fraction(usd(amount) - 1, 10**6) < Fraction(amount) or amount == 0


@given(st.lists(st.integers(0, 10**9), max_size=10), st.integers(0, 10**9))
def test_a_sum_of_costs_never_understates(units, rate):
    exact = Fraction(sum(units) * rate, 10**6)
    total = sum(cost(each, Rate(rate)) for each in units)
    assert exact <= total <= exact + len(units)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0, "$0.00"), (4_200, "$0.0042"), (1_250_000, "$1.25"), (99_999, "$0.1000"), (100_000, "$0.10"), (1, "$0.0000")],
)
def test_amounts_are_shown_in_dollars(amount, shown):
    assert show(Micro(amount)) == shown
    assert Decimal(shown[1:]) >= 0
