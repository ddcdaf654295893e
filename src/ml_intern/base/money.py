"""Money as integer micro-dollars, and prices per million units. Knows no model and no backend."""

from decimal import ROUND_CEILING, Decimal, DecimalException
from typing import NewType

from ml_intern.base.errors import BadSettings

Micro = NewType("Micro", int)
"""An amount in micro-dollars (USD x 1e-6)."""

Rate = NewType("Rate", int)
"""A price in micro-dollars per million units (tokens). 3 USD per million tokens is Rate(3_000_000)."""

ZERO = Micro(0)
_MILLION = 1_000_000
_MOST = 1_000_000_000


def usd(amount: str | float | Decimal) -> Micro:
    """Micro-dollars from an amount in dollars, rounded up.

    Raises:
        BadSettings: the text is not an amount from zero to a billion.
    """
    wrong = BadSettings(f"{amount!r} is not an amount from 0 to {_MOST:,} dollars.", "Write a number such as 2.50.")
    try:
        value = Decimal(str(amount))
        if not value.is_finite() or not 0 <= value <= _MOST:
            raise wrong
        return Micro(int((value * _MILLION).to_integral_value(ROUND_CEILING)))
    except DecimalException as error:
        raise wrong from error


def cost(units: int, rate: Rate) -> Micro:
    """What `units` cost at `rate`, rounded up so that a sum of costs never understates."""
    return Micro(-(-units * rate // _MILLION))


def show(amount: Micro) -> str:
    """Dollars for a person: `$0.00`, `$0.0042`, `$1.25`. Sub-cent amounts keep four places."""
    value = Decimal(amount) / _MILLION
    places = 2 if amount == 0 or amount >= 100_000 else 4
    return f"${value:.{places}f}"
