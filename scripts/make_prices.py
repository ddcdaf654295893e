"""Makes src/ml_intern/model/prices.json from the price library: `python -m scripts.make_prices`. Not shipped."""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import Any

from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from ml_intern.model.catalog import PROVIDERS
from ml_intern.model.pricelist import FILE

INPUT, OUTPUT, READ, WRITE = "input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"
# Parts of a reply that some models price apart: a reply may be all of one kind, so the dearest holds.
PARTS_OF_OUTPUT = (OUTPUT, "output_reasoning_mtok", "output_citation_mtok")
Row = list[Any]


def table(today: date) -> dict[str, Any]:
    """The whole file as of a day: of every chat model of our providers what is dearest from that day on."""
    ours = {provider.prices for provider in PROVIDERS.values() if provider.prices}
    return {
        "date": today.isoformat(),
        "source": f"genai-prices {version('genai-prices')}",
        "providers": {
            provider.id: rows
            for provider in providers
            if (provider.id in ours or provider.id.startswith("huggingface_"))
            and (rows := [row for model in provider.models if (row := row_of(model, today))])
        },
    }


def row_of(model: ModelInfo, today: date) -> Row | None:
    """[match, window, input, output, cache_read, cache_write, long_from, long_input, long_output] in micro-dollars.

    None for what is not a chat model, and for one that also costs a sum per request: its price would be understated.
    """
    prices = [price.__dict__ for price in prices_from_on(model, today)]
    if not all(price.get(INPUT) is not None and price.get(OUTPUT) is not None for price in prices):
        return None
    if any(price.get("requests_kcount") for price in prices):
        return None
    starts = {
        start for price in prices for key in (INPUT, *PARTS_OF_OUTPUT, READ, WRITE) for start in starts_of(price, key)
    }
    base = [dearest(prices, key, 0) for key in (INPUT, READ, WRITE)]
    row: Row = [match_of(model.match), model.context_window, base[0], dearest_output(prices, 0), base[1], base[2]]
    if starts:
        # One step upwards at the first threshold, to the dearest of what lies above it.
        row += [
            min(starts) + 1,  # the library's tier holds for prompts longer than its start
            max(micro(price, INPUT, start + 1) or 0 for price in prices for start in starts),
            max(dearest_output(prices, start + 1) for start in starts),
        ]
    while row[-1] is None:
        row.pop()
    return row


def prices_from_on(model: ModelInfo, today: date) -> Iterator[ModelPrice]:
    """What holds today, at any time of day, and what is announced for later."""
    if isinstance(model.prices, ModelPrice):
        yield model.prices
        return
    begun = [each for each in model.prices if starts_at(each) <= today]
    latest = max((starts_at(each) for each in begun), default=date.min)
    yield from (
        each.prices
        for each in model.prices
        if starts_at(each) >= latest or isinstance(each.constraint, TimeOfDateConstraint)
    )


def starts_at(price: ConditionalPrice) -> date:
    """The first day of a price; the beginning of time where it names none."""
    return price.constraint.start_date if isinstance(price.constraint, StartDateConstraint) else date.min


def starts_of(price: dict[str, Any], key: str) -> list[int]:
    """The prompt lengths after which a rate changes."""
    value = price.get(key)
    return [tier.start for tier in value.tiers] if isinstance(value, TieredPrices) else []


def micro(price: dict[str, Any], key: str, prompt: int) -> int | None:
    """A rate for a prompt of this length in micro-dollars per million tokens, rounded up."""
    value: Decimal | TieredPrices | None = price.get(key)
    if isinstance(value, TieredPrices):
        above = [tier.price for tier in value.tiers if prompt > tier.start]
        value = above[-1] if above else value.base
    return None if value is None else int((value * 1_000_000).to_integral_value(ROUND_CEILING))


def dearest(prices: Sequence[dict[str, Any]], key: str, prompt: int) -> int | None:
    """The dearest rate; None, so that the input rate holds, where a price has none."""
    rates = [micro(price, key, prompt) for price in prices]
    return None if None in rates else max(rate for rate in rates if rate is not None)


def dearest_output(prices: Sequence[dict[str, Any]], prompt: int) -> int:
    """The dearest rate of any part of a reply."""
    return max(micro(price, key, prompt) or 0 for price in prices for key in PARTS_OF_OUTPUT)


def match_of(clause: object) -> object:
    """The library's clause in the file's form (pricelist.FILE)."""
    match clause:
        case ClauseEquals(equals=text):
            return text.lower()
        case ClauseStartsWith(starts_with=text):
            return f"^{text.lower()}"
        case ClauseEndsWith(ends_with=text):
            return f"${text.lower()}"
        case ClauseContains(contains=text):
            return f"*{text.lower()}"
        case ClauseRegex(regex=text):
            return f"~{text}"
        case ClauseOr(or_=clauses):
            return [match_of(each) for each in clauses]
        case ClauseAnd(and_=clauses):
            return ["&", *(match_of(each) for each in clauses)]
        case _:
            raise TypeError(clause)


def text_of(prices: dict[str, Any]) -> str:
    """The file: one model a line, so that a change can be read."""
    lists = (
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
        for name, rows in prices["providers"].items()
    )
    head = f'"date": {json.dumps(prices["date"])}, "source": {json.dumps(prices["source"])}'
    return "{" + head + ', "providers": {\n' + ",\n".join(lists) + "\n}}\n"


if __name__ == "__main__":
    FILE.write_text(text_of(table(datetime.now(UTC).date())))
    sys.stdout.write(f"{FILE}: {FILE.stat().st_size:,} bytes\n")
