"""`ml-intern models`: what there is to choose from, as a table or as JSON. Knows no server and no list."""

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import asdict

from ml_intern.app.offers import Offer, Offers, Wanted, offers
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import one_line, visible, visible_line
from ml_intern.headless.exits import Exit
from ml_intern.model.catalog import find_provider

_SHOWN = 40
_WHERE_CHARS = 60
_HEAD = ("model", "window", "in/out per M", "abilities", "served", "key")
_RIGHT = (1, 2)
"""Columns of numbers."""


class Asked(Struct, frozen=True):
    """The command line as it was written."""

    provider: str | None
    local: bool
    limit: int | None
    offline: bool
    as_json: bool


def show(words: tuple[str, ...], asked: Asked) -> Exit:
    """Print the models; on stderr how old each list is. 1 where none fits."""
    offline = asked.offline or os.environ.get("ML_INTERN_OFFLINE", "") not in {"", "0", "false", "no"}
    each = tuple(word for text in words for word in text.split())
    try:
        provider = find_provider(asked.provider) if asked.provider else None
        found = asyncio.run(offers(Wanted(each, provider, asked.local, offline)))
    except BadSettings as error:
        return _told(error.what, error.remedy, Exit.BAD_SETTINGS)
    if found.nothing:
        return _told(found.nothing, found.remedy, Exit.FAILED)
    rows = found.rows[: asked.limit or (len(found.rows) if asked.as_json else _SHOWN)]
    sys.stdout.write("".join(f"{line}\n" for line in (map(_json, rows) if asked.as_json else table(rows))))
    sys.stderr.write("".join(f"{visible_line(line)}\n" for line in _notes(found, len(rows))))
    return Exit.DONE


def _told(what: str, remedy: str, code: Exit) -> Exit:
    sys.stderr.write(f"ml-intern: {visible_line(what)}\n{visible(remedy)}\n")
    return code


def _notes(found: Offers, shown: int) -> list[str]:
    left = len(found.rows) - shown
    more = f"{left:,} more: add words, or --limit {len(found.rows)}."
    return [*([more] if left else []), *found.notes]


def table(rows: Sequence[Offer]) -> list[str]:
    """The lines of the table, with a head. What a server says cannot forge one."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD) - 1)]
    return [_line(line, widths) for line in cells]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if column in _RIGHT else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=False))
    ]
    return "  ".join((*padded, cells[-1]))


def _cells(row: Offer) -> tuple[str, ...]:
    abilities = {"tools": row.tools, "images": row.images, "thinking": row.thinking}
    can = " ".join(name for name, able in abilities.items() if able)
    return (
        visible_line(row.id),
        f"{row.window:,}" if row.window else "?",
        _price(row),
        can or ("?" if set(abilities.values()) == {None} else "-"),
        visible_line(one_line(row.where, _WHERE_CHARS)),
        visible_line(row.key),
    )


def _price(row: Offer) -> str:
    if row.input is None or row.output is None:
        return "?"
    return "free" if row.input == row.output == 0 else f"{_dollars(row.input)}/{_dollars(row.output)}"


def _dollars(rate: int) -> str:
    """Dollars without trailing zeros: 0.29, 3, 12.5."""
    return f"{(Decimal(rate) / 1_000_000).normalize():f}"


def _json(row: Offer) -> str:
    fields = {name: value for name, value in asdict(row).items() if name not in {"input", "output", "routes"}}
    prices = _usd(row.input, row.output)
    routes = [
        {"provider": route.provider, "window": route.window, "tools": route.tools, **_usd(route.input, route.output)}
        for route in row.routes
    ]
    return json.dumps({**fields, **prices, "routes": routes})


def _usd(given: int | None, taken: int | None) -> dict[str, float | None]:
    """USD per million tokens; null is unknown."""
    return {
        "input_usd_per_mtok": None if given is None else given / 1_000_000,
        "output_usd_per_mtok": None if taken is None else taken / 1_000_000,
    }
