"""An attempt that nobody waits for any more: its process died, or the lane breaks off. Knows no model."""

from ml_intern.record.events import ModelFailed, ModelStopped
from ml_intern.record.log import Log, Refusal
from ml_intern.record.view import View

LOST = "The process ended while the model was answering."


async def close_attempt(log: Log, lane: str, what: str = LOST) -> None:
    """Close an attempt that nobody waits for any more: it may have been billed, so its worst case is booked.

    Raises:
        SessionError: the record can no longer be written.
    """
    if log.view.lane(lane).turn.attempt is not None:
        await log.add(lambda view: _closed(view, lane, what), lane)


def _closed(view: View, lane: str, what: str) -> ModelFailed | ModelStopped | Refusal:
    turn = view.lane(lane).turn
    lost = turn.attempt
    if lost is None:
        return Refusal("the attempt was closed meanwhile")
    if turn.stopping is not None:
        return ModelStopped(lost.attempt, "", lost.reserved, bound=True)
    return ModelFailed(lost.attempt, "lost", what, "", transient=True, cost=lost.reserved, bound=True)
