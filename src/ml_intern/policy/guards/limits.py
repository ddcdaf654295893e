"""Notices that a turn has used its steps or its time. Knows no clock: the time is given."""

from ml_intern.policy.guards.verdicts import EndTurn
from ml_intern.record.view import View


def limits(view: View, lane: str, now_ms: int) -> EndTurn | None:
    """End the turn at its most steps (model replies) or its most seconds."""
    turn, bounds = view.lane(lane).turn, view.settings.limits
    opened = view.lane(lane).opened
    most = opened.max_steps if opened is not None else bounds.max_steps
    if most is not None and turn.steps >= most:
        return EndTurn(
            f"The turn has used its {most} steps.", "Resume the session, with a higher --max-steps if needed."
        )
    if bounds.max_time_s is not None and turn.passed_ms(now_ms) >= bounds.max_time_s * 1000:
        return EndTurn("The time for this turn is up.", "Resume the session, with a longer --max-time if needed.")
    return None
