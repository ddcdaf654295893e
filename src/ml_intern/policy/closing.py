"""What becomes of a turn that would end here: it ends, or the model is told why not yet. Pure; knows no model."""

from ml_intern.policy.answer import unfit
from ml_intern.policy.guards.truncated import truncated
from ml_intern.policy.guards.unfinished import unfinished
from ml_intern.policy.guards.verdicts import Nudge
from ml_intern.policy.silence import silent
from ml_intern.record.events import Nudged, TurnEnded
from ml_intern.record.folds.turn import Stopping
from ml_intern.record.view import MAIN, View


def closing(view: View, lane: str, ending: Stopping) -> Nudged | TurnEnded:
    """The end that `ending` calls for, or what the model is told instead."""
    ended = TurnEnded(ending.reason, ending.what, ending.remedy, _put_off(view, lane, ending))
    if ending.reason == "failed" and _is_cut(view, lane):
        nudge = truncated(view, lane, 0)
        return Nudged("truncated", nudge.text) if isinstance(nudge, Nudge) else ended
    if ending.reason != "done":
        return ended
    if lane != MAIN:
        return silent(view, lane) or ended
    return silent(view, lane) or _nudged(unfinished(view, lane)) or unfit(view, lane) or ended


def _put_off(view: View, lane: str, ending: Stopping) -> int:
    """Who stops the work wants none of what was to follow it, unless they have said more since."""
    turn = view.lane(lane).turn
    return turn.queued if ending.reason == "interrupted" and turn.queued == turn.put_off else 0


def _is_cut(view: View, lane: str) -> bool:
    replied = view.lane(lane).turn.replied
    return replied is not None and replied.finish == "length"


def _nudged(nudge: Nudge | None) -> Nudged | None:
    return Nudged("unfinished", nudge.text) if nudge is not None else None
