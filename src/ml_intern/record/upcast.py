"""Turns stored entries of any version into today's. Its steps are permanent: an old record must always open."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_intern.record.events import VERSION

STEPS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Step N turns an entry of version N into one of version N + 1. Version 1 is the first, so there is none yet."""


def upcast(
    raw: dict[str, Any], steps: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = STEPS
) -> dict[str, Any]:
    """The decoded entry `raw` in today's form.

    Raises:
        ValueError: it was written by a newer version of the product.
    """
    last = max(steps, default=VERSION - 1) + 1
    if raw["v"] > max(last, VERSION):
        raise ValueError(f"written by a newer version (record version {raw['v']}, this one reads up to {VERSION})")
    while raw["v"] in steps:
        raw = {**steps[raw["v"]](raw), "v": raw["v"] + 1}
    return raw
