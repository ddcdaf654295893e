"""Notices that a reply was cut at the output limit. Knows no model and no tool."""

from ml_intern.policy.guards.malformed import INVALID
from ml_intern.policy.guards.verdicts import EndTurn, Nudge
from ml_intern.record.view import View

MOST_CUTS = 2
"""So many replies in a row may be cut; then the turn ends."""

_CUT = "Your reply was cut at the output limit"
_PARTS = "Go on in smaller parts: less in one reply, a long text in several calls, each well under the limit."
_REMEDY = "Ask for less at once, or choose a model with a higher limit: `ml-intern models` tells it."


def truncated(view: View, lane: str, now_ms: int) -> Nudge | EndTurn | None:
    """Once per cut reply: what became of it, and to go on in smaller parts; the second in a row ends the turn.

    A cut that lost nothing is none: only one right after another that was told of ends it.
    """
    state = view.lane(lane)
    conduct, replied = state.conduct, state.turn.replied
    if replied is None or not conduct.cuts or conduct.told.get("truncated") == conduct.steps:
        return None
    calls = replied.reply.calls
    lost = [deed.tool for deed in conduct.deeds[-len(calls) :] if deed.result.startswith(INVALID)] if calls else []
    if calls and not lost:
        return None
    if conduct.cuts >= MOST_CUTS and conduct.told.get("truncated") == conduct.steps - 1:
        return EndTurn(f"{conduct.cuts} replies in a row were cut at the output limit.", _REMEDY)
    if lost:
        return Nudge(f"{_CUT} within the call of `{lost[-1]}`, so it was not run. {_PARTS}")
    if replied.reply.text.strip():
        return Nudge(f"{_CUT}. {_PARTS} Do not repeat what you have already said.")
    return Nudge(f"{_CUT} before it said or called anything. Think less at once. {_PARTS}")
