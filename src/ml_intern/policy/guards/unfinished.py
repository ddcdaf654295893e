"""Notices that a turn would end while items of its plan are open. Knows no tool."""

import re

from ml_intern.policy.guards.verdicts import Nudge
from ml_intern.record.view import View

_MOST_NAMED = 10
_LAST_CHARS = 300
_FAILURE = re.compile(
    r"\b(?:fail\w*|error\w*|unable|impossible|blocked|denied|refused|stuck|give up|gave up|missing|not possible|"
    r"(?:can|could|did|does|do|was|were|is|are|will|would|has|have) ?n[o'’]t)\b",
    re.IGNORECASE,
)


def unfinished(view: View, lane: str) -> Nudge | None:
    """Once a turn, and only for a plan of this very turn; never for a question to the user or a failure told."""
    state = view.lane(lane)
    if not view.settings.guards.plan or state.turn.replied is None or "unfinished" in state.conduct.told:
        return None
    versions = view.plan.history
    if not len(versions) or versions[-1][0] <= state.turn.started_seq:
        return None
    text = state.turn.replied.reply.text.strip()
    if _asks(text) or _FAILURE.search(text):
        return None
    items = [item.content for item in view.plan.items if item.status != "completed"]
    if not items:
        return None
    more = f"; and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    named = "; ".join(items[:_MOST_NAMED]) + more
    return Nudge(
        f"Your plan still has open items: {named}. Go on with them; if they are done or no longer wanted, bring the "
        "plan up to date and answer. If something stands in the way, say so."
    )


def _asks(text: str) -> bool:
    """A question near the end, even with a list of choices behind it."""
    return "?" in text[-_LAST_CHARS:]
