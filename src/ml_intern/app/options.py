"""The one table of settings: name, form, default, variable, flag, and what a workspace may set. Parsing, `ml-intern
settings` and its page of the documentation are made from it. Knows no file and no session.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

from msgspec import Struct

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import show, usd
from ml_intern.base.text import size, size_of
from ml_intern.record.events import Effort, Mode, OnAsk, Role
from ml_intern.record.ground import Kind

MODES: tuple[Mode, ...] = get_args(Mode)
"""From the strictest to the loosest."""
ON_ASK: tuple[OnAsk, ...] = get_args(OnAsk)
EFFORTS: tuple[Effort, ...] = get_args(Effort)
"""From the least to the most."""
ROLES: tuple[Role, ...] = get_args(Role)
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Of texts that join the system text."""

OFF = 1_000_000_000
"""A patience without end."""
_LEAST_PATIENCE = 2
_LEAST_SHARE = 0.3
_DECIMAL = re.compile(r"\d{1,3}(?:\.\d{1,6})?")

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")

Value = Any
"""A checked value of a setting: its option knows the type."""
Workspace = Literal["free", "trusted", "stricter", "lower", "fewer", "on"]
"""When a workspace's file may set it without a person's trust: always, never, where it is no looser than without it."""


class Option(Struct, frozen=True):
    """One setting. `parse(text, origin)` checks a value and says where it stood; `shown` writes it for a person.

    `name` is its dotted name in TOML; `alias` is a variable of others that says the same, after ours. `many`: a list
    in TOML.
    """

    name: str
    form: str
    about: str
    variable: str
    flag: str
    workspace: Workspace
    parse: Callable[[str, str], Value]
    default: str = ""
    shown: Callable[[Value], str] = str
    alias: str = ""
    many: bool = False

    @property
    def example(self) -> str:
        """A value, as it stands in TOML."""
        return _EXAMPLES.get(self.name) or _EXAMPLES[self.form]

    @property
    def field(self) -> str:
        """Its name among the flags."""
        return self.flag.removeprefix("--").replace("-", "_")

    def loosens(self, value: Value, below: Value) -> bool:
        """Whether a workspace that says `value` allows more than `below`, which holds without it (None: nothing
        said).
        """
        match self.workspace:
            case "free":
                return False
            case "trusted":
                return True
            case "stricter":
                return MODES.index(value) > MODES.index(below or "ask")
            case "lower":
                if below is None and self.default:
                    below = self.parse(self.default, self.name)
                return below is not None and value > below
            case "fewer":
                return below is not None and not set(value) <= set(below)
            case "on":
                return bool(below) and not value


LONGEST_S = 366 * 24 * 3600.0


def seconds_of(text: str, origin: str) -> float:
    """Seconds of `90`, `90s`, `15m`, `1.5h`, `1h30m`."""
    found = _DURATION.fullmatch(text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise BadSettings(f"{origin} {text} is not a length of time.", "Write it as 90s, 15m, 2h or 1h30m.")
    if total > LONGEST_S:
        raise BadSettings(f"{origin} {text} is longer than a year.", "Leave it out for no limit.")
    return total


def nearest(word: str, among: Sequence[str]) -> str:
    """The end of a sentence about an unknown word: the one that was probably meant, else all there are."""
    near = difflib.get_close_matches(word.lower(), among, 1, 0.6)
    return f"Did you mean {near[0]}?" if near else f"Choose one of: {', '.join(among)}."


def _text(text: str, origin: str) -> str:
    if not text.strip():
        raise BadSettings(f"{origin} is empty.", "Give it a value, or leave it out.")
    return text.strip()


def _organisation(text: str, origin: str) -> str:
    """A name of the Hub's, or nothing: who owns the key pays."""
    if text.strip() and not _NAME.fullmatch(text.strip()):
        what = f"{origin} {text!r} is no name of an organisation."
        raise BadSettings(what, "Write it as in huggingface.co/NAME, or '' to pay yourself.")
    return text.strip()


def _mode(text: str, origin: str) -> Mode:
    found: Mode | None = next((each for each in MODES if each == text), None)
    if found is None:
        raise BadSettings(f"There is no mode {text!r} ({origin}).", nearest(text, MODES))
    return found


def _on_ask(text: str, origin: str) -> OnAsk:
    found: OnAsk | None = next((each for each in ON_ASK if each == text), None)
    if found is None:
        raise BadSettings(f"{origin} {text} is not known.", nearest(text, ON_ASK))
    return found


def _amount(text: str, origin: str) -> int:
    try:
        return usd(text)
    except BadSettings as error:
        raise BadSettings(f"{origin}: {error.what}", error.remedy) from error


def _count(text: str, origin: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise BadSettings(f"{origin} {text} leaves nothing to do.", "Give a whole number of 1 or more.")
    return int(text)


def _share(text: str, origin: str) -> float:
    """A share, as 0.8 or 80%; below a third too little would be left to work with."""
    word = text.strip().removesuffix("%")
    share = float(word) / (100 if text.strip().endswith("%") else 1) if _DECIMAL.fullmatch(word) else 0.0
    if not _LEAST_SHARE <= share <= 1:
        what = f"{origin} {text} is no share from {_LEAST_SHARE:g} to 1."
        raise BadSettings(what, "Write it as 0.8 or 80%.")
    return share


def _size(text: str, origin: str) -> int:
    found = size_of(text)
    if not found:
        raise BadSettings(f"{origin} {text} is not a size.", "Write it as 800MB or 20GB.")
    return found


def _truth(text: str, origin: str, words: tuple[str, str] = ("true", "false")) -> bool:
    word = text.strip().lower()
    if word not in _TRUTHS:
        raise BadSettings(f"{origin} {text} is neither {words[0]} nor {words[1]}.", f"Write {' or '.join(words)}.")
    return _TRUTHS[word]


def _switch(text: str, origin: str) -> bool:
    return _truth(text, origin, ("on", "off"))


def _names(text: str, origin: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise BadSettings(f"{origin} names no tool.", "Name some with commas between, or leave it out.")
    return found


def _models(text: str, origin: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise BadSettings(f"{origin} names no model.", "Name some with commas between, or leave it out.")
    return found


def _effort(text: str, origin: str) -> Effort:
    found: Effort | None = next((each for each in EFFORTS if each == text.strip().lower()), None)
    if found is None:
        raise BadSettings(f"There is no effort {text!r} ({origin}).", nearest(text, EFFORTS))
    return found


def _of_roles() -> tuple[Option, ...]:
    """A chain of models and an effort for each role but `main`, which the others follow."""
    what = {
        "research": ("that look things up", "default: those of main"),
        "compaction": ("that sum up what was said", "default: those of main"),
        "title": ("that name sessions", "default: none, the first words are the name"),
        "judge": ("that give a second opinion", "kept with the session: nothing asks for one yet"),
    }
    rows: list[Option] = []
    for role in ROLES[1:]:
        models, without = what[role]
        variable, about = f"ML_INTERN_{role.upper()}", f"Models {models}, in order ({without})."
        rows.append(
            Option(f"models.{role}", "names", about, f"{variable}_MODEL", f"--{role}-model", "trusted", _models,
                   shown=", ".join, many=True)
        )  # fmt: skip
        about = f"Effort of the models {models} (default: `effort`)."
        form = "as effort"
        rows.append(
            Option(f"efforts.{role}", form, about, f"{variable}_EFFORT", f"--{role}-effort", "trusted", _effort)
        )
    return tuple(rows)


def _patience(text: str, origin: str) -> int:
    """A number of calls or steps; `off` is more than there can be."""
    word = text.strip().lower()
    if word in {"off", "false", "no"}:
        return OFF
    if not word.isdecimal() or not _LEAST_PATIENCE <= int(word) < OFF:
        what = f"{origin} {text} is neither a number of {_LEAST_PATIENCE} or more nor off."
        raise BadSettings(what, "Write a number, or off.")
    return int(word)


def _kinds(text: str, origin: str) -> tuple[Kind, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names in ([], ["none"]):
        return ()
    if "none" in names:
        raise BadSettings(f"{origin} {text}: none stands alone.", "Write none, or name what is to join.")
    for name in names:
        if name not in KINDS:
            raise BadSettings(f"{origin}: nothing that is called {name!r} can join.", nearest(name, (*KINDS, "none")))
    return tuple(kind for kind in KINDS if kind in names)


_TRUTHS = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}


def _patience_shown(value: int) -> str:
    return "off" if value >= OFF else str(value)


OPTIONS: tuple[Option, ...] = (
    Option("model", "text", "Model: provider/model, or org/name on the Hugging Face router.", "ML_INTERN_MODEL",
           "--model", "trusted", _text),
    Option("fallback", "names", "Models that are asked, in order, where the one before fails for good.",
           "ML_INTERN_FALLBACK", "--fallback", "trusted", _models, shown=", ".join, many=True),
    Option("models.main", "names", "The model and its fallbacks in one list, instead of `model` and `fallback`.",
           "ML_INTERN_MAIN_MODEL", "--main-model", "trusted", _models, shown=", ".join, many=True),
    Option("effort", ", ".join(EFFORTS), "How much models are to think (default: as each does by itself).",
           "ML_INTERN_EFFORT", "--effort", "trusted", _effort),
    *_of_roles(),
    Option("base_url", "text", "Endpoint of an OpenAI-compatible server.", "ML_INTERN_BASE_URL",
           "--base-url", "trusted", _text),
    Option("price", "IN/OUT", "USD per million tokens, where the price is not known.", "ML_INTERN_PRICE",
           "--price", "trusted", _text),
    Option("bill_to", "name", "Organisation of the Hub that pays for models of the router (HF_BILL_TO, too).",
           "ML_INTERN_BILL_TO", "--bill-to", "trusted", _organisation, alias="HF_BILL_TO"),
    Option("mode", "plan, ask, auto or yolo", "How calls are judged.", "ML_INTERN_MODE",
           "--mode", "stricter", _mode, "auto"),
    Option("on_ask", "deny or hold", "What becomes of a call that needs a person.", "ML_INTERN_ON_ASK",
           "--on-ask", "free", _on_ask, "deny"),
    Option("budget.session", "USD", "Hard cap of a session.", "ML_INTERN_BUDGET",
           "--budget", "lower", _amount, "5.00", show),
    Option("budget.day", "USD", "Hard cap of a day over all sessions.", "ML_INTERN_DAY_BUDGET",
           "--day-budget", "lower", _amount, shown=show),
    Option("max_steps", "number", "Most model replies of a turn.", "ML_INTERN_MAX_STEPS",
           "--max-steps", "lower", _count, "300"),
    Option("compact_at", "0.8, 80%", "Share of the window, less the reply, at which old parts become a summary.",
           "ML_INTERN_COMPACT_AT", "--compact-at", "free", _share, "0.8", lambda value: f"{value:g}"),
    Option("max_time", "90s, 15m, 2h", "Most time of a turn.", "ML_INTERN_MAX_TIME",
           "--max-time", "lower", seconds_of, shown=lambda seconds: f"{seconds:g}s"),
    Option("storage.max", "800MB, 20GB", "Most disk space of all sessions, asked when one begins.",
           "ML_INTERN_STORAGE_MAX", "--storage-max", "lower", _size, shown=size),
    Option("tools", "names", "The only tools that the model sees.", "ML_INTERN_TOOLS",
           "--tools", "fewer", _names, shown=", ".join),
    Option("append_system", "text or @FILE", "Text that follows the system prompt.", "ML_INTERN_APPEND_SYSTEM",
           "--append-system", "trusted", _text),
    Option("join", "names, or none", "What joins the prompt: instructions (AGENTS.md), skills, memory (MEMORY.md).",
           "ML_INTERN_JOIN", "--join", "fewer", _kinds, ",".join(KINDS), lambda value: ", ".join(value) or "none"),
    Option("guards.repeats", "number, or off", "Equal calls, or rounds of calls, with equal results that are let pass.",
           "ML_INTERN_GUARD_REPEATS", "--guard-repeats", "lower", _patience, "3", _patience_shown),
    Option("guards.stall", "number, or off", "Steps without a changed file or plan or anything new until a guard "
           "speaks up.", "ML_INTERN_GUARD_STALL", "--guard-stall", "lower", _patience, "30", _patience_shown),
    Option("guards.plan", "on or off", "Whether the model is reminded of open items of its plan at a turn's end.",
           "ML_INTERN_GUARD_PLAN", "--guard-plan", "on", _switch, "on", lambda value: "on" if value else "off"),
    Option("offline", "true or false", "Whether commands reach no host at all and packages come from the cache.",
           "ML_INTERN_OFFLINE", "--offline", "on", _truth, "false", lambda value: "true" if value else "false"),
)  # fmt: skip

_EXAMPLES = {
    "model": "'hf/openai/gpt-oss-120b'",
    "base_url": "'http://127.0.0.1:8000/v1'",
    "tools": "['NAME', 'NAME']",
    "names": "['hf/openai/gpt-oss-120b']",
    ", ".join(EFFORTS): f"'{EFFORTS[-1]}'",
    "as effort": f"'{EFFORTS[-1]}'",
    "IN/OUT": "'0.6/2.2'",
    "name": "'acme'",
    "plan, ask, auto or yolo": f"'{MODES[1]}'",
    "deny or hold": f"'{ON_ASK[-1]}'",
    "USD": "'5.00'",
    "number": "100",
    "0.8, 80%": "0.8",
    "90s, 15m, 2h": "'15m'",
    "800MB, 20GB": "'20GB'",
    "text or @FILE": "'@notes.md'",
    "names, or none": f"['{KINDS[0]}', '{KINDS[-1]}']",
    "number, or off": "5",
    "on or off": "true",
    "true or false": "true",
}
"""By name, else by form."""

BY_NAME = {option.name: option for option in OPTIONS}

_OTHER_VARIABLES = ("ML_INTERN_DATA", "ML_INTERN_CONFIG", "ML_INTERN_LEVEL")
_OURS = re.compile(r"ML_?INTERN_", re.IGNORECASE)


def strangers(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that is named like one of ours and is none: a slip that would count for nothing."""
    known = {_OURS.sub("", name): name for name in (*(option.variable for option in OPTIONS), *_OTHER_VARIABLES)}
    lines: list[str] = []
    for name in environ:
        if _OURS.match(name) and name not in known.values():
            word, words = _OURS.sub("", name.upper()), list(known)
            near = difflib.get_close_matches(word, words, 2, 0.8) or difflib.get_close_matches(word, words, 1, 0.6)
            meant = " or ".join(known[each] for each in near)
            meant = f"Did you mean {meant}?" if meant else "`ml-intern settings --json` lists those there are."
            lines.append(f"{name} is no variable of ml-intern and counts for nothing. {meant}")
    return lines
