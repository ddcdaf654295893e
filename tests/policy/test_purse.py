import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.model.prices import price_of, reservation
from ml_intern.policy.purse import LEAST_OUTPUT, MOST_OUTPUT, quote_attempt
from ml_intern.record.events import ModelChosen
from ml_intern.record.folds.purse import Purse
from ml_intern.record.messages import Prices, Usage

PRICES = Prices(1_000_000, 4_000_000)


def model(prices: Prices | None = PRICES, window: int | None = None, most: int | None = None):
    return ModelChosen("main", "test/model", window, most, prices, "me")


def test_a_full_purse_pays_the_longest_answer():
    quote = quote_attempt(Purse(cap=5_000_000), model(), 1_000)
    assert quote is not None
    assert quote.max_output == MOST_OUTPUT
    assert quote.reserved == reservation(PRICES, 1_000, MOST_OUTPUT)


def test_a_thin_purse_shortens_the_answer():
    quote = quote_attempt(Purse(cap=20_000), model(), 1_000)
    assert quote is not None
    assert quote.max_output == (20_000 - 1_000) // 4


def test_an_answer_too_short_to_be_worth_it_is_not_asked_for():
    assert quote_attempt(Purse(cap=1_000 + 4 * LEAST_OUTPUT - 1), model(), 1_000) is None
    assert quote_attempt(Purse(cap=1_000 + 4 * LEAST_OUTPUT), model(), 1_000) is not None


def test_what_is_spent_and_reserved_is_not_there_any_more():
    purse = Purse(cap=5_000_000, spent=2_000_000, reserved={"call": 2_995_000})
    assert quote_attempt(purse, model(), 1_000) is None


def test_without_a_cap_nothing_can_be_paid():
    assert quote_attempt(Purse(), model(), 1_000) is None


def test_a_free_model_needs_no_money():
    quote = quote_attempt(Purse(cap=0), model(Prices(0, 0)), 1_000)
    assert quote is not None
    assert quote.reserved == 0


def test_a_models_own_limits_hold():
    short = quote_attempt(Purse(cap=5_000_000), model(most=1_000), 10)
    assert short is not None
    assert short.max_output == 1_000
    narrow = quote_attempt(Purse(cap=5_000_000), model(window=8_000), 4_000)
    assert narrow is not None
    assert narrow.max_output == 4_000


def test_a_model_without_a_price_cannot_be_quoted():
    with pytest.raises(ValueError, match="no price"):
        quote_attempt(Purse(cap=5_000_000), model(prices=None), 10)


rates = st.integers(0, 100_000_000)


@given(
    prices=st.builds(
        Prices,
        rates,
        rates,
        st.none() | rates,
        st.none() | rates,
        st.none() | st.integers(1, 200_000),
        st.none() | rates,
        st.none() | rates,
    ),
    cap=st.integers(0, 10_000_000),
    spent=st.integers(0, 10_000_000),
    bound=st.integers(0, 300_000),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_usage_within_a_quote_breaks_the_cap(prices, cap, spent, bound, share):
    purse = Purse(cap=cap, spent=spent)
    quote = quote_attempt(purse, model(prices), bound)
    if quote is None:
        return
    assert quote.reserved <= purse.free
    prompt = int(bound * share[0])
    cached = int(prompt * share[1])
    usage = Usage(prompt, int(quote.max_output * share[2]), cached, prompt - cached)
    assert price_of(prices, usage) <= quote.reserved
