"""The one place where adapters are chosen and tools are built from the ports they name. Knows no door."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from ml_intern import __version__
from ml_intern.agent.ask import Asker
from ml_intern.agent.context import Head
from ml_intern.agent.loop import Worker
from ml_intern.agent.prompt import main_prompt
from ml_intern.agent.road import Road
from ml_intern.app.choices import Played, Players, choose, settings_events
from ml_intern.app.places import Places, find_places
from ml_intern.app.settings import Launch
from ml_intern.app.traces import traces_kept
from ml_intern.base.clock import SystemClock
from ml_intern.base.ids import new_id
from ml_intern.base.money import Micro, show
from ml_intern.model.keys import known_secrets
from ml_intern.model.port import Model, ToolSpec
from ml_intern.record.events import OwnerTook, SessionStarted
from ml_intern.record.live import Live
from ml_intern.record.log import Log
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import View
from ml_intern.sandbox import variables
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level, Probe, probe, require
from ml_intern.sandbox.paths import Roots, command_path, session_roots
from ml_intern.session.session import Session
from ml_intern.store.blobs import Blobs
from ml_intern.store.folder import session_folder
from ml_intern.store.lock import Owner, take
from ml_intern.store.sessions import resolve
from ml_intern.store.sqlite import SqliteStore
from ml_intern.toolkit.registry import Registry
from ml_intern.tools import Workshop, make_tools

WALLS = {
    Level.FULL: "namespaces and a system-call filter",
    Level.WALLS: "Landlock and a system-call filter",
    Level.NONE: "none",
}


class Opened(Struct, frozen=True):
    """A session that this process owns, and one line about it for a person."""

    session: Session
    summary: str


@asynccontextmanager
async def open_session(
    launch: Launch,
    *,
    resume: str | None = None,
    take_over: bool = False,
    played: Played | None = None,
    players: Players = MappingProxyType({}),
    door: str = "headless",
) -> AsyncGenerator[Opened]:
    """A new session, or the one that `resume` names ("last", an id, the beginning of one),
    wired and owned by this process.

    Raises:
        BadSettings, SessionNotFound, SessionBusy, StoreFailed, LevelTooLow: nothing was started.
    """
    places = find_places(launch.environ)
    probing = asyncio.create_task(asyncio.to_thread(_walls, places))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_ended, probing)
        store = await SqliteStore.open(places.data)
        stack.push_async_callback(store.close)
        session = await resolve(store, resume) if resume is not None else ""
        choice = await choose(launch, None, played, players) if not session else None
        walls = await probing
        if not session:
            session = new_id()
            # Refuses a workspace that cannot be walled before a session is made of it.
            await asyncio.to_thread(_roots, launch, launch.cwd, places, session_folder(places.data, session))
            await store.create(session)
        owner = await take(store, session, door, force=take_over)
        stack.callback(owner.release)
        folder = session_folder(places.data, session)
        log = await _open_log(owner, launch, session)
        stack.enter_context(traces_kept(folder / "errors.log", log.secrets))
        choice = choice or await choose(launch, log.view.settings.models.get("main"), played, players)
        for event in settings_events(log.view, launch, choice):
            await log.add(event)
        model = await asyncio.to_thread(choice.make)
        stack.push_async_callback(model.aclose)
        commands = Commands(folder, walls.level, bwrap=walls.bwrap)
        stack.push_async_callback(_put_away, commands)
        workshop = await asyncio.to_thread(_workshop, log, launch, places, folder, commands)
        yield Opened(_assemble(log, model, Registry(make_tools(workshop)), walls), _summary(log.view, walls))


async def _ended(task: asyncio.Task[Probe]) -> None:
    await asyncio.wait([task])


def _walls(places: Places) -> Probe:
    found = probe(places.level)
    require(found, Level.WALLS)
    return found


async def _open_log(owner: Owner, launch: Launch, session: str) -> Log:
    log = await Log.open(owner.journal, SystemClock(), Secrets(known_secrets(launch.environ)))
    if log.view.started is None:
        await log.add(SessionStarted(session, str(launch.cwd), __version__))
    await log.add(OwnerTook(owner.epoch, owner.holder.door, owner.holder.pid, owner.holder.host))
    return log


def _workshop(log: Log, launch: Launch, places: Places, folder: Path, commands: Commands) -> Workshop:
    """What the session's tools are built from: its folder and the user's environment. Blocks."""
    assert log.view.started is not None
    roots = _roots(launch, Path(log.view.started.workspace), places, folder)
    return Workshop(
        roots=roots,
        commands=commands,
        blobs=Blobs(folder / "blobs", log.secrets),
        environments=places.environments,
        environ=variables.inside(launch.environ, roots.home, command_path()),
        folder=folder,
    )


def _roots(launch: Launch, workspace: Path, places: Places, folder: Path) -> Roots:
    also_read = variables.ca_files(launch.environ)
    return session_roots(workspace, folder, places.environments, also_read=also_read)


async def _put_away(commands: Commands) -> None:
    """Nothing runs at rest, so the session's supervisor may go; after a crash or a stop it ends what is left itself."""
    if not await commands.running():
        await commands.close()


def _assemble(log: Log, model: Model, registry: Registry, walls: Probe) -> Session:
    live = Live()
    specs = tuple(ToolSpec(row.name, row.text, row.parameters) for row in registry.specs())
    head = Head(main_prompt(log.view, WALLS[walls.level]), specs)
    clock = SystemClock()
    asker = Asker(log, live, clock, {"main": model}, {"main": head})
    return Session(Worker(log, asker, Road(log, live, clock, registry), clock), live)


def _summary(view: View, walls: Probe) -> str:
    assert view.started is not None
    chosen, mode = view.settings.models["main"], view.settings.mode
    facts = (
        f"session {view.started.session}",
        f"{chosen.model}, paid by {chosen.payer}",
        f"mode {mode.mode if mode else 'ask'}",
        f"budget {show(Micro(view.purse.cap or 0))}",
        f"sandbox {walls.level.name.lower()}",
        view.started.workspace,
    )
    return " · ".join(facts)
