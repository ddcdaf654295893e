"""The price file: windows and prices of hosted models, frozen at build time. Knows no address and no network."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from ml_intern.record.messages import Prices

FILE = Path(__file__).with_name("prices.json")
"""`{"date", "source", "providers": {name: [[match, window, *the first seven fields of Prices], ...]}}`, made by
scripts/make_prices.py; empty ends of rows are cut off.

A match is a lower-case name, or a list of matches of which one must hold: `^x` begins with, `$x` ends with, `*x`
contains, `~x` regular expression, `["&", ...]` all of them."""


class Listed(Struct, frozen=True):
    """What the file says of one model."""

    prices: Prices
    window: int | None


def find(provider: str, model: str) -> Listed | None:
    """The row of `model` in the list of `provider`, or None where there is none: unknown is not free."""
    file = json.loads(FILE.read_bytes())
    return _first(file["providers"].get(provider, ()), model.lower(), _source(file))


def find_dearest(prefix: str, model: str) -> Listed | None:
    """One row no cheaper than any whose provider begins with `prefix`: for a router that chooses the provider."""
    file = json.loads(FILE.read_bytes())
    found = (
        _first(models, model.lower(), _source(file))
        for provider, models in file["providers"].items()
        if provider.startswith(prefix)
    )
    rows = [row for row in found if row]
    return dearest_of(rows) if rows else None


def dearest_of(rows: Sequence[Listed]) -> Listed:
    """One row no cheaper, and with no larger window, than any of `rows`."""
    return Listed(dearest([row.prices for row in rows]), _least(row.window for row in rows))


def dearest(rows: Sequence[Prices]) -> Prices:
    """One row no cheaper than any of `rows`."""
    reads = [row.cache_read for row in rows if row.cache_read is not None]
    writes = [row.cache_write for row in rows if row.cache_write is not None]
    return Prices(
        max(max(row.input, row.long_input or 0) for row in rows),
        max(max(row.output, row.long_output or 0) for row in rows),
        # Where one provider has no rate for the cache, its input rate holds.
        max(reads) if len(reads) == len(rows) else None,
        max(*writes, *(row.input for row in rows)) if writes else None,
        source=f"{rows[0].source}; the dearest of {len(rows)} on this router",
    )


def names() -> Mapping[str, Mapping[str, Listed]]:
    """By provider, what the file lists by name; a name that ends in * stands for every id that begins so."""
    file = json.loads(FILE.read_bytes())
    source = _source(file)
    return {
        provider: {
            name: Listed(Prices(*rates, source=source), window)
            for match, window, *rates in rows
            if (name := _name(match))
        }
        for provider, rows in file["providers"].items()
    }


def day() -> str:
    """The day that the file is of."""
    return str(json.loads(FILE.read_bytes())["date"])


def is_match(match: str | Sequence[Any], name: str) -> bool:
    """Whether `match` (see FILE) means the lower-case `name`."""
    if not isinstance(match, str):
        every = match[0] == "&"
        return all(is_match(each, name) for each in match[1:]) if every else any(is_match(each, name) for each in match)
    rest = match[1:]
    match match[:1]:
        case "^":
            return name.startswith(rest)
        case "$":
            return name.endswith(rest)
        case "*":
            return rest in name
        case "~":
            return re.search(rest, name) is not None
        case _:
            return name == match


def _name(match: str | Sequence[Any]) -> str:
    """A name that a person can type, else the beginning of one; empty where the match is a pattern."""
    each = [match] if isinstance(match, str) else [name for name in match if isinstance(name, str)]
    plain = next((name for name in each if name[:1] not in "^$*~&"), "")
    return plain or next((f"{name[1:]}*" for name in each if name[:1] == "^"), "")


def _source(file: dict[str, Any]) -> str:
    return f"{file['source']}, {file['date']}"


def _first(models: Sequence[Sequence[Any]], name: str, source: str) -> Listed | None:
    for match, window, *rates in models:
        if is_match(match, name):
            return Listed(Prices(*rates, source=source), window)
    return None


def _least(windows: Iterable[int | None]) -> int | None:
    return min((window for window in windows if window), default=None)
