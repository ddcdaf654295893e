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
from ml_intern.record.events import Mode, OnAsk

MODES: tuple[Mode, ...] = get_args(Mode)
"""From the strictest to the loosest."""
ON_ASK: tuple[OnAsk, ...] = get_args(OnAsk)

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")

Value = Any
"""A checked value of a setting: its option knows the type."""
Workspace = Literal["free", "trusted", "stricter", "lower", "fewer", "on"]
"""When a workspace's file may set it without a person's trust: always, never, where it is no looser than without it."""


class Option(Struct, frozen=True):
    """One setting. `parse(text, origin)` checks a value and says where it stood; `shown` writes it for a person.

    `name` is its dotted name in TOML; `alias` is a variable of others that says the same, after ours.
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


def _size(text: str, origin: str) -> int:
    found = size_of(text)
    if not found:
        raise BadSettings(f"{origin} {text} is not a size.", "Write it as 800MB or 20GB.")
    return found


def _truth(text: str, origin: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUTHS:
        raise BadSettings(f"{origin} {text} is neither true nor false.", "Write true or false.")
    return _TRUTHS[word]


def _names(text: str, origin: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise BadSettings(f"{origin} names no tool.", "Name some with commas between, or leave it out.")
    return found


_TRUTHS = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}

OPTIONS: tuple[Option, ...] = (
    Option("model", "text", "Model: provider/model, or org/name on the Hugging Face router.", "ML_INTERN_MODEL",
           "--model", "trusted", _text),
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
    Option("max_time", "90s, 15m, 2h", "Most time of a turn.", "ML_INTERN_MAX_TIME",
           "--max-time", "lower", seconds_of, shown=lambda seconds: f"{seconds:g}s"),
    Option("storage.max", "800MB, 20GB", "Most disk space of all sessions, asked when one begins.",
           "ML_INTERN_STORAGE_MAX", "--storage-max", "lower", _size, shown=size),
    Option("tools", "names", "The only tools that the model sees.", "ML_INTERN_TOOLS",
           "--tools", "fewer", _names, shown=", ".join),
    Option("append_system", "text or @FILE", "Text that follows the system prompt.", "ML_INTERN_APPEND_SYSTEM",
           "--append-system", "trusted", _text),
    Option("offline", "true or false", "Whether commands reach no host at all and packages come from the cache.",
           "ML_INTERN_OFFLINE", "--offline", "on", _truth, "false", lambda value: "true" if value else "false"),
)  # fmt: skip

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
