"""The system text of the main agent, filled with what is really there. Stable over a session,
so that prefixes stay cached.
"""

from datetime import UTC, datetime
from pathlib import Path

from ml_intern.record.events import LOOKING
from ml_intern.record.view import View

_ATTENDED = {
    "deny": "Nobody watches: decide for yourself, and what a person would have to allow is denied.",
    "hold": "A person may be asked to allow a call; while it waits, the turn pauses.",
}


_MODES = {
    LOOKING: f"{LOOKING} (calls may only look; whatever would change or run something is denied. Answer with a plan)",
}
_ANSWER = """\
# The form of your answer
Your answer (the message without a call) is read by a program: one JSON value, no fence around it and not a word beside
it, that fits this JSON Schema:
{schema}"""


def main_prompt(view: View, walls: str) -> str:
    """The main agent's system text for this session; `walls` describes the sandbox's level in a few words."""
    assert view.started is not None
    mode, brief = view.settings.mode, view.settings.brief
    name = mode.mode if mode is not None else "ask"
    text = (Path(__file__).parent / "prompts" / "system.md").read_text(encoding="utf-8")
    filled = text.format(
        workspace=view.started.workspace,
        walls=walls,
        date=datetime.fromtimestamp(view.started_ms / 1000, UTC).strftime("%Y-%m-%d"),
        mode=_MODES.get(name, name),
        attended=_ATTENDED[mode.on_ask if mode is not None else "hold"],
    )
    answer = _ANSWER.format(schema=brief.schema.strip()) if brief.schema else ""
    return "\n\n".join(part.strip("\n") for part in (filled, brief.append, answer) if part.strip()) + "\n"
