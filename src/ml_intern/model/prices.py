"""What a model call costs: reserved before it and priced after it by the same rates. Knows no purse and no file."""

from typing import NamedTuple

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import Micro, usd
from ml_intern.record.messages import Prices, Usage

FREE = Prices(0, 0, source="this machine")
"""The row of a model that a server on this machine answers for."""

SAID = "--price"
"""The source of a row that a person gave."""


class _Rates(NamedTuple):
    input: int
    output: int
    cache_read: int
    cache_write: int


def reservation(prices: Prices, bound_tokens: int, max_output: int) -> Micro:
    """The most a call can cost whose prompt has at most `bound_tokens` and whose reply has at most `max_output` tokens.

    For every usage within these two, `price_of` is no more than this.
    """
    # A row has one threshold: whatever the prompt turns out to be, it is priced as an empty one or as the longest.
    short, long = _rates(prices, 0), _rates(prices, bound_tokens)
    dearest = max(short.input, short.cache_read, short.cache_write, long.input, long.cache_read, long.cache_write)
    return _rounded_up(bound_tokens * dearest + max_output * max(short.output, long.output))


def price_of(prices: Prices, usage: Usage) -> Micro:
    """What `usage` costs, rounded up once.

    Cached tokens cost the input rate where the row has no rate for them. From `long_from` on, the `long_*` rates hold
    for the whole call, and those of the cache rise as the input rate does.
    """
    cached = min(usage.cached, usage.prompt)
    written = min(usage.cache_written, usage.prompt - cached)
    rates = _rates(prices, usage.prompt)
    return _rounded_up(
        (usage.prompt - cached - written) * rates.input
        + cached * rates.cache_read
        + written * rates.cache_write
        + usage.output * rates.output
    )


def prices_from(text: str) -> Prices:
    """The row that `--price IN/OUT` means, both in USD per million tokens.

    Raises:
        BadSettings: the text is not two amounts.
    """
    input_usd, slash, output_usd = text.partition("/")
    if not slash:
        raise BadSettings(
            f"--price {text!r} is not IN/OUT.", "Write two prices in USD per million tokens: --price 0.5/2."
        )
    return Prices(usd(input_usd.strip()), usd(output_usd.strip()), source=SAID)


def _rates(prices: Prices, prompt: int) -> _Rates:
    is_long = prices.long_from is not None and prompt >= prices.long_from
    now = prices.long_input if is_long and prices.long_input is not None else prices.input
    output = prices.long_output if is_long and prices.long_output is not None else prices.output
    return _Rates(
        now, output, _risen(prices.cache_read, prices.input, now), _risen(prices.cache_write, prices.input, now)
    )


def _risen(cached: int | None, before: int, now: int) -> int:
    """A cache's rate, which price lists raise as they raise the input rate: a row keeps the long rate of that alone."""
    if cached is None:
        return now
    if before == now:
        return cached
    return -(-cached * now // before) if before else max(cached, now)


def _rounded_up(millionths: int) -> Micro:
    return Micro(-(-millionths // 1_000_000))
