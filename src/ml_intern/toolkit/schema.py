"""Arguments of tools: their JSON Schema for the model, and the model's JSON back into them.

Knows no tool. What does not fit is answered in words that a model can act on, never with a traceback.
"""

import difflib
import functools
import json
from typing import Any, TypeVar, cast

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

A = TypeVar("A", bound=BaseModel)
_SHOWN_CHARS = 60

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""


class Arguments(BaseModel):
    """Base of every tool's `Args`: frozen, and a name that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Invalid(Struct, frozen=True):
    """The arguments do not fit; `text` says where and what to send instead."""

    text: str


@functools.cache
def schema_of(args: type[BaseModel]) -> Schema:
    """The JSON Schema of `args`: references inlined, no titles, closed objects, no null beside optional values.

    Raises:
        ValueError: the arguments contain themselves; no provider takes that.
    """
    schema = args.model_json_schema()
    definitions: Schema = schema.pop("$defs", {})
    # What docstrings say of the classes is for us; the tool's own text is for the model.
    for node in (schema, *definitions.values()):
        node.pop("description", None)
    return cast(Schema, _plain(schema, definitions, ()))


def parse(args: type[A], raw: str) -> A | Invalid:
    """The arguments that a model wrote as JSON text.

    Lenient where that is safe: no text at all is an empty object, an object may be encoded twice, line breaks may stand
    unescaped in strings, numbers may be strings, null stands for an optional value that is left out.
    """
    try:
        value = _loads(raw) if raw.strip() else {}
        if isinstance(value, str):
            value = _loads(value)
        _refuse_halves(raw, value)
    except json.JSONDecodeError as error:
        return Invalid(_no_json(error))
    except (ValueError, RecursionError) as error:
        return Invalid(f"The arguments are not usable JSON: {error}. Send one plain JSON object.")
    if not isinstance(value, dict):
        return Invalid(f"The arguments must be one JSON object, not {_kind(value)}. {_expected(args)}")
    try:
        return args.model_validate(_lenient(args, value))
    except ValidationError as error:
        sentences = [_sentence(args, detail) for detail in error.errors(include_url=False, include_context=False)]
        return Invalid(" ".join([*dict.fromkeys(sentences), _expected(args)]))


def _plain(node: JsonValue, definitions: Schema, inside: tuple[str, ...]) -> JsonValue:
    if isinstance(node, list):
        return [_plain(item, definitions, inside) for item in node]
    if not isinstance(node, dict):
        return node
    found: Schema = {**node}
    _without_null(found)
    if "$ref" in found:
        name = str(found.pop("$ref")).rpartition("/")[2]
        if name in inside:
            raise ValueError(f"{name} contains itself")
        return _plain({**definitions[name], **found}, definitions, (*inside, name))
    if "properties" in found:
        # Keys below `properties` are names of arguments: one called "title" is kept.
        found["properties"] = {key: _plain(value, definitions, inside) for key, value in found["properties"].items()}
        found["additionalProperties"] = False
    rest = {key: value for key, value in found.items() if key not in {"title", "properties"}}
    plain = {key: _plain(value, definitions, inside) for key, value in rest.items()}
    return {**plain, "properties": found["properties"]} if "properties" in found else plain


def _without_null(found: Schema) -> None:
    """An optional value is told by not being required: `null` beside it only invites models to send it."""
    choices: list[Schema] = found.get("anyOf", [])
    kept = [choice for choice in choices if choice.get("type") != "null"]
    if len(kept) < len(choices):
        found.pop("anyOf")
        found.update(kept[0] if len(kept) == 1 else {"anyOf": kept})
    if found.get("default", ...) is None:
        found.pop("default")


def _loads(raw: str) -> JsonValue:
    return json.loads(raw, strict=False)


def _refuse_halves(raw: str, value: JsonValue) -> None:
    """Half a surrogate pair is no text: nothing that holds one can be written to a file or a record."""
    if "\\ud" in raw.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("it holds half of a surrogate pair (\\ud800 to \\udfff alone)") from error


def _no_json(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        tail = error.doc[-_SHOWN_CHARS:]
        return (
            f"The arguments end too early, after …{tail!r}: they are not complete JSON ({error.msg}). "
            "Send the call again, whole; if it was cut for its length, split the work into smaller calls."
        )
    near = error.doc[max(0, error.pos - _SHOWN_CHARS // 2) : error.pos + _SHOWN_CHARS // 2]
    return (
        f"The arguments are not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}, near {near!r}. "
        'Send one JSON object; inside strings write quotes as \\" and backslashes as \\\\.'
    )


def _lenient(args: type[BaseModel], value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Without nulls for what is optional, and with lists and objects that came as JSON text decoded."""
    lenient: dict[str, JsonValue] = {}
    for name, given in value.items():
        field = args.model_fields.get(name)
        if field is None or (given is not None and not isinstance(given, str)):
            lenient[name] = given
        elif given is not None:
            lenient[name] = _decoded(args, name, given)
        elif field.is_required():
            lenient[name] = None
    return lenient


def _decoded(args: type[BaseModel], name: str, given: str) -> JsonValue:
    if schema_of(args)["properties"][name].get("type") not in {"array", "object"}:
        return given
    try:
        return _loads(given)
    except (ValueError, RecursionError):
        return given


def _sentence(args: type[BaseModel], detail: ErrorDetails) -> str:
    where = _place(detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{where} is missing."
        case "extra_forbidden":
            names = list(args.model_fields) if len(detail["loc"]) == 1 else _siblings(args, detail["loc"])
            near = difflib.get_close_matches(str(detail["loc"][-1]).lower(), names, 1, 0.4)
            return f"There is no argument {where}" + (f": did you mean `{near[0]}`?" if near else ".")
        case _:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
            given = cast(JsonValue, detail["input"])
            shown = "" if given is None or isinstance(given, (dict, list)) else f" ({_shown(given)})"
            return f"{where} {message[:1].lower()}{message[1:]}, but is {_kind(given)}{shown}."


def _siblings(args: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The names beside a nested one, from the schema."""
    node = schema_of(args)
    for part in location[:-1]:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return list(node.get("properties", {}))


def _place(location: tuple[int | str, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"`{text.lstrip('.')}`"


def _kind(value: JsonValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _shown(value: JsonValue) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _expected(args: type[BaseModel]) -> str:
    names = [_named(name, field) for name, field in args.model_fields.items()]
    return f"The arguments are: {', '.join(names)}."


def _named(name: str, field: FieldInfo) -> str:
    return f"`{name}`" if field.is_required() else f"`{name}` (optional)"
