"""Reads settings files: which values and rules one holds, and on which line. Knows no precedence and no trust."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from msgspec import Struct

from ml_intern.app.grants import check_end
from ml_intern.app.hook_tables import hooks_of
from ml_intern.app.options import BY_NAME, nearest
from ml_intern.base.errors import BadSettings
from ml_intern.policy.hooks import Hook
from ml_intern.policy.rules import parse_rule
from ml_intern.record.events import Decision, Origin, RuleGiven

WORKSPACE_FILE = Path(".ml-intern/settings.toml")
RULES: tuple[Decision, ...] = ("allow", "ask", "deny")
HOOKS = "hooks"

_MOST_BYTES = 262_144
_RULE_KEYS = ("rule", "examples", "counter")


Toml = Any
"""What TOML holds: text, number, truth value, list, table."""


class Said(Struct, frozen=True):
    """A checked value and where it was said: a flag, a variable, `FILE:LINE`, "default"."""

    value: Any
    origin: str


class Source(Struct, frozen=True):
    """What one file says. `sha` is the SHA-256 of exactly the bytes that were read."""

    path: Path
    sha: str
    values: Mapping[str, Said]
    rules: tuple[RuleGiven, ...]
    hooks: tuple[Hook, ...] = ()


def read_bytes(path: Path) -> bytes | None:
    """What a settings file holds; None where there is none.

    Raises:
        BadSettings: it is there and cannot be read, or is no settings file.
    """
    try:
        # A pipe that somebody put in its place must not make us wait.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
                raise BadSettings(
                    f"{path} is no settings file.", f"It must be a file of at most {_MOST_BYTES:,} bytes."
                )
            return file.read(_MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}.", "Make it readable, or remove it.") from error


def read_source(path: Path, origin: Origin) -> Source | None:
    """The settings of the file, checked; None where there is none.

    Raises:
        BadSettings: a name or value is wrong; the sentence tells the line and the nearest right name.
    """
    data = read_bytes(path)
    return None if data is None else parsed(path, origin, data)


def parsed(path: Path, origin: Origin, data: bytes) -> Source:
    """What `data`, the file at `path`, says.

    Raises:
        BadSettings: as `read_source`.
    """
    import tomllib  # 5 ms, and most starts have no file

    try:
        text = data.decode()
        table = tomllib.loads(text, parse_float=str)
    except ValueError as error:
        raise BadSettings(f"{path} is no TOML: {error}.", "Correct it there.") from error
    lines = _Lines(path, text)
    given = dict(_flat(table))
    rules = tuple(_rules(given, lines, origin))
    hooks = hooks_of(given.pop(HOOKS, []), lambda number: lines.where(HOOKS, number), origin)
    values = {name: _said(name, value, lines) for name, value in given.items() if not name.startswith("rules.")}
    refuse_two_chains(values)
    return Source(path, hashlib.sha256(data).hexdigest(), values, rules, hooks)


def refuse_two_chains(values: Mapping[str, Said]) -> None:
    """Flags, variables and files each may name the models of `main` in either of two ways, as long as both say the
    same: to choose between them would be to drop one in silence.

    Raises:
        BadSettings: they differ.
    """
    whole = values.get("models.main")
    if whole is None:
        return
    first, *rest = whole.value
    for name, wanted in (("model", first), ("fallback", tuple(rest))):
        said = values.get(name)
        if said is not None and said.value != wanted:
            what = f"{_origin('models.main', whole)} and {_origin(name, said)} say different things of the main model."
            raise BadSettings(what, "Keep one of them.")


def _origin(name: str, said: Said) -> str:
    return f"{said.origin} {name}" if ":" in said.origin else said.origin


class _Lines(Struct, frozen=True):
    """Finds the line of a setting, for sentences: `FILE:LINE name`."""

    path: Path
    text: str

    def where(self, name: str, nth: int = 0) -> str:
        """Of several tables of one name, the `nth`, counted from 0."""
        table, _, key = name.rpartition(".")
        inside = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                inside = header[1].replace('"', "")
                nth -= inside == name
                if inside == name and nth < 0:
                    return f"{self.path}:{number}"
            found = re.match(r"\s*([\w.\"' -]+?)\s*=", line)
            if found and f"{inside}.{found[1]}".lstrip(".").replace('"', "") in {name, f"{table}.{key}".lstrip(".")}:
                return f"{self.path}:{number}"
        return f"{self.path}:1"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and their values; a table that is a value of ours, or unknown, is left whole."""
    tables = {name.partition(".")[0] for name in (*BY_NAME, "rules.") if "." in name}
    for key, value in table.items():
        if isinstance(value, dict) and not prefix and key in tables:
            yield from _flat(cast("dict[str, Any]", value), f"{key}.")
        else:
            yield f"{prefix}{key}", value


def _said(name: str, value: Toml, lines: _Lines) -> Said:
    where = lines.where(name)
    option = BY_NAME.get(name)
    if option is None:
        raise BadSettings(f"{where}: there is no setting {name!r}.", _meant(name))
    match value:
        case bool():
            text = str(value).lower() if option.workspace == "on" else None
        case int() | str():
            text = str(value)
        case [*items] if (option.many or option.workspace == "fewer") and all(isinstance(item, str) for item in items):
            text = ",".join(items)
        case _:
            text = None
    if text is None:
        remedy = f"Write {name.rpartition('.')[2]} = {option.example}, for example."
        raise BadSettings(f"{where}: {name} takes {option.form}.", remedy)
    return Said(option.parse(text, f"{where} {name}"), where)


def _meant(name: str) -> str:
    known = [*BY_NAME, *(f"rules.{decision}" for decision in RULES), HOOKS]
    inside = [each for each in known if each.startswith(f"{name}.") or each.endswith(f".{name}")]
    if inside:
        table, _, key = inside[0].partition(".")
        return f"Write it as [{table}] and below it {key} = ..."
    return nearest(name, known)


def _rules(given: Mapping[str, Any], lines: _Lines, origin: Origin) -> Iterator[RuleGiven]:
    for name, value in given.items():
        if not name.startswith("rules."):
            continue
        decision: Decision | None = next((each for each in RULES if name == f"rules.{each}"), None)
        if decision is None:
            raise BadSettings(f"{lines.where(name)}: there is no setting {name!r}.", _meant(name))
        items: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
        for item in items:
            yield _rule(decision, item, lines.where(name), origin)


def _rule(decision: Decision, item: Toml, where: str, origin: Origin) -> RuleGiven:
    """A rule is a text, or a table that also holds examples; those are checked now."""
    row = cast("dict[str, Any]", item) if isinstance(item, dict) else {"rule": item}
    if not isinstance(row.get("rule"), str):
        what = f"{where}: a rule is a text, or a table with `rule`, `examples` and `counter`."
        raise BadSettings(what, f"Write {decision} = ['publish hub:me/*, private'].")
    for key in row:
        if key not in _RULE_KEYS:
            raise BadSettings(f"{where}: a rule has no {key!r}.", nearest(key, _RULE_KEYS))
    rule = RuleGiven(decision, row["rule"].strip(), origin)
    try:
        check_end(parse_rule(rule, _texts(row, "examples", where), _texts(row, "counter", where)))
    except BadSettings as error:
        raise BadSettings(f"{where}: {error.what}", error.remedy) from error
    return rule


def _texts(row: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = row.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in cast("list[Any]", value)):
        raise BadSettings(f"{where}: {key} is a list of texts.", f"Write {key} = ['hub:me/model'].")
    return cast("list[str]", value)
