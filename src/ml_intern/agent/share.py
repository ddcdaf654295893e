"""Several lanes ask from one purse: what one holds at its worst case comes back when it is answered. Knows no price."""

import asyncio

from ml_intern.record.events import Entry, ModelFailed, ModelReplied, ModelStopped
from ml_intern.record.log import Log, Refusal
from ml_intern.record.view import MAIN, View

HELD_BY_OTHERS = Refusal("Other sub-agents hold what is left of the budget until their models have answered.")


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
