"""What an attempt at a model may cost, and how long its answer may be so that the cap holds. Pure;
knows no provider.
"""

from collections.abc import Mapping

from msgspec import Struct

from ml_intern.base.money import Micro
from ml_intern.model.prices import reservation
from ml_intern.record.events import Effort, ModelChosen
from ml_intern.record.folds.purse import Purse

MOST_OUTPUT = 16_384
LEAST_OUTPUT = 2_048
_MOST_THINKING: Mapping[Effort, int] = {"high": 32_768, "xhigh": 65_536, "max": 65_536}
"""The most output where a model is to think so much: what it thinks counts as output."""


class Quote(Struct, frozen=True):
    """An attempt that the purse can pay: tokens of output at the most, and micro-dollars at the worst."""

    max_output: int
    reserved: Micro


def quote_attempt(purse: Purse, model: ModelChosen, bound: int, room: int | None = None) -> Quote | None:
    """The longest answer to `bound` prompt tokens that the purse can pay at worst, or None where that is too short.

    The answer is at most 16 384 tokens (more where much is to be thought) and the model's own limit; one under 2 048
    tokens is not worth asking for. `room` is what the window leaves for it; None: what it leaves at worst.

    Raises:
        ValueError: the model has no price row; the caller must refuse it before the first attempt.
    """
    if model.prices is None:
        raise ValueError(f"{model.model} has no price")
    longest = _MOST_THINKING.get(model.effort, MOST_OUTPUT) if model.effort else MOST_OUTPUT
    most = min(longest, model.max_output or longest, room or _room(model, bound, longest))
    least = min(LEAST_OUTPUT, model.max_output or LEAST_OUTPUT)
    left = purse.free - reservation(model.prices, bound, 0)
    if left < 0:
        return None
    rate = max(model.prices.output, model.prices.long_output or 0)
    payable = most if rate == 0 else min(most, left * 1_000_000 // rate)
    if payable < least:
        return None
    reserved = reservation(model.prices, bound, payable)
    return Quote(payable, reserved) if reserved <= purse.free else None


def _room(model: ModelChosen, bound: int, longest: int) -> int:
    """What the window leaves for the answer, never less than the least: an overflow is the provider's to tell."""
    if model.window is None:
        return longest
    return max(LEAST_OUTPUT, model.window - bound)
