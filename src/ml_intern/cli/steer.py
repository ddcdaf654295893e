"""`ml-intern say` and `ml-intern stop`: a word to a session that another process runs. Knows no socket."""

import asyncio
import sys
from collections.abc import Coroutine

from msgspec import Struct

from ml_intern.app.keeping import open_house
from ml_intern.app.reading import open_reading
from ml_intern.base.errors import BadSettings, MlInternError, SessionBusy, SessionNotFound
from ml_intern.base.ids import new_id
from ml_intern.base.text import visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.report import follow_ups
from ml_intern.headless.streams import complain
from ml_intern.record.view import MAIN, View, fold
from ml_intern.session.entrance import Absent, Sent, deliver


class Word(Struct, frozen=True):
    """What is said: the words, at which point, under which id (empty: a new one)."""

    text: str | None
    after: bool
    id: str


def say(session: str, word: Word) -> Exit:
    """Say it in `session`, which is running."""
    return _done(_say(session, word))


def stop(session: str, *, commands: bool) -> Exit:
    """Stop what `session` is doing; with `commands` also what it left running in the background."""
    return _done(_stop(session, commands=commands))


def _done(work: Coroutine[None, None, None]) -> Exit:
    try:
        asyncio.run(work)
    except MlInternError as error:
        complain(error)
        wrong = isinstance(error, BadSettings | SessionNotFound | SessionBusy)
        return Exit.BAD_SETTINGS if wrong else Exit.FAILED
    return Exit.DONE


async def _say(session: str, word: Word) -> None:
    text = sys.stdin.read() if word.text in {None, "-"} and not sys.stdin.isatty() else word.text
    if text is None or not text.strip():
        raise BadSettings("There is nothing to say.", 'Write it behind the id: ml-intern say last "use fewer epochs".')
    found = await _send(session, Sent("say", word.id or new_id(), text, "after" if word.after else "now"))
    if isinstance(found, Absent):
        remedy = f'Say it with: ml-intern resume {found.session} "TEXT"'
        raise BadSettings(f"Session {found.session} is not running.", remedy)
    _tell(f"{found}: it is heard " + ("when the turn is over." if word.after else "at the next step."))


async def _stop(session: str, *, commands: bool) -> None:
    found = await _send(session, Sent("stop", new_id(), commands=commands))
    if not isinstance(found, Absent):
        _tell(f"{found}: stopped. Go on with: ml-intern resume {found}")
        if later := await _queued(found):
            _tell(f"{follow_ups(later)} said before: heard after that.")
        return
    if not commands:
        remedy = f"What it left running in the background ends with: ml-intern stop {found.session} --commands"
        raise BadSettings(f"Session {found.session} is not running.", remedy)
    async with open_house() as house:
        ended = await house.end_commands(found.session)
    _tell(f"{found.session}: {ended or 'no'} command{'' if ended == 1 else 's'} ended.")


async def _queued(session: str) -> int:
    """How many follow-ups wait for the end of a turn."""
    view = View()
    async with open_reading() as reading:
        for entry in await reading.entries(session):
            view = fold(view, entry)
    return view.lane(MAIN).turn.queued


async def _send(session: str, sent: Sent) -> str | Absent:
    """The session that took it in, or that nobody runs it.

    Raises:
        BadSettings: it was refused.
    """
    async with open_reading() as reading:
        found = await reading.resolve(session)
        folder = reading.folder(found)
    answer = await deliver(folder, sent)
    if isinstance(answer, Absent):
        return Absent(found)
    if answer is not None:
        raise BadSettings(answer.what, answer.remedy)
    return found


def _tell(line: str) -> None:
    sys.stdout.write(f"{visible_line(line)}\n")
