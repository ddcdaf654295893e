"""Several lanes ask from one purse: what one holds at its worst case comes back when it is answered. A lane may have a
share of it that it cannot go beyond. Knows no price.
"""

import asyncio

from msgspec.structs import replace

from ml_intern.base.money import Micro, show
from ml_intern.record.events import Entry, ModelFailed, ModelReplied, ModelStopped, TurnEnded
from ml_intern.record.folds.purse import Purse
from ml_intern.record.log import Log, Refusal
from ml_intern.record.view import MAIN, View

HELD_BY_OTHERS = Refusal("Other sub-agents hold what is left of the budget until their models have answered.")


def share_left(view: View, lane: str) -> Micro | None:
    """What is left of the lane's share of the budget; None where it has none. What is open counts at its worst case."""
    state = view.lane(lane)
    if state.opened is None or state.opened.budget is None:
        return None
    attempt = state.turn.attempt
    held = [each.started.reserved for each in state.calls.values() if each.started is not None]
    held += [attempt.reserved] if attempt is not None else []
    return Micro(max(0, state.opened.budget - state.spent.cost - sum(held)))


def purse_of(view: View, lane: str, less: int = 0) -> Purse:
    """The purse, with no more in it than the lane's share leaves, `less` so much."""
    left = share_left(view, lane)
    if left is None:
        return view.purse
    return replace(view.purse, cap=min(view.purse.cap or 0, view.purse.committed + max(0, left - less)))


def share_spent(view: View, lane: str) -> TurnEnded | None:
    """The end of a lane whose share, and not the session's budget, is what cannot pay; None where it is not."""
    left, opened = share_left(view, lane), view.lane(lane).opened
    if left is None or opened is None or left >= view.purse.free:
        return None
    what = f"Its share of the budget cannot pay for another reply: {show(left)} of {show(Micro(opened.budget or 0))}"
    return TurnEnded("budget", f"{what} is left.", "Give the next one a larger budget, or go on without it.")


def others_hold(view: View, lane: str) -> bool:
    """Whether another lane's open attempt has something reserved. The main agent asks when none of them runs."""
    if lane == MAIN:
        return False
    attempts = (each.turn.attempt for name, each in view.lanes.items() if name != lane)
    return any(attempt is not None and attempt.reserved > 0 for attempt in attempts)


async def freed(log: Log, lane: str) -> None:
    """Wait until the attempt of another lane is over; at once where there is none."""
    over = asyncio.Event()

    def read(entry: Entry) -> None:
        if isinstance(entry.event, ModelReplied | ModelFailed | ModelStopped):
            over.set()

    leave = log.read_with(read)
    try:
        if others_hold(log.view, lane):
            await over.wait()
    finally:
        leave()
