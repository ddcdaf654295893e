"""The one place where adapters are chosen and tools are built from the ports they name. Knows no door."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ml_intern import __version__
from ml_intern.agent.ask import Asker
from ml_intern.agent.chain import Link
from ml_intern.agent.compact import compaction_head
from ml_intern.agent.context import Head
from ml_intern.agent.gate import Gate, OpenGate
from ml_intern.agent.loop import Tell, Worker
from ml_intern.agent.notices import Notices
from ml_intern.agent.prompt import Scene, main_prompt
from ml_intern.agent.road import Road
from ml_intern.agent.subagent import Crew, Lanes
from ml_intern.agent.title import title_head
from ml_intern.app.choices import Choice, Played, Players, seen_tools, settings_events
from ml_intern.app.hooks import Hooks
from ml_intern.app.joined import joined_words, set_ground
from ml_intern.app.level import find_walls
from ml_intern.app.places import Places, find_places, skills_folder
from ml_intern.app.roles import Cast, Late, cast
from ml_intern.app.settings import MODES, Launch
from ml_intern.app.standing import settled, stand
from ml_intern.app.traces import traces_kept
from ml_intern.base.clock import SystemClock
from ml_intern.base.errors import BadSettings
from ml_intern.base.ids import new_id
from ml_intern.base.money import Micro, show
from ml_intern.model import login
from ml_intern.model.apart import Apart
from ml_intern.model.keys import find_key, known_secrets
from ml_intern.model.limiter import Limited, Limiters
from ml_intern.model.port import Model, ToolSpec
from ml_intern.record.asides import COMPACTION, TITLE
from ml_intern.record.events import ModelChosen, OwnerTook, Role, SessionStarted
from ml_intern.record.live import Live
from ml_intern.record.log import Log
from ml_intern.record.messages import Image
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import MAIN, View, done_for
from ml_intern.sandbox import network, variables
from ml_intern.sandbox.commands import Commands
from ml_intern.sandbox.levels import Level, Probe
from ml_intern.sandbox.machine import look
from ml_intern.sandbox.paths import Roots, command_path, leave, session_roots
from ml_intern.sandbox.protected import below
from ml_intern.sandbox.walls import variables as walls_variables
from ml_intern.sandbox.walls import without_mounts
from ml_intern.session.entrance import entrance
from ml_intern.session.session import Session
from ml_intern.store.blobs import Blobs
from ml_intern.store.day import DayPurse
from ml_intern.store.folder import session_folder
from ml_intern.store.lock import Owner, take
from ml_intern.store.sessions import resolve, summaries
from ml_intern.store.space import require_quota, require_space
from ml_intern.store.sqlite import SqliteStore
from ml_intern.toolkit.registry import Registry
from ml_intern.toolkit.tool import Tool
from ml_intern.tools import History, Watch, Workshop, abilities_of, background, make_tools, make_watch

WALLS = {
    Level.FULL: "namespaces and a system-call filter",
    Level.WALLS: "Landlock and a system-call filter; no network, not even localhost, no shared memory and no sockets: "
    "set num_workers=0 and start no worker pools; temporary files go to $TMPDIR, not /tmp",
    Level.NONE: "none",
}


async def _nothing() -> list[tuple[str, str]]:
    return []


async def _none_is_slow(_patience_s: float) -> list[str]:
    return []


class Opened(Struct, frozen=True):
    """A session that this process owns, one line about it for a person, and one about settings that do not count."""

    session: Session
    summary: str
    note: str = ""
    background: Callable[[], Awaitable[list[tuple[str, str]]]] = _nothing
    """Id and command line of each command that was left running."""
    images: tuple[Image, ...] = ()
    """What the launch brought along, kept for the message that is to come."""
    learned: Callable[[], list[str]] = list
    """What the session found its model's server not to take, a line each."""
    entrance: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    """Lets other processes say something or stop it, for as long as the block lasts."""
    halted: Callable[[], frozenset[str]] = frozenset
    """Ids of commands in the background that a stop has ended."""
    hint: str = ""
    """What a person may want to know, unless they asked for quiet."""
    slow: Callable[[float], Awaitable[list[str]]] = _none_is_slow
    """Waits so many seconds for what the end waits for; the names of what takes longer."""


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
    probing = asyncio.create_task(asyncio.to_thread(find_walls, launch.level, places))
    looking = asyncio.create_task(asyncio.to_thread(look, launch.cwd, places.accelerators))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_ended, probing, looking)
        store = await SqliteStore.open(places.data)
        stack.push_async_callback(store.close)
        session = await resolve(store, resume) if resume is not None else ""
        launch, note = await _settled(launch, store, session) if played is None else (launch, "")
        await asyncio.to_thread(_require_room, launch, places.data, session)
        players_of = await cast(launch, (), played, players) if not session else None
        walls = await probing
        session = session or await _begun(store, launch, places)
        owner = await take(store, session, door, force=take_over)
        stack.callback(owner.release)
        folder = session_folder(places.data, session)
        log = await _open_log(stack, owner, launch, folder)
        players_of = players_of or await cast(launch, log.view.settings.chosen, played, players)
        blobs = Blobs(folder / "blobs", log.secrets)
        models = await _models(stack, players_of, blobs, log)
        commands = await asyncio.to_thread(_commands, launch, folder, walls, log.secrets)
        workshop = await asyncio.to_thread(_workshop, log, owner.journal, launch, places, commands)
        stack.push_async_callback(_put_away, workshop, log)
        hooks = _hooks(stack, launch, log)
        tools = _make_tools(replace(workshop, sees=players_of.main.sees), hooks)
        for event in settings_events(log.view, launch, [each.event for each in players_of.now.values()], tools.all):
            await log.add(event)
        found = await set_ground(log, launch, await looking)
        opened = await _assemble(log, models, tools, _scene(walls, launch), _day(stack, store, log, launch))
        yield Opened(
            opened,
            _summary(log.view, walls),
            "\n".join(filter(None, (note, players_of.note, *found.notes))),
            tools.watch.left,
            await _keep_images(launch, blobs),
            players_of.told,
            lambda: entrance(opened, folder),
            tools.watch.halted,
            found.hint,
            hooks.slow if isinstance(hooks, Hooks) else _none_is_slow,
        )


async def _begun(store: SqliteStore, launch: Launch, places: Places) -> str:
    """A new session, made only where its workspace can be walled."""
    session = new_id()
    await asyncio.to_thread(_roots, launch, launch.cwd, places, session_folder(places.data, session))
    await store.create(session)
    return session


Models = Mapping[Role, tuple[Link, ...]]


async def _models(stack: AsyncExitStack, players: Cast, blobs: Blobs, log: Log) -> Models:
    """The access to every model; at the end they are closed, and what was learned of their servers is kept."""
    limiters = Limiters()

    async def link(choice: Choice) -> Link:
        if choice.endpoint is not None and choice.endpoint.key:
            # It may come from the keyring, which nothing has looked into before.
            log.secrets.learn({choice.endpoint.provider.keys[0]: choice.endpoint.key})

        async def make() -> Model:
            return await asyncio.to_thread(_make, choice, blobs, limiters)

        model = await make() if choice is players.main else Late(make)
        stack.push_async_callback(model.aclose)
        stack.push_async_callback(asyncio.to_thread, choice.lesson.save)
        return Link(choice.event, model)

    return {role: tuple([await link(each) for each in chain]) for role, chain in players.chains.items()}


def _make(choice: Choice, blobs: Blobs, limiters: Limiters) -> Model:
    def make() -> Model:
        return choice.make(lambda image: blobs.get(image.sha))

    return make() if choice.endpoint is None else Limited(Apart(make(), make), limiters.of(choice.endpoint))


async def _keep_images(launch: Launch, blobs: Blobs) -> tuple[Image, ...]:
    return tuple([Image(await blobs.put(each.data), each.mime) for each in launch.images])


def _require_room(launch: Launch, data: Path, session: str) -> None:
    """A session that goes on may always do so within what the disk holds."""
    require_space(data)
    if not session and launch.mode != MODES[0] and not os.access(launch.cwd, os.W_OK | os.X_OK):
        what = f"The workspace {launch.cwd} cannot be written by this user."
        raise BadSettings(what, f"Name another folder with --cwd, or let it only look: --mode {MODES[0]}.")
    if not session and launch.storage_max is not None:
        require_quota(data, launch.storage_max)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    await asyncio.wait(tasks)


async def _open_log(stack: AsyncExitStack, owner: Owner, launch: Launch, folder: Path) -> Log:
    log = await Log.open(owner.journal, SystemClock(), Secrets(known_secrets(launch.environ)))
    if log.view.started is None:
        await log.add(SessionStarted(folder.name, str(launch.cwd), __version__))
    await log.add(OwnerTook(owner.epoch, owner.holder.door, owner.holder.pid, owner.holder.host))
    stack.enter_context(traces_kept(folder / "errors.log", log.secrets))
    return log


async def _settled(launch: Launch, store: SqliteStore, session: str) -> tuple[Launch, str]:
    """The launch with what the settings files of its workspace say, and what of that does not count."""
    kept = [each.workspace for each in await summaries(store) if each.id == session] if session else []
    workspace = Path(kept[0]) if kept else launch.cwd
    standing = await asyncio.to_thread(stand, workspace, launch.environ)
    return settled(launch, standing, resumed=bool(session)), standing.note


def _workshop(log: Log, history: History, launch: Launch, places: Places, commands: Commands) -> Workshop:
    """What the session's tools are built from: its folder and the user's environment. Blocks."""
    assert log.view.started is not None
    folder = session_folder(places.data, log.view.started.session)
    roots = _roots(launch, Path(log.view.started.workspace), places, folder)
    environ = {**variables.inside(launch.environ, roots.home, command_path()), **network.inside(commands.reach)}
    if commands.level is Level.WALLS:
        roots, environ = without_mounts(roots), {**environ, **walls_variables(folder)}
    return Workshop(
        roots=roots,
        commands=commands,
        blobs=Blobs(folder / "blobs", log.secrets),
        environments=places.environments,
        environ=environ,
        folder=folder,
        history=history,
        offline=bool(launch.offline),
    )


def _commands(launch: Launch, folder: Path, walls: Probe, secrets: Secrets) -> Commands:
    """The session's commands, and what their broker lets through: there is one at the full level only. Blocks."""
    if walls.level < Level.FULL:
        return Commands(folder, walls.level)
    key = find_key(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"), launch.environ)
    secrets.learn({key.name: key.value} if key else {})
    reach = network.make_reach(launch.environ, token=key.value if key else "", offline=bool(launch.offline))
    return Commands(folder, walls.level, bwrap=walls.bwrap, reach=reach)


def _roots(launch: Launch, workspace: Path, places: Places, folder: Path) -> Roots:
    own = [str(skills_folder(launch.environ))] if launch.join is None or "skills" in launch.join else []
    also_read = (*variables.ca_files(launch.environ), *own)
    roots = session_roots(workspace, folder, places.environments, also_read=also_read)
    keys, place = (os.path.realpath(each) for each in (login.folder(launch.environ), workspace))
    if keys == place or below(keys, place) or below(place, keys):
        what = f"The workspace {place} and the keys that `ml-intern login` keeps in {keys} overlap."
        raise BadSettings(what, "Start in another folder: commands can read all of the workspace.")
    return roots


async def _put_away(workshop: Workshop, log: Log) -> None:
    """What runs in the background ends with a turn's end; a turn that waits, broke off or was interrupted by a person
    finds it again.
    """
    turn = log.view.lane(MAIN).turn
    broke_off = turn.open or (turn.ended is not None and turn.ended.reason == "interrupted")
    if broke_off and await workshop.commands.running():
        return
    await workshop.commands.close()
    await asyncio.to_thread(leave, workshop.roots)
    await asyncio.to_thread(background.settle_all, workshop.roots, workshop.folder)


def _day(stack: AsyncExitStack, store: SqliteStore, log: Log, launch: Launch) -> DayPurse:
    """The day's budget; all is booked before the store closes."""
    day = DayPurse(store, SystemClock(), launch.day_budget)
    stack.callback(log.read_with(day.read))
    stack.push_async_callback(day.settle)
    return day


def _scene(walls: Probe, launch: Launch) -> Scene:
    network = "sealed" if walls.level < Level.FULL else "offline" if launch.offline else "broker"
    return Scene(WALLS[walls.level], network, frozenset())


class _Tools(Struct, frozen=True):
    all: tuple[Tool, ...]
    watch: Watch
    lanes: Lanes
    gate: Gate


def _make_tools(workshop: Workshop, gate: Gate) -> _Tools:
    lanes = Lanes()
    return _Tools(make_tools(replace(workshop, spawn=lanes)), make_watch(workshop), lanes, gate)


def _hooks(stack: AsyncExitStack, launch: Launch, log: Log) -> Gate:
    """The person's own commands; those that are told what was done are waited for at the end."""
    if not launch.hooks:
        return OpenGate()
    hooks = Hooks(launch.hooks, log, launch.environ)
    stack.push_async_callback(hooks.close)
    stack.callback(log.read_with(hooks.read))
    return hooks


async def _assemble(log: Log, models: Models, tools: _Tools, scene: Scene, day: DayPurse) -> Session:
    live, watch = Live(), tools.watch
    seen = tuple(seen_tools(tools.all, log.view.settings.rules.tools))
    registry = Registry(seen)
    specs = tuple(ToolSpec(row.name, row.text, row.parameters) for row in registry.specs())
    prompt = await asyncio.to_thread(main_prompt, log.view, replace(scene, abilities=abilities_of(registry)))
    heads: dict[Role, Head] = {"main": Head(prompt, specs), COMPACTION: await asyncio.to_thread(compaction_head)}
    if TITLE in models:
        heads[TITLE] = await asyncio.to_thread(title_head)
    notices = Notices(log)

    async def news(lane: str, tell: Tell) -> bool:
        told = await watch.news(lane, tell, done_for(log.view, lane))
        return await notices.news(lane) or told

    clock = SystemClock()
    first: dict[Role, Model] = {role: chain[0].model for role, chain in models.items()}
    asker = Asker(log, live, clock, first, heads, day, models)
    road = Road(log, live, clock, registry, day, gate=tools.gate)
    worker = Worker(log, asker, road, clock, news, running=watch.left)
    tools.lanes.furnish(Crew(worker, seen, scene.walls))
    return Session(worker, live, watch.halt)


def _summary(view: View, walls: Probe) -> str:
    assert view.started is not None
    chosen, mode = view.settings.models["main"], view.settings.mode
    facts = (
        f"session {view.started.session}",
        f"{chosen.model}, {_paid(chosen)}",
        f"mode {mode.mode if mode else 'ask'}",
        f"budget {show(Micro(view.purse.cap or 0))}",
        f"sandbox {walls.level.name.lower()}",
        view.started.workspace,
        joined_words(view.settings.ground) if view.settings.ground is not None else "",
    )
    return " · ".join(filter(None, facts))


def _paid(chosen: ModelChosen) -> str:
    prices = chosen.prices
    return f"paid by {chosen.payer}" if prices is None or prices.input or prices.output else f"free ({chosen.payer})"
