"""Whether a turn's answer is the JSON that was asked for (`--output-schema`). Pure; knows no model."""

import json
import re
from itertools import islice
from typing import Any

from ml_intern.policy.schema import misfits, refuse
from ml_intern.record.events import Nudged, TurnEnded
from ml_intern.record.messages import Asked
from ml_intern.record.view import View

MISFIT = "Your answer is not the JSON that was asked for:"
_MOST_NAMED = 5


def check_schema(text: str) -> None:
    """Look at a schema before it is used.

    Raises:
        ValueError: it is no JSON, or holds what cannot be checked; the message says what.
    """
    try:
        refuse(json.loads(text))
    except re.error as error:
        raise ValueError(f"a pattern is no regular expression: {error}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def misfit(schema: str, answer: str) -> str:
    """What of the answer does not fit, in words; empty where it fits."""
    try:
        value = json.loads(answer, parse_constant=_no_number)
        root: dict[str, Any] = json.loads(schema)
        return "; ".join(islice(misfits(value, root, root), _MOST_NAMED))
    except ValueError as error:
        return f"it is no JSON ({error})"
    except RecursionError:
        return "it is nested too deeply"


def unfit(view: View, lane: str) -> Nudged | TurnEnded | None:
    """What becomes of a turn that would end on this answer: told once what does not fit, it fails the second time."""
    schema = view.settings.brief.schema
    state = view.lane(lane)
    replied = state.turn.replied
    wrong = misfit(schema, replied.reply.text) if schema and replied is not None else ""
    if not wrong:
        return None
    since = state.turn.started_seq
    asked = (line.message for line in state.transcript.lines if line.seq > since)
    if any(isinstance(message, Asked) and message.text.startswith(MISFIT) for message in asked):
        what = f"The answer does not fit --output-schema: {wrong}."
        return TurnEnded("failed", what, "Resume the session and say what is to be answered, or loosen the schema.")
    return Nudged("answer", f"{MISFIT} {wrong}. Answer again: one JSON value that fits the schema, and nothing else.")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
