"""What the user's and the workspace's settings files say, and what of it counts: flag > variable > workspace > user >
default, and a workspace only tightens unless a person trusts its file. Knows no session.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.app.options import OPTIONS, Option, Value
from ml_intern.app.places import find_places, settings_file
from ml_intern.app.settings import Launch, by_role, main_of, read_text, said_aloud
from ml_intern.app.sources import HOOKS, WORKSPACE_FILE, Said, Source, read_source
from ml_intern.app.trust import Trust
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible_line
from ml_intern.policy.hooks import Hook
from ml_intern.record.events import RuleGiven


class Standing(Struct, frozen=True):
    """What files say that counts. `note` tells a person in one line what does not, and why; empty: all counts."""

    values: Mapping[str, Said]
    rules: tuple[RuleGiven, ...]
    note: str
    hooks: tuple[Hook, ...] = ()


class Row(Struct, frozen=True):
    """A setting, its value as a person reads it, and where it was said."""

    option: Option
    shown: str
    origin: str


def trust_of(environ: Mapping[str, str]) -> Trust:
    """Where this user keeps which files are trusted."""
    return Trust(find_places(environ).data / "trust")


def stand(workspace: Path, environ: Mapping[str, str]) -> Standing:
    """The settings of the files. Blocks.

    Raises:
        BadSettings: a file is wrong; the sentence names it, the line, and the nearest right name.
    """
    user = read_source(settings_file(environ), "user")
    if user is None and environ.get("ML_INTERN_CONFIG"):
        what = f"ML_INTERN_CONFIG names {settings_file(environ)}, which is not there."
        raise BadSettings(what, "Name a settings file, or unset the variable.")
    own = read_source(workspace / WORKSPACE_FILE, "workspace")
    values = dict(user.values) if user is not None else {}
    rules = user.rules if user is not None else ()
    hooks = user.hooks if user is not None else ()
    if own is None:
        return Standing(values, rules, "", hooks)
    loose = () if trust_of(environ).holds(own.path, own.sha) else loosening(own, values)
    counted = {name: said for name, said in own.values.items() if name not in loose}
    if "model" in counted or "models.main" in counted:
        # An address or a price belongs to the model that it was written beside.
        beside = {"base_url", "price", "model", "models.main", *(["fallback"] if "models.main" in counted else [])}
        values = {name: said for name, said in values.items() if name not in beside}
    kept = tuple(rule for rule in own.rules if f"rules.{rule.decision}" not in loose)
    hooks = (*hooks, *(() if HOOKS in loose else own.hooks))
    return Standing({**values, **counted}, (*rules, *kept), _note(own.path, loose), hooks)


def loosening(own: Source, below: Mapping[str, Said]) -> tuple[str, ...]:
    """Names of what the workspace's file says that allows more than what holds without it."""
    under = {name: said.value for name, said in below.items()}
    options = [option for option in OPTIONS if option.name in own.values]
    found = [option.name for option in options if option.loosens(own.values[option.name].value, under.get(option.name))]
    rules = ["rules.allow"] if any(rule.decision == "allow" for rule in own.rules) else []
    return (*found, *rules, *([HOOKS] if own.hooks else []))


def _note(path: Path, loose: tuple[str, ...]) -> str:
    if not loose:
        return ""
    command = f"ml-intern trust {shlex.quote(str(path))}"
    return visible_line(f"Not trusted, so ignored: {', '.join(loose)} in {path}. To let it count: {command}")


def settled(launch: Launch, standing: Standing, *, resumed: bool) -> Launch:
    """The launch with what the files say where nothing else is said. A session that goes on keeps what it had: of the
    files only the rules, the hooks, the day's budget, `join` and `offline` reach it.
    """
    day = launch.day_budget if launch.day_budget is not None else _value(standing, "budget.day")
    offline = launch.offline if launch.offline is not None else _value(standing, "offline")
    join = launch.join if launch.join is not None else _value(standing, "join")
    rules, hooks = (*launch.rules, *standing.rules), standing.hooks
    launch = replace(launch, rules=rules, hooks=hooks, day_budget=day, offline=offline, join=join)
    if resumed:
        return launch
    value = {option.name: _value(standing, option.name) for option in OPTIONS}
    own_model = launch.model is None
    model, fallback = main_of(value)
    return replace(
        launch,
        model=launch.model or model,
        fallback=launch.fallback if launch.fallback is not None else fallback if own_model else value["fallback"],
        roles={**by_role(value, "models"), **launch.roles},
        effort=launch.effort or value["effort"],
        efforts={**by_role(value, "efforts"), **launch.efforts},
        base_url=launch.base_url or (value["base_url"] if own_model else None),
        price=launch.price or (value["price"] if own_model else None),
        bill_to=launch.bill_to if launch.bill_to is not None else value["bill_to"],
        mode=launch.mode or value["mode"],
        on_ask=launch.on_ask or value["on_ask"],
        budget=launch.budget if launch.budget is not None else value["budget.session"],
        storage_max=launch.storage_max or value["storage.max"],
        max_steps=launch.max_steps or value["max_steps"],
        compact_at=launch.compact_at or value["compact_at"],
        max_time_s=launch.max_time_s or value["max_time"],
        tools=launch.tools or value["tools"],
        guard_repeats=launch.guard_repeats or value["guards.repeats"],
        guard_stall=launch.guard_stall or value["guards.stall"],
        guard_plan=launch.guard_plan if launch.guard_plan is not None else value["guards.plan"],
        append_system=launch.append_system or _appended(standing),
    )


def _value(standing: Standing, name: str) -> Value:
    said = standing.values.get(name)
    return said.value if said is not None else None


def _appended(standing: Standing) -> str | None:
    said = standing.values.get("append_system")
    return read_text(said.value, Path(said.origin.rpartition(":")[0]).parent) if said is not None else None


def rows(standing: Standing, environ: Mapping[str, str] = os.environ) -> list[Row]:
    """Every setting as a new session here would have it.

    Raises:
        BadSettings: a variable is wrong.
    """
    said = {**standing.values, **said_aloud({}, environ)}
    return [_row(option, said.get(option.name)) for option in OPTIONS]


def _row(option: Option, said: Said | None) -> Row:
    if said is not None:
        return Row(option, option.shown(said.value), said.origin)
    shown = option.shown(option.parse(option.default, option.name)) if option.default else ""
    return Row(option, shown, "default")
