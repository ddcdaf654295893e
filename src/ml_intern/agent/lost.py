"""What nobody waits for any more: an attempt whose process died, a sub-agent whose call can no longer go on.

Knows no model and no tool.
"""

from ml_intern.record.display import TextDisplay
from ml_intern.record.events import LaneClosed, ModelFailed, ModelStopped, ToolFinished, TurnEnded
from ml_intern.record.folds.calls import OpenCall
from ml_intern.record.log import Log, Refusal
from ml_intern.record.view import View

LOST = "The process ended while the model was answering."
_NO_CALL = "The call that this sub-agent worked for cannot go on."


async def close_attempt(log: Log, lane: str, what: str = LOST) -> None:
    """Close an attempt that nobody waits for any more: it may have been billed, so its worst case is booked.

    Raises:
        SessionError: the record can no longer be written.
    """
    if log.view.lane(lane).turn.attempt is not None:
        await log.add(lambda view: _closed(view, lane, what), lane)


async def close_orphans(log: Log, parent: str) -> None:
    """Close what is open in each lane of `parent` whose call has its answer without it: after a crash the tool that
    started it may be gone. What it had reserved would be held for ever.

    Raises:
        SessionError: the record can no longer be written.
    """
    for name in _orphans(log.view, parent):
        await close_attempt(log, name)
        for each in tuple(log.view.lane(name).calls.values()):
            await log.add(_lost(each), name)
        if log.view.lane(name).turn.open:
            await log.add(TurnEnded("interrupted", _NO_CALL), name)
        await log.add(LaneClosed("lost"), name)


def _orphans(view: View, parent: str) -> list[str]:
    waiting = view.lane(parent).calls
    return [
        name
        for name, lane in view.lanes.items()
        if lane.closed is None
        and lane.opened is not None
        and lane.opened.parent == parent
        and lane.opened.call not in waiting
    ]


def _lost(open_call: OpenCall) -> ToolFinished:
    call, started = open_call.call, open_call.started is not None
    text = f"Interrupted: whether it took effect is unknown. {_NO_CALL}" if started else f"Not run. {_NO_CALL}"
    return ToolFinished(call.id, "lost" if started else "stopped", text, TextDisplay(call.tool, text))


def _closed(view: View, lane: str, what: str) -> ModelFailed | ModelStopped | Refusal:
    turn = view.lane(lane).turn
    lost = turn.attempt
    if lost is None:
        return Refusal("the attempt was closed meanwhile")
    if turn.stopping is not None:
        return ModelStopped(lost.attempt, "", lost.reserved, bound=True)
    return ModelFailed(lost.attempt, "lost", what, "", transient=True, cost=lost.reserved, bound=True)
