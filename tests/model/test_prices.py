"""Money: what is reserved always covers what is paid, to the micro-dollar."""

from decimal import Decimal

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data import providers
from hypothesis import given
from hypothesis import strategies as st

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import usd
from ml_intern.model.catalog import PROVIDERS
from ml_intern.model.pricelist import find
from ml_intern.model.prices import price_of, prices_from, reservation
from ml_intern.record.messages import Prices, Usage

RATES = st.integers(0, 200_000_000)
ROWS = st.builds(
    Prices,
    RATES,
    RATES,
    cache_read=st.none() | RATES,
    cache_write=st.none() | RATES,
    long_from=st.none() | st.integers(0, 400_000),
    long_input=st.none() | RATES,
    long_output=st.none() | RATES,
)


@given(ROWS, st.integers(0, 1_000_000), st.integers(0, 100_000), st.data())
def test_no_usage_within_its_bounds_costs_more_than_was_reserved(prices, bound, max_output, data):
    prompt = data.draw(st.integers(0, bound))
    used = Usage(
        prompt,
        data.draw(st.integers(0, max_output)),
        cached=data.draw(st.integers(0, 2 * prompt)),
        cache_written=data.draw(st.integers(0, 2 * prompt)),
    )
    assert price_of(prices, used) <= reservation(prices, bound, max_output)


@given(ROWS, st.integers(0, 1_000_000), st.integers(0, 100_000))
def test_a_reservation_grows_with_its_bounds(prices, bound, max_output):
    reserved = reservation(prices, bound, max_output)
    assert 0 <= reserved <= reservation(prices, bound + 1, max_output) <= reservation(prices, bound + 1, max_output + 1)


SONNET = Prices(3_000_000, 15_000_000, 300_000, 3_750_000, 200_001, 6_000_000, 22_500_000)


@pytest.mark.parametrize(
    ("used", "dollars"),
    [
        (Usage(1_000_000, 0), "6"),
        (Usage(100_000, 0), "0.3"),
        (Usage(200_000, 1000), "0.615"),
        (Usage(200_001, 1000), "1.222506"),
        (Usage(100_000, 0, cached=90_000), "0.057"),
        (Usage(100_000, 0, cached=50_000, cache_written=50_000), "0.2025"),
        (Usage(400_000, 0, cached=400_000), "0.24"),
        (Usage(400_000, 0, cache_written=400_000), "3"),
        (Usage(1, 0), "0.000003"),
        (Usage(), "0"),
    ],
)
def test_a_price_is_exact(used, dollars):
    assert price_of(SONNET, used) == usd(dollars)


def test_a_price_is_rounded_up_once_and_never_to_nothing():
    assert price_of(Prices(1, 1, cache_read=1), Usage(prompt=2, output=1, cached=1)) == 1


def test_without_a_rate_for_the_cache_its_tokens_cost_as_others_do():
    assert price_of(Prices(1_000_000, 0), Usage(100, 0, cached=60, cache_written=40)) == 100


def test_a_reservation_takes_the_dearest_rate_that_may_apply():
    assert reservation(SONNET, 100_000, 0) == usd("0.375")
    assert reservation(SONNET, 200_000, 1000) == usd("0.765")
    assert reservation(SONNET, 200_001, 1000) == usd("1.5225075") + 0
    assert reservation(Prices(5, 5, long_from=10, long_input=1, long_output=1), 1_000_000, 1_000_000) == 10


def test_a_long_prompt_that_would_be_cheaper_is_not_counted_on():
    odd = Prices(5_000_000, 5_000_000, 6_000_000, 10_000_000, long_from=10, long_input=1_000_000, long_output=1_000_000)
    assert reservation(odd, 9, 1) == 95
    assert reservation(odd, 100, 1) == 1005


def test_a_price_on_the_command_line():
    assert prices_from("0.5/2") == Prices(500_000, 2_000_000, source="--price")
    assert prices_from(" 0 / 0 ") == Prices(0, 0, source="--price")


@pytest.mark.parametrize("text", ["", "1", "1/", "/1", "a/b", "-1/2", "1/inf", "1/2/3", "nan/1"])
def test_a_price_that_is_none_is_refused(text):
    with pytest.raises(BadSettings):
        prices_from(text)


@given(st.data())
def test_a_price_agrees_with_the_librarys_own(data):
    """Where the library has one price for a model, ours is that of its price list, rounded up."""
    ours = {each.prices for each in PROVIDERS.values() if each.prices and each.prices != "huggingface"}
    provider = data.draw(st.sampled_from([each for each in providers if each.id in ours]))
    model = data.draw(st.sampled_from(provider.models))
    listed = find(provider.id, model.id)
    if listed is None or isinstance(model.prices, list) or model.prices.__dict__.get("requests_kcount"):
        return
    used = Usage(data.draw(st.integers(0, 300_000)), data.draw(st.integers(0, 50_000)))
    theirs = model.prices.calc_price(TheirUsage(input_tokens=used.prompt, output_tokens=used.output))["total_price"]
    # A model with two thresholds has one in our row, from which on the dearer rates hold.
    assert price_of(listed.prices, used) >= usd(theirs)
    if len({start for value in model.prices.__dict__.values() for start in _starts(value)}) < 2:
        assert price_of(listed.prices, used) - usd(theirs) <= Decimal(1)


def _starts(value):
    return [tier.start for tier in value.tiers] if hasattr(value, "tiers") else []
