"""Notices that many steps in a row changed no file, no plan and showed nothing new. Knows no tool."""

from ml_intern.policy.guards.verdicts import Nudge, Pause
from ml_intern.record.view import View


def stall(view: View, lane: str, now_ms: int) -> Nudge | Pause | None:
    """Nudge after so many steps; after as many more without anything new it is for a person to look."""
    most, conduct = view.settings.guards.stall, view.lane(lane).conduct
    if most is None or conduct.still < most:
        return None
    if "stall" in conduct.told:
        return Pause(
            f"For {2 * most} steps no file and no plan changed and no call showed anything new.",
            "Resume the session and say what to do instead; --guard-stall N allows more (off: any number).",
        )
    return Nudge(
        f"In your last {most} steps no file and no plan changed, and no call showed anything new. Stop and think about "
        "what is really needed. Take a different way, or answer with what is done and what stands in the way."
    )
