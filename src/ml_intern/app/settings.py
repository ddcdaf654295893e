"""What a run was asked for, from flags, environment and settings files, checked before anything starts.
Knows no door and no adapter.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from msgspec import Struct, field
from msgspec.structs import asdict

from ml_intern.app.attached import Attached, read_images
from ml_intern.app.deadline import due_of
from ml_intern.app.grants import check_end
from ml_intern.app.options import BY_NAME, MODES, ON_ASK, OPTIONS, ROLES, Value, seconds_of
from ml_intern.app.sources import Said, refuse_two_chains
from ml_intern.base.errors import BadSettings
from ml_intern.base.money import Micro
from ml_intern.base.text import one_line
from ml_intern.policy.answer import check_schema
from ml_intern.policy.hooks import Hook
from ml_intern.policy.rules import parse_rule
from ml_intern.record.events import Decision, Effort, Mode, OnAsk, Role, RuleGiven
from ml_intern.record.ground import Kind

__all__ = ["DEFAULT_BUDGET", "DEFAULT_STEPS", "MODES", "ON_ASK", "Flags", "Launch", "make_launch", "seconds_of"]

DEFAULT_BUDGET = BY_NAME["budget.session"].default
DEFAULT_STEPS = int(BY_NAME["max_steps"].default)

_MOST_TEXT = 100_000
_SHOWN_CHARS = 200
_OTHER_WAYS = {"models.main": ("model", "fallback"), "model": ("models.main",)}
"""Settings of which a value says what this one does."""


class Launch(Struct, frozen=True):
    """One run. None: not said, so a resumed session keeps what it had and a new one takes what the files say, or the
    default. `due` and `since` are a deadline and when it was set, in milliseconds since 1970. `fallback` follow the
    model; `roles` and `efforts` hold what was said of other roles.
    """

    cwd: Path
    model: str | None = None
    fallback: tuple[str, ...] | None = None
    roles: Mapping[Role, tuple[str, ...]] = field(default_factory=dict[Role, tuple[str, ...]])
    effort: Effort | None = None
    efforts: Mapping[Role, Effort] = field(default_factory=dict[Role, Effort])
    base_url: str | None = None
    price: str | None = None
    bill_to: str | None = None
    mode: Mode | None = None
    on_ask: OnAsk | None = None
    budget: Micro | None = None
    day_budget: Micro | None = None
    storage_max: int | None = None
    max_steps: int | None = None
    compact_at: float | None = None
    max_time_s: float | None = None
    due: int | None = None
    since: int | None = None
    tools: tuple[str, ...] | None = None
    guard_repeats: int | None = None
    guard_stall: int | None = None
    guard_plan: bool | None = None
    rules: tuple[RuleGiven, ...] = ()
    hooks: tuple[Hook, ...] = ()
    append_system: str | None = None
    output_schema: str | None = None
    join: tuple[Kind, ...] | None = None
    offline: bool | None = None
    level: str | None = None
    images: tuple[Attached, ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Flags(Struct, frozen=True):
    """The command line as it was written, one field per flag."""

    cwd: str | None = None
    model: str | None = None
    fallback: tuple[str, ...] = ()
    main_model: str | None = None
    research_model: str | None = None
    compaction_model: str | None = None
    title_model: str | None = None
    judge_model: str | None = None
    effort: str | None = None
    research_effort: str | None = None
    compaction_effort: str | None = None
    title_effort: str | None = None
    judge_effort: str | None = None
    base_url: str | None = None
    price: str | None = None
    bill_to: str | None = None
    mode: str | None = None
    on_ask: str | None = None
    budget: str | None = None
    day_budget: str | None = None
    storage_max: str | None = None
    max_steps: int | None = None
    compact_at: str | None = None
    max_time: str | None = None
    until: str | None = None
    lasting: str | None = None
    tools: str | None = None
    guard_repeats: str | None = None
    guard_stall: str | None = None
    guard_plan: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    append_system: str | None = None
    output_schema: str | None = None
    join: str | None = None
    offline: bool | None = None
    level: str | None = None
    image: tuple[str, ...] = ()


def make_launch(flags: Flags, environ: Mapping[str, str] = os.environ, now_ms: int | None = None) -> Launch:
    """The run that these flags and variables ask for; a flag wins over its variable. Files are read later, when the
    workspace is known (`app/standing.py`).

    Raises:
        BadSettings: one of them is wrong; the sentence names it.
    """
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    said = said_aloud(asdict(flags), environ)
    value = {name: said[name].value if name in said else None for name in BY_NAME}
    due = due_of(flags.until, flags.lasting, now_ms)
    appended: str | None = value["append_system"]
    return Launch(
        cwd=workspace_of(flags.cwd),
        model=main_of(value)[0],
        fallback=main_of(value)[1],
        roles=by_role(value, "models"),
        effort=value["effort"],
        efforts=by_role(value, "efforts"),
        base_url=value["base_url"],
        price=value["price"],
        bill_to=value["bill_to"],
        mode=value["mode"],
        on_ask=value["on_ask"],
        budget=value["budget.session"],
        day_budget=value["budget.day"],
        storage_max=value["storage.max"],
        max_steps=value["max_steps"],
        compact_at=value["compact_at"],
        max_time_s=value["max_time"],
        due=due,
        since=now_ms if due is not None else None,
        tools=value["tools"],
        guard_repeats=value["guards.repeats"],
        guard_stall=value["guards.stall"],
        guard_plan=value["guards.plan"],
        rules=(*_rules("allow", flags.allow), *_rules("deny", flags.deny)),
        append_system=read_text(appended, Path.cwd()) if appended is not None else None,
        output_schema=_schema(flags.output_schema),
        join=value["join"],
        offline=value["offline"],
        level=flags.level or environ.get("ML_INTERN_LEVEL") or None,
        images=read_images(flags.image),
        environ=dict(environ),
    )


def main_of(value: Mapping[str, Value]) -> tuple[str | None, tuple[str, ...] | None]:
    """The main model and what follows it, of values by name: `models.main` says both at once, after the others."""
    first, *rest = value["models.main"] or (None,)
    model = value["model"] or first
    fallback = tuple(rest) if first is not None and model == first else None
    return model, value["fallback"] if value["fallback"] is not None else fallback


def by_role(value: Mapping[str, Value], table: str) -> dict[Role, Value]:
    """What is said of each role but `main` in this table."""
    found: dict[Role, Value] = {}
    for role in ROLES[1:]:
        if value[f"{table}.{role}"] is not None:
            found[role] = value[f"{table}.{role}"]
    return found


def workspace_of(cwd: str | None) -> Path:
    """The folder that `--cwd` names, or this one.

    Raises:
        BadSettings: there is no such folder.
    """
    shown = f"--cwd {one_line(cwd, _SHOWN_CHARS)}" if cwd else "The folder that this was started in"
    try:
        workspace = Path(cwd or os.getcwd()).resolve()
        # Symlinks in a circle are a RuntimeError until Python 3.13.
        is_there = workspace.is_dir()
    except (OSError, RuntimeError) as error:
        raise BadSettings(f"{shown}: there is no such folder.", "Name a folder that exists with --cwd.") from error
    if not is_there:
        raise BadSettings(f"{shown}: there is no such folder.", "Name a folder that exists with --cwd.")
    return workspace


def said_aloud(flags: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Said]:
    """What flags and variables say of the settings in the table, by name.

    Raises:
        BadSettings: a value is wrong.
    """
    flagged: dict[str, Said] = {}
    variables: dict[str, Said] = {}
    for option in OPTIONS:
        given = flags.get(option.field)
        given = ",".join(cast("tuple[str, ...]", given)) or None if isinstance(given, tuple) else given
        variable = next((name for name in (option.variable, option.alias) if environ.get(name)), option.variable)
        if given is not None:
            flagged[option.name] = Said(option.parse(str(given), option.flag), option.flag)
        elif text := environ.get(variable):
            variables[option.name] = Said(option.parse(text, variable), variable)
    refuse_two_chains(flagged)
    refuse_two_chains(variables)
    # A flag wins over a variable that says the same in the other way, too.
    over = [name for flag, names in _OTHER_WAYS.items() if flag in flagged for name in names]
    return {**{name: said for name, said in variables.items() if name not in over}, **flagged}


def read_text(given: str, folder: Path) -> str:
    """The text itself, or what the file holds that `@FILE` names (from `folder`).

    Raises:
        BadSettings: the file cannot be read.
    """
    if not given.startswith("@"):
        return given
    shown = one_line(given[1:], _SHOWN_CHARS) or "A file without a name"
    try:
        data = _beginning(folder / Path(given[1:]).expanduser())
        # What is too long anyhow may end within a character.
        text = data.decode(errors="strict" if len(data) <= 4 * _MOST_TEXT else "ignore")
    except OSError as error:
        raise BadSettings(f"{shown} cannot be read: {error.strerror}.", "Name a file that holds text.") from error
    except (ValueError, RuntimeError) as error:
        # No text; a home of nobody.
        raise BadSettings(f"{shown} cannot be read: {error}.", "Name a file that holds text (UTF-8).") from error
    if not text.strip():
        raise BadSettings(f"{shown} holds nothing.", "Name a file that holds text.")
    if len(text) > _MOST_TEXT:
        raise BadSettings(f"{shown} is longer than {_MOST_TEXT:,} characters.", "Shorten it.")
    return text


def _beginning(path: Path) -> bytes:
    """The file, or more of its beginning than may count. A pipe that nobody writes into ends at once."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.set_blocking(number, True)
    with open(number, "rb") as file:
        return file.read(8 * _MOST_TEXT)


def _rules(decision: Decision, texts: tuple[str, ...]) -> list[RuleGiven]:
    given = [RuleGiven(decision, text.strip(), "flag") for text in texts]
    for each in given:
        try:
            check_end(parse_rule(each))
        except BadSettings as error:
            raise BadSettings(f"--{decision}: {error.what}", error.remedy) from error
    return given


def _schema(path: str | None) -> str | None:
    if path is None:
        return None
    text = read_text(f"@{path}", Path.cwd())
    try:
        check_schema(text)
    except ValueError as error:
        what = f"--output-schema {path}: {error}."
        raise BadSettings(what, "Give a JSON Schema; see the manual for the keywords that are checked.") from error
    return text
