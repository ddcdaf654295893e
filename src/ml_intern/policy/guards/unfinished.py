"""Notices that a turn would end while items of its plan are open. Knows no tool and no language."""

from ml_intern.policy.guards.verdicts import Nudge
from ml_intern.record.view import View

_MOST_NAMED = 10
_LAST_CHARS = 300
_QUESTION_MARKS = (
    "?\N{FULLWIDTH QUESTION MARK}\N{ARABIC QUESTION MARK}\N{GREEK QUESTION MARK}\N{ARMENIAN QUESTION MARK}"
)


def unfinished(view: View, lane: str) -> Nudge | None:
    """Once a turn, and only for a plan of this very turn; never for a question to the user. That an answer tells of a
    failure takes its language to see: it costs one more reply, which is the last word whatever it says.
    """
    state = view.lane(lane)
    if not view.settings.guards.plan or state.turn.replied is None or "unfinished" in state.conduct.told:
        return None
    versions = view.plan.history
    if not len(versions) or versions[-1][0] <= state.turn.started_seq:
        return None
    if _asks(state.turn.replied.reply.text.strip()):
        return None
    items = [item.content for item in view.plan.items if item.status != "completed"]
    if not items:
        return None
    more = f"; and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    named = "; ".join(items[:_MOST_NAMED]) + more
    return Nudge(
        f"Your plan still has open items: {named}. Go on with them; if they are done or no longer wanted, bring the "
        "plan up to date and answer. If something stands in the way, give your whole answer again, with what it is."
    )


def _asks(text: str) -> bool:
    """A question near the end, even with a list of choices behind it."""
    return any(mark in text[-_LAST_CHARS:] for mark in _QUESTION_MARKS)
