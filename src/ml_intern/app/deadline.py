"""When all work must be done: `--until HH:MM` or `--for TIME`. Knows no session."""

import re
from datetime import datetime, timedelta

from ml_intern.app.options import seconds_of
from ml_intern.base.errors import BadSettings

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def due_of(until: str | None, lasting: str | None, now_ms: int) -> int | None:
    """The instant (milliseconds since 1970) that the flags name; None where there is no deadline.

    `until` is the next time that this machine's clock shows it.

    Raises:
        BadSettings: it is no time, or both are given.
    """
    if until is not None and lasting is not None:
        raise BadSettings("--until and --for name two deadlines.", "Give one of them.")
    if lasting is not None:
        return now_ms + round(seconds_of(lasting, "--for") * 1000)
    return _next(until, now_ms) if until is not None else None


def _next(until: str, now_ms: int) -> int:
    found = _CLOCK.fullmatch(until.strip())
    if found is None:
        raise BadSettings(f"--until {until} is no time of day.", "Write it as 06:00 or 18:30.")
    # A naive time is this machine's own: on a day when clocks are changed it stays what a person reads off the wall.
    now = datetime.fromtimestamp(now_ms / 1000)
    due = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    due = due if due > now else due + timedelta(days=1)
    return round(due.timestamp() * 1000)
