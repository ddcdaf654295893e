"""Whether a turn would end on a reply that says nothing at all. Pure; knows no model."""

from ml_intern.record.events import Nudged, TurnEnded
from ml_intern.record.messages import Asked
from ml_intern.record.view import View

SILENT = "Your last reply was empty."
MOST_TIMES = 2
"""How often a model is told so in a turn before the turn fails."""


def silent(view: View, lane: str) -> Nudged | TurnEnded | None:
    """What becomes of a turn that would end without a word: models do that after tool results, and go on when told.

    The same request again would get the same (https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons).
    """
    state = view.lane(lane)
    replied = state.turn.replied
    if replied is None or replied.reply.text.strip():
        return None
    asked = [line.message for line in state.transcript.lines if line.seq > state.turn.started_seq]
    times = sum(isinstance(message, Asked) and message.text.startswith(SILENT) for message in asked)
    if times < MOST_TIMES:
        return Nudged("silence", f"{SILENT} Go on with the task; if it is done, say what came of it.")
    what = f"The model's reply was empty {times + 1} times."
    return TurnEnded("failed", what, "Resume the session to ask again, or choose another model with --model.")
