"""The system text of the main agent, filled with what is really there. Stable over a session,
so that prefixes stay cached.
"""

from datetime import UTC, datetime
from pathlib import Path

from ml_intern.record.view import View

_ATTENDED = {
    "deny": "Nobody watches: decide for yourself, and what a person would have to allow is denied.",
    "hold": "A person may be asked to allow a call; while it waits, the turn pauses.",
}


def main_prompt(view: View, walls: str) -> str:
    """The main agent's system text for this session; `walls` describes the sandbox's level in a few words."""
    assert view.started is not None
    mode = view.settings.mode
    text = (Path(__file__).parent / "prompts" / "system.md").read_text(encoding="utf-8")
    return text.format(
        workspace=view.started.workspace,
        walls=walls,
        date=datetime.fromtimestamp(view.started_ms / 1000, UTC).strftime("%Y-%m-%d"),
        mode=mode.mode if mode is not None else "ask",
        attended=_ATTENDED[mode.on_ask if mode is not None else "hold"],
    )
