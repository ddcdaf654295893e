"""Settles what a session runs with: model, cap, mode, limits. What changed becomes events.
Knows no door and no tool.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.app.grants import grant_events, split_rules
from ml_intern.app.options import OFF, nearest
from ml_intern.app.places import find_places
from ml_intern.app.settings import DEFAULT_BUDGET, DEFAULT_STEPS, Launch
from ml_intern.base.errors import BadSettings
from ml_intern.base.money import show, usd
from ml_intern.model.adapted import require_installed
from ml_intern.model.catalog import Endpoint, billed, payer_of, resolve
from ml_intern.model.learned import LOOPBACK_S, REMOTE_S, Lesson
from ml_intern.model.local import no_model
from ml_intern.model.port import Model, ModelInfo
from ml_intern.model.served import Known, known
from ml_intern.record.events import (
    BriefSet,
    CapSet,
    Effort,
    Event,
    GuardsSet,
    LimitsSet,
    ModelChosen,
    ModeSet,
    RulesSet,
)
from ml_intern.record.messages import Image
from ml_intern.record.view import View
from ml_intern.toolkit.tool import Tool


class Played(Struct, frozen=True):
    """A model that is given instead of chosen: a script (the demo, tests)."""

    model: Model
    info: ModelInfo


Players = Mapping[str, Callable[[], Played]]
"""Models that are played instead of asked, by id: a door that can go on with their sessions hands them in."""


LoadImage = Callable[[Image], Awaitable[bytes]]
"""Reads an image's bytes from where the session keeps them."""


class Choice(Struct, frozen=True):
    """The model of a session: what is recorded of it, and how its access is made (imports its wire,
    so not at start-up). `sees`: it can look at images, or nobody knows that it cannot. `note` is for a person;
    `endpoint` is where it is asked, None where it is played; `lesson` is what its server is found not to take.
    """

    event: ModelChosen
    make: Callable[[LoadImage], Model]
    sees: bool = True
    note: str = ""
    endpoint: Endpoint | None = None
    lesson: Lesson = field(default_factory=Lesson)


async def choose(launch: Launch, recorded: ModelChosen | None, played: Played | None, players: Players) -> Choice:
    """The main model: what the launch says, else what the record says.

    Raises:
        BadSettings: no model, no key, an unknown provider, a model that is not served or cannot see what was sent
            along, or a price that is not known, so that no cap could hold.
    """
    model = launch.model or (recorded.model if recorded is not None else None)
    if played is not None:
        return _seeing(launch, _played(played))
    if model is None:
        raise await no_model(launch.environ)
    return _seeing(launch, await chosen(launch, model, recorded, players))


async def chosen(launch: Launch, model: str, recorded: ModelChosen | None, players: Players) -> Choice:
    """This model, as the launch's other settings and, where it is the same one, the record say.

    Raises:
        BadSettings: as `choose`.
    """
    if model in players:
        return _played(players[model]())
    same = recorded is not None and model == recorded.model
    base_url = launch.base_url or (recorded.base_url if recorded is not None and same else "")
    own = recorded.bill_to if recorded is not None and same else ""
    # In a thread: the key may lie in the system's keyring.
    resolved = await asyncio.to_thread(resolve, model, base_url, launch.environ)
    endpoint = billed(resolved, own if launch.bill_to is None else launch.bill_to)
    if endpoint.provider.wire == "adapted":
        require_installed(endpoint.provider.id)
    # Prices None: imported, so that the prices of this machine count.
    is_kept = same and recorded is not None and recorded.prices is not None and not (launch.price or launch.base_url)
    # The prices that a session began with hold: it asks no list of prices anew.
    cache, offline = find_places(launch.environ).cache, launch.offline or is_kept
    found = await known(endpoint, cache, launch.price or "", offline=offline)
    lesson = _lesson(endpoint, cache)
    info = await _held(found.info, lesson)
    event = _event(info, base_url, endpoint.bill_to)
    if is_kept and recorded is not None:
        event = _kept(recorded, event, endpoint)
    if event.prices is None:
        what = f"The price of {info.id} is not known, so no budget could hold."
        say = "Say it with --price IN/OUT in USD per million tokens (0/0 if it costs nothing)."
        raise BadSettings(what, " ".join(filter(None, (found.note, found.remedy, say))))
    note = _note(found, recorded, event, is_kept=is_kept)
    effort = launch.effort or (recorded.effort if recorded is not None else None)
    make = _maker(endpoint, info, lesson, effort)
    return Choice(replace(event, effort=effort), make, info.images is not False, note, endpoint, lesson)


async def _held(info: ModelInfo, lesson: Lesson) -> ModelInfo:
    """With the window that an earlier session ran into, where nobody else says how much the model holds."""
    if info.window is not None:
        return info
    await asyncio.to_thread(lesson.load)
    return replace(info, window=lesson.learned.window)


def _played(played: Played) -> Choice:
    return Choice(_event(played.info, ""), lambda _: played.model, played.info.images is not False)


def _seeing(launch: Launch, choice: Choice) -> Choice:
    """An image for a model that cannot see is a slip that the person should hear of before anything is said."""
    if launch.images and not choice.sees:
        what = f"{choice.event.model} cannot see images."
        raise BadSettings(what, "Leave --image out, or choose another --model: `ml-intern models` tells which can.")
    return choice


def _maker(endpoint: Endpoint, info: ModelInfo, lesson: Lesson, effort: Effort | None) -> Callable[[LoadImage], Model]:
    sees = info.images is not False

    def make(load: LoadImage) -> Model:
        lesson.load()
        # httpx2 costs a quarter of a second: not before it is needed.
        if endpoint.provider.wire == "messages":
            from ml_intern.model.wire.messages import MessagesModel

            return MessagesModel(endpoint, load_image=load if sees else None, lesson=lesson, effort=effort)
        if endpoint.provider.wire == "adapted":
            from ml_intern.model.providers.adapter import AdaptedModel

            return AdaptedModel(endpoint, load_image=load if sees else None, effort=effort)
        from ml_intern.model.wire.chat import ChatModel

        has_tools = info.tools is not False
        images = load if sees else None
        return ChatModel(endpoint, load_image=images, has_tools=has_tools, lesson=lesson, effort=effort)

    return make


def _kept(recorded: ModelChosen, now: ModelChosen, endpoint: Endpoint) -> ModelChosen:
    """What is recorded holds, but for who pays, and for the window that a local server gives today."""
    is_free = endpoint.loopback and recorded.payer == payer_of(endpoint, is_free=True)
    window = now.window if endpoint.provider.local and now.window else recorded.window
    return replace(recorded, window=window, payer=payer_of(endpoint, is_free=is_free), bill_to=now.bill_to)


def _note(found: Known, recorded: ModelChosen | None, event: ModelChosen, *, is_kept: bool) -> str:
    """What a person is told of the model: what is old, assumed or too little, and that somebody else pays now."""
    is_of_prices = is_kept and event.model.startswith("hf/")
    return "\n".join(filter(None, ("" if is_of_prices else found.note, pays_now(recorded, event))))


def pays_now(recorded: ModelChosen | None, event: ModelChosen) -> str:
    """That somebody else pays than for what is recorded; "" where it is the same one, or nobody was known to pay."""
    if recorded is None or recorded.prices is None or recorded.payer.lower() == event.payer.lower():
        return ""
    return f"From here on {event.payer} pays; until now it was {recorded.payer}."


def _lesson(endpoint: Endpoint, cache: Path) -> Lesson:
    model = f"{endpoint.provider.id}/{endpoint.model}"
    lasts_s = LOOPBACK_S if endpoint.loopback else REMOTE_S
    return Lesson(cache / "learned.json", model, endpoint.base_url, lasts_s=lasts_s)


def settings_events(view: View, launch: Launch, models: Iterable[ModelChosen], tools: Iterable[Tool]) -> list[Event]:
    """What must be recorded so that the session runs as `launch` asks; nothing for what stays as it was.

    Raises:
        BadSettings: the new cap is below what is already spent, or `--tools` names what is no tool.
    """
    now = view.settings.models
    events: list[Event] = [each for each in models if each.role not in now or replace(now[each.role], why="") != each]
    cap = launch.budget if launch.budget is not None else view.purse.cap
    cap = usd(DEFAULT_BUDGET) if cap is None else cap
    if launch.budget is not None and launch.budget < view.purse.spent:
        spent = f"--budget {show(launch.budget)} is less than what this session has spent."
        raise BadSettings(spent, f"It has spent {show(usd(view.purse.spent / 1_000_000))}: give more than that.")
    events += [CapSet(cap, "user")] if cap != view.purse.cap else []
    events += [*_mode_events(view, launch), *_limit_events(view, launch), *_guard_events(view, launch)]
    seen_tools(tools, launch.tools)
    return [*events, *_rule_events(view, launch), *_brief_events(view, launch)]


def seen_tools(tools: Iterable[Tool], names: tuple[str, ...] | None) -> list[Tool]:
    """The tools that the model may see: all, or those of `--tools`.

    Raises:
        BadSettings: there is no tool of such a name.
    """
    known = {tool.name: tool for tool in tools}
    for name in names or ():
        if name not in known:
            raise BadSettings(f"There is no tool {name!r}.", nearest(name, list(known)))
    return [tool for name, tool in known.items() if names is None or name in names]


def _event(info: ModelInfo, base_url: str, bill_to: str = "") -> ModelChosen:
    return ModelChosen("main", info.id, info.window, info.max_output, info.prices, info.payer, base_url, bill_to)


def _mode_events(view: View, launch: Launch) -> list[Event]:
    now = view.settings.mode
    mode = launch.mode or (now.mode if now is not None else "auto")
    on_ask = launch.on_ask or (now.on_ask if now is not None else "deny")
    wanted = ModeSet(mode, on_ask)
    return [wanted] if wanted != now else []


def _guard_events(view: View, launch: Launch) -> list[Event]:
    now = view.settings.guards
    repeats, stall = _patience(launch.guard_repeats, now.repeats), _patience(launch.guard_stall, now.stall)
    wanted = GuardsSet(repeats, stall, now.plan if launch.guard_plan is None else launch.guard_plan)
    return [wanted] if wanted != now else []


def _patience(said: int | None, now: int | None) -> int | None:
    return now if said is None else None if said >= OFF else said


def _limit_events(view: View, launch: Launch) -> list[Event]:
    now = view.settings.limits
    steps = launch.max_steps or now.max_steps or DEFAULT_STEPS
    due, since = (now.due, now.since) if launch.due is None else (launch.due, launch.since)
    share = launch.compact_at or now.compact_at
    wanted = LimitsSet(steps, launch.max_time_s or now.max_time_s, due, since, share)
    return [wanted] if wanted != now else []


def _rule_events(view: View, launch: Launch) -> list[Event]:
    """Rules of flags are the session's for good; rules of files hold as the files are now."""
    now = view.settings.rules
    kept = [rule for rule in now.rules if rule.origin == "flag"]
    counted, plain = split_rules(launch.rules)
    rules = tuple(dict.fromkeys((*kept, *plain)))
    wanted = RulesSet(rules, now.tools if launch.tools is None else launch.tools)
    return [*([wanted] if wanted != now else []), *grant_events(view.grants, counted)]


def _brief_events(view: View, launch: Launch) -> list[Event]:
    now = view.settings.brief
    append = now.append if launch.append_system is None else launch.append_system
    wanted = BriefSet(append, now.schema if launch.output_schema is None else launch.output_schema)
    return [wanted] if wanted != now else []
