"""A name for the session, asked once of the models that are there for it; without any its first words are the name.

Knows no door and no store.
"""

from pathlib import Path

from ml_intern.agent.ask import Asker
from ml_intern.agent.context import Head
from ml_intern.record.asides import TITLE
from ml_intern.record.events import Renamed
from ml_intern.record.folds.memory import MOST_TRIES
from ml_intern.record.log import Refusal
from ml_intern.record.titles import clean_title
from ml_intern.record.view import MAIN, View

_TOLD_CHARS = 6_000
"""Of the conversation, that a model is told which names it."""
_AROUND = " \t\"'`*#“”«»."


def title_head() -> Head:
    """What a model is told that names a session."""
    text = (Path(__file__).parent / "prompts" / "title.md").read_text(encoding="utf-8")
    return Head(text, (), aside=_TOLD_CHARS)


def wants_title(view: View, lane: str) -> bool:
    """Whether it is time to have the session named: something was answered, nothing is to end, and there are models
    for it.
    """
    if lane != MAIN or TITLE not in view.settings.models:
        return False
    memory, turn = view.lane(lane).memory, view.lane(lane).turn
    has_answered = turn.steps > 0 and turn.stopping is None and turn.failed is None
    return has_answered and (memory.title is not None or memory.titled < MOST_TRIES)


async def name_session(asker: Asker) -> bool:
    """Ask for a name and record it; whether anything was recorded. Where no name comes of it, the next model is asked
    once, or the same one again; then the session keeps what it is called by.

    Raises:
        asyncio.CancelledError: stopped; what was asked is recorded as such.
        SessionError: the record can no longer be written.
    """
    log, before = asker.log, asker.log.view.seq
    memory, chosen = log.view.lane(MAIN).memory, log.view.settings.model_of(TITLE)
    if memory.title is None:
        if memory.missed is not None and memory.missed.model == chosen.model:
            await asker.pass_on(MAIN, TITLE)
        await asker.ask(MAIN, TITLE)
    await log.add(_named, MAIN)
    return log.view.seq > before


def _named(view: View) -> Renamed | Refusal:
    """The last line that was written; where it says nothing, what the session is called by already."""
    written = view.lane(MAIN).memory.title
    if written is None:
        return Refusal("No name came of it.")
    rows = [row for row in written.splitlines() if row.strip(_AROUND)]
    return Renamed(clean_title(rows[-1].strip(_AROUND)) if rows else view.settings.title, "product")
