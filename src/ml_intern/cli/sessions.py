"""`ml-intern sessions VERB`: what is done to whole sessions. Parses and prints; knows no event and no loop."""

import asyncio
import math
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import click

from ml_intern.app.keeping import open_house, sweep_of
from ml_intern.base.errors import BadSettings, MlInternError, SessionBusy, SessionNotFound, StoreFailed
from ml_intern.base.money import Micro, usd
from ml_intern.base.money import show as dollars
from ml_intern.base.text import one_line, size, visible_line
from ml_intern.cli.files import new_file, old_file
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain
from ml_intern.session.house import House
from ml_intern.store.sessions import Summary, resolve, summaries
from ml_intern.store.sweep import Kind

Work = Callable[[House], Coroutine[None, None, None]]

_ID = click.argument("session", metavar="ID|last")


@click.command()
@_ID
@click.argument("title", nargs=-1, required=True)
def rename(session: str, title: tuple[str, ...]) -> None:
    """Give a session a title; until then it is called by the first words that were said in it."""

    async def work(house: House) -> None:
        found = await resolve(house.store, session)
        _say(f"{found} is now called: {await house.rename(found, ' '.join(title))}")

    _run(work)


@click.command()
@click.argument("session", default="last", metavar="[ID|last]")
@click.option("--turns", "-n", type=int, default=1, show_default=True, help="How many, counted from the last.")
def undo(session: str, turns: int) -> None:
    """Hide the last turns of a session from the model.

    What was spent, answered and changed on disk stays as it is, and in `ml-intern show`: files are not brought back.
    """

    async def work(house: House) -> None:
        found = await resolve(house.store, session)
        view = await house.undo(found, turns)
        changed = f" {len(view.files.changed)} changed files stay as they are." if view.files.changed else ""
        _say(f"{found}: {turns} turn{'s' if turns > 1 else ''} undone.{changed}")

    _run(work)


@click.command()
@click.argument("session", default="last", metavar="[ID|last]")
def compact(session: str) -> None:
    """Have what was said so far become a summary when the session goes on.

    It happens by itself when the window is nearly full (--compact-at). Nothing is lost: `ml-intern show` has it.
    """

    async def work(house: House) -> None:
        found = await resolve(house.store, session)
        await house.compact(found)
        _say(f"{found}: what was said becomes a summary when the model is asked next.")
        _say(f'Go on with: ml-intern resume {found} "WHAT TO DO"')

    _run(work)


@click.command()
@_ID
@click.option("--upto", type=int, metavar="SEQ", help="Copy entries up to this number (`show --json` numbers them).")
@click.option("--budget", required=True, metavar="USD", help="Hard cap of the new session, of which it has spent 0.")
def fork(session: str, upto: int | None, budget: str) -> None:
    """Begin a new session from a copy of another one, which stays as it is.

    The copy ends where no call was open. Both work in the same folder; commands and jobs stay with the first.
    """

    async def work(house: House) -> None:
        found = await resolve(house.store, session)
        made = await house.fork(found, upto, usd(budget))
        _say(f"{made.session} holds {found} up to entry {made.upto}.")
        _say(f'Go on with: ml-intern resume {made.session} "WHAT TO DO"')

    _run(work)


@click.command()
@click.argument("sessions", nargs=-1, required=True, metavar="ID|last...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(sessions: tuple[str, ...], yes: bool) -> None:
    """Delete sessions for good: the record, kept outputs and private home. The workspace stays."""

    async def work(house: House) -> None:
        found = {await resolve(house.store, each): None for each in sessions}
        listed = {each.id: each for each in await summaries(house.store)}
        for session in found:
            if yes or _confirmed(f"Delete {_named(listed[session])} for good?"):
                await house.delete(session)
                _say(f"{session} is deleted.")

    _run(work)


@click.command("export")
@_ID
@click.argument("file", required=False, metavar="[FILE|-]")
def export_session(session: str, file: str | None) -> None:
    """Write a session to one file of JSON lines (default: ml-intern-ID.jsonl here; - is stdout).

    Secrets of known shapes, and every key this machine holds, become [secret]. Paths and all else stay as they are.
    """

    async def work(house: House) -> None:
        found = await resolve(house.store, session)
        if file == "-":
            await house.export(found, sys.stdout.buffer)
            return
        path = Path(file or f"ml-intern-{found}.jsonl")
        with new_file(path) as sink:
            await house.export(found, sink)
        _say(f"{path} holds {found}. Read it before you give it away: only known shapes of secrets were taken out.")

    _run(work)


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER|-...")
@click.option(
    "--cwd",
    metavar="FOLDER",
    default=".",
    type=click.Path(exists=True, file_okay=False),
    help="The workspace that it is to work in (default: here).",
)
def import_sessions(files: tuple[str, ...], cwd: str) -> None:
    """Make a new session of each exported file, and of each session_logs/*.json of huggingface/ml-intern.

    Of a folder all that has the name of one of these is taken.

    What was said and done comes over; mode, rules, prices, addresses and the budget do not: `resume` takes yours.
    """

    workspace = Path(cwd).resolve()

    async def bring(house: House, name: str) -> str:
        with old_file(name) as source:
            made = await house.bring_in(source, workspace)
        _say(f"{made.session} holds {made.original or 'the session'} ({made.entries} entries).")
        return made.session

    async def work(house: House) -> None:
        names = [each for file in files for each in _kept_in(file)]
        if len(names) == 1:
            made = await bring(house, names[0])
            _say(f'Go on with: ml-intern resume {made} "WHAT TO DO" --model ID --budget USD')
            return
        failed = 0
        for name in names:
            try:
                await bring(house, name)
            except (BadSettings, StoreFailed) as error:
                failed += 1
                complain(BadSettings(f"{name}: {error.what}", error.remedy))
        if failed:
            raise BadSettings(f"{failed} of {len(names)} files were not imported.", "The others were.")
        _say('Go on with: ml-intern resume ID "WHAT TO DO" --model ID --budget USD')

    _run(work)


def _kept_in(name: str) -> list[str]:
    """The file itself, or what of the folder has the name of an export or of a log.

    Raises:
        BadSettings: the folder holds none.
    """
    folder = Path(name)
    if not folder.is_dir():
        return [name]
    found = sorted(str(path) for form in ("session_*.json", "ml-intern-*.jsonl") for path in folder.glob(form))
    if not found:
        what = f"{name} holds no session_*.json and no ml-intern-*.jsonl."
        raise BadSettings(what, "Name a session_logs folder, or the files themselves.")
    return found


@click.command()
@click.option("--days", type=click.FloatRange(min=1), default=30, show_default=True, help="An environment is old then.")
@click.option("--yes", "-y", is_flag=True, help="Remove it; without this it is only counted.")
def gc(days: float, yes: bool) -> None:
    """Count, or remove, what no session needs.

    Left-over folders of killed processes, kept outputs that no record names, environments of scripts that nobody used
    lately (they are built again when they are wanted), free pages of the database.
    """

    if math.isnan(days):  # no number is less than 1, and neither is this
        raise click.BadParameter("nan is no number of days.", param_hint="'--days'")

    async def work(house: House) -> None:
        sweep = sweep_of(house, days)
        found = await asyncio.to_thread(sweep.find)
        gone = [each for each in found if yes and await asyncio.to_thread(sweep.remove, each)]
        for kind, words in _LITTER.items():
            some = [each for each in (gone if yes else found) if each.kind == kind]
            if some:
                _say(f"{len(some):>6} {words:<40} {size(sum(each.bytes for each in some)):>8}")
        total = size(sum(each.bytes for each in (gone if yes else found)))
        left = f" {len(found) - len(gone)} are in use by now and stay." if yes and len(gone) < len(found) else ""
        _say(f"{total} freed.{left}" if yes else f"{total} could be freed: ml-intern sessions gc --yes")

    _run(work)


_LITTER: dict[Kind, str] = {
    "folder": "folders that belong to no session",
    "output": "kept outputs that no record names",
    "environment": "environments that nobody used lately",
    "database": "database with free pages",
}
_VERBS = (rename, undo, compact, fork, delete, export_session, import_sessions, gc)
COMMANDS: dict[str, click.Command] = {each.name or "": each for each in _VERBS}
"""By name, for the group in main.py, which imports this module when one of them is wanted."""


def _run(work: Work) -> None:
    async def with_house() -> None:
        async with open_house() as house:
            await work(house)

    try:
        asyncio.run(with_house())
    except BrokenPipeError:  # who read the export has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except MlInternError as error:
        complain(error)
        wrong = isinstance(error, BadSettings | SessionNotFound | SessionBusy)
        sys.exit(Exit.BAD_SETTINGS if wrong else Exit.FAILED)


def _say(line: str) -> None:
    sys.stdout.write(f"{visible_line(line)}\n")


def _named(summary: Summary) -> str:
    title = one_line(summary.title or summary.preview, 60) or "untitled"
    return visible_line(f"{summary.id} ({title}; {dollars(Micro(summary.spent))} spent)")


def _confirmed(question: str) -> bool:
    """A person's yes. Nobody there is no yes.

    Raises:
        BadSettings: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise BadSettings(f"{question} Nobody is there to say so.", "Say it with --yes.")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
