"""Notices that a model writes calls that cannot be read, twice in a row for one tool. Knows no tool."""

from ml_intern.policy.guards.verdicts import Nudge
from ml_intern.record.messages import Answered, Asked
from ml_intern.record.view import View

INVALID = "The arguments of this call could not be read:"
"""How the road begins its answer to arguments that are no valid JSON or miss the schema."""


def malformed(view: View, lane: str, now_ms: int) -> Nudge | None:
    """Nudge once when the last two answers are about unreadable arguments of the same tool."""
    lines = view.lane(lane).transcript.lines
    answers: list[Answered] = []
    for index in range(len(lines) - 1, -1, -1):
        message = lines[index].message
        if isinstance(message, Asked):
            break
        if isinstance(message, Answered):
            answers.append(message)
        if len(answers) == 2:
            break
    if len(answers) < 2 or len({answer.tool for answer in answers}) > 1:
        return None
    if not all(answer.text.startswith(INVALID) for answer in answers):
        return None
    return Nudge(
        f"Two calls of `{answers[0].tool}` in a row had arguments that could not be read. Do it another way: send less "
        "at once (a long text in several parts, each well under the output limit), and check that the JSON is complete."
    )
