"""Tells the model how much time is left before the session's deadline, and ends the turn at it. Knows no clock."""

import re
from datetime import UTC, datetime

from ml_intern.policy.guards.verdicts import EndTurn, Nudge
from ml_intern.record.messages import Asked
from ml_intern.record.view import View

TOLD = "Deadline:"
STEP_PERCENT = 5
SAVING_PERCENT = 90

_USED = re.compile(rf"{TOLD} .*?\((\d+)% of the time is used\)")
_ON = "Plan your work so that what matters most is done and saved first."
_SAVE = (
    "This last tenth is for saving: start nothing new and nothing long, stop what cannot finish, save what there is, "
    "and answer with what was done and what was not."
)


def deadline(view: View, lane: str, now_ms: int) -> Nudge | EndTurn | None:
    """At every twentieth of the time that has passed say what is left; end the turn when none is."""
    due, since = view.settings.limits.due, view.settings.limits.since
    if due is None or since is None:
        return None
    if now_ms >= due:
        return EndTurn("The deadline has passed.", "Resume the session with a later --until or --for.")
    used = 100 * max(0, now_ms - since) // max(1, due - since)
    step = used - used % STEP_PERCENT
    until = datetime.fromtimestamp(due / 1000, UTC).strftime("until %Y-%m-%d %H:%M UTC")
    if _told(view, lane, until) >= step:
        return None
    left = f"{TOLD} {_words(due - now_ms)} left, {until} ({step}% of the time is used)."
    return Nudge(f"{left} {_SAVE if step >= SAVING_PERCENT else _ON}")


def _told(view: View, lane: str, until: str) -> int:
    """The share of the time of which this lane was told last; -1: of none. A new deadline begins anew."""
    lines = view.lane(lane).transcript.lines
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if isinstance(line.message, Asked) and line.message.by == "product":
            found = _USED.match(line.message.text)
            if found and until in line.message.text:
                return int(found[1])
    return -1


def _words(left_ms: int) -> str:
    minutes = max(1, left_ms // 60_000)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
