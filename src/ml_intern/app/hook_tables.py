"""Reads `[[hooks]]` of a settings file: each a table, checked before anything starts. Knows no process."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast, get_args

from ml_intern.app.options import nearest, seconds_of
from ml_intern.base.errors import BadSettings
from ml_intern.policy.hooks import DEFAULT_TIMEOUT_S, MOST_TIMEOUT_S, Hook, OnError
from ml_intern.policy.rules import VERBS, Rule, parse_rule
from ml_intern.record.events import Origin, RuleGiven
from ml_intern.record.hooks import HookOn

KEYS = ("event", "command", "name", "effects", "tools", "timeout", "on_error")
EVENTS: tuple[HookOn, ...] = get_args(HookOn)
OF_A_TURN: frozenset[HookOn] = frozenset({"before_turn", "after_turn"})
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
_FORM = "Write [[hooks]] and below it event = 'before_call' and command = '...'"


def hooks_of(value: object, where: Callable[[int], str], origin: Origin) -> tuple[Hook, ...]:
    """The hooks that `value` (the key `hooks` of a file) holds; `where` says FILE:LINE of the n-th.

    Raises:
        BadSettings: one of them is wrong; the sentence names it and the nearest right word.
    """
    rows = cast("list[Any]", value)
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in rows):
        raise BadSettings(f"{where(0)}: hooks is a list of tables.", f"{_FORM}.")
    return tuple(_hook(cast("dict[str, Any]", row), where(number), origin) for number, row in enumerate(rows))


def _hook(row: dict[str, Any], where: str, origin: Origin) -> Hook:
    for key in row:
        if key not in KEYS:
            raise BadSettings(f"{where}: a hook has no {key!r}.", nearest(key, KEYS))
    command = _text(row, "command", where).strip()
    on = cast("HookOn", _chosen(_text(row, "event", where), EVENTS, f"{where} event"))
    if not command:
        raise BadSettings(f"{where}: a hook without a command.", f"{_FORM}.")
    if on in OF_A_TURN and (chooser := next((key for key in ("effects", "tools") if key in row), None)):
        what = f"{where}: {on} is about no call, so no {chooser} would ever fit."
        raise BadSettings(what, f"Leave {chooser} out, or take the event before_call.")
    on_error = cast("OnError", _chosen(str(row.get("on_error", ON_ERROR[0])), ON_ERROR, f"{where} on_error"))
    name = _text(row, "name", where) if "name" in row else command.split()[0].rpartition("/")[2]
    rules = tuple(_rule(text, where, origin) for text in _texts(row, "effects", where))
    return Hook(name, on, command, rules, tuple(_texts(row, "tools", where)), _timeout(row, where), on_error, where)


def _timeout(row: dict[str, Any], where: str) -> float:
    if "timeout" not in row:
        return DEFAULT_TIMEOUT_S
    seconds = seconds_of(str(row["timeout"]), f"{where} timeout")
    if seconds > MOST_TIMEOUT_S:
        raise BadSettings(f"{where}: a hook may take {MOST_TIMEOUT_S:g} s at most.", "Let it go on by itself.")
    return seconds


def _rule(text: str, where: str, origin: Origin) -> Rule:
    """`publish` alone is all that is published."""
    whole = f"{text} *" if text.strip() in VERBS else text
    try:
        return parse_rule(RuleGiven("ask", whole, origin))
    except BadSettings as error:
        raise BadSettings(f"{where} effects: {error.what}", error.remedy) from error


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise BadSettings(f"{where}: a hook needs {key}, a text.", f"{_FORM}.")
    return value


def _texts(row: dict[str, Any], key: str, where: str) -> Iterator[str]:
    value = row.get(key, [])
    items = cast("list[Any]", value if isinstance(value, list) else [value])
    if not all(isinstance(item, str) for item in items):
        raise BadSettings(f"{where}: {key} is a list of texts.", "Write effects = ['publish *'] or tools = ['bash'].")
    yield from cast("list[str]", items)


def _chosen(word: str, among: Sequence[str], where: str) -> str:
    if word not in among:
        raise BadSettings(f"{where}: there is no {word!r}.", nearest(word, among))
    return word
