"""Arguments of tools: their JSON Schema for the model, and the model's JSON back into them.

Knows no tool. What does not fit is answered in words that a model can act on, never with a traceback.
"""

import difflib
import functools
import json
import re
from typing import Any, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

Json = dict[str, Any] | list[Any] | str | int | float | bool | None
Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

_SHOWN_CHARS = 60
_PLACE = re.compile(r" - at `\$(.*)`$")
_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_NAMED = re.compile(r"Object (missing required|contains unknown) field `(.*)`")


class Arguments(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every tool's `Args`: frozen, and a name that it does not know is an error."""


A = TypeVar("A", bound=Arguments)
_Path = tuple[int | str, ...]


class Invalid(Struct, frozen=True):
    """The arguments do not fit; `text` says where and what to send instead."""

    text: str


@functools.cache
def schema_of(args: type[Arguments]) -> Schema:
    """The JSON Schema of `args`: references inlined, no titles, closed objects, no null beside optional values.

    Raises:
        ValueError: the arguments contain themselves; no provider takes that.
    """
    schema = msgspec.json.schema(args)
    definitions: Schema = schema.pop("$defs")
    # What docstrings say of the classes is for us; the tool's own text is for the model.
    for node in definitions.values():
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
    return _fitted(args, _lenient(args, value))


@functools.cache
def _fields(args: type[Arguments]) -> dict[str, FieldInfo]:
    return {field.name: field for field in fields(args)}


def _fitted(args: type[A], value: dict[str, Json]) -> A | Invalid:
    """Every argument is looked at by itself: a model is told of all that do not fit, not of the first."""
    known = _fields(args)
    fitted: dict[str, Any] = {}
    sentences = [_unknown((name,), list(known)) for name in value if name not in known]
    for name, field in known.items():
        if name not in value:
            sentences += [f"`{name}` is missing."] if field.required else []
            continue
        try:
            fitted[name] = msgspec.convert(value[name], field.type, strict=False)
        except msgspec.ValidationError as error:
            sentences.append(_sentence(args, name, value[name], str(error)))
    if sentences:
        return Invalid(" ".join([*dict.fromkeys(sentences), _expected(args)]))
    return args(**fitted)


def _plain(node: Json, definitions: Schema, inside: tuple[str, ...]) -> Json:
    if isinstance(node, list):
        return [_plain(item, definitions, inside) for item in node]
    if not isinstance(node, dict):
        return node
    found: Schema = {**node}
    _without_leniency(found)
    if "$ref" in found:
        name = str(found.pop("$ref")).rpartition("/")[2]
        if name in inside:
            raise ValueError(f"{name} contains itself")
        return _plain({**definitions[name], **found}, definitions, (*inside, name))
    if "enum" in found:
        # Some providers want the type beside the values.
        found = {"type": "string", **found}
    if not found.get("required", ...):
        found.pop("required")
    if "properties" in found:
        # Keys below `properties` are names of arguments: one called "title" is kept.
        found["properties"] = {key: _plain(value, definitions, inside) for key, value in found["properties"].items()}
    rest = {key: value for key, value in found.items() if key not in {"title", "properties"}}
    plain = {key: _plain(value, definitions, inside) for key, value in rest.items()}
    return {**plain, "properties": found["properties"]} if "properties" in found else plain


def _without_leniency(found: Schema) -> None:
    """An optional value is told by not being required, a text by its type: that `null` or a number is taken, too,
    only invites models to send it.
    """
    choices: list[Schema] = found.get("anyOf", [])
    kept = [choice for choice in choices if choice.get("type") != "null"]
    if any(choice.get("type") == "string" for choice in kept):
        kept = [choice for choice in kept if choice.get("type") != "integer"]
    if len(kept) < len(choices):
        found.pop("anyOf")
        found.update(kept[0] if len(kept) == 1 else {"anyOf": kept})
    if found.get("default", ...) is None:
        found.pop("default")


def _loads(raw: str) -> Json:
    return json.loads(raw, strict=False)


def _refuse_halves(raw: str, value: Json) -> None:
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


def _lenient(args: type[Arguments], value: dict[str, Json]) -> dict[str, Json]:
    """Without nulls for what is optional, and with lists and objects that came as JSON text decoded."""
    known = _fields(args)
    lenient: dict[str, Json] = {}
    for name, given in value.items():
        field = known.get(name)
        if field is None or (given is not None and not isinstance(given, str)):
            lenient[name] = given
        elif given is not None:
            lenient[name] = _decoded(args, name, given)
        elif field.required:
            lenient[name] = None
    return lenient


def _decoded(args: type[Arguments], name: str, given: str) -> Json:
    if schema_of(args)["properties"][name].get("type") not in {"array", "object"}:
        return given
    try:
        return _loads(given)
    except (ValueError, RecursionError):
        return given


def _sentence(args: type[Arguments], name: str, given: Json, error: str) -> str:
    """What msgspec says of an argument, with where it stands, what came instead, and what would have fitted."""
    place = _PLACE.search(error)
    inner = _PART.findall(place[1]) if place else []
    path: _Path = (name, *(int(index) if index else key for key, index in inner))
    what = error[: place.start()] if place else error
    if named := _NAMED.match(what):
        inside = (*path, named[2])
        siblings = list(_node(args, path).get("properties", {}))
        return f"{_place(inside)} is missing." if named[1].startswith("missing") else _unknown(inside, siblings)
    for part in path[1:]:
        given = cast(Any, given)[part]
    if values := _node(args, path).get("enum"):
        what = f"Expected one of {', '.join(map(repr, values))}"
    shown = "" if given is None or isinstance(given, (dict, list)) else f" ({_shown(given)})"
    return f"{_place(path)} is {_kind(given)}{shown}: {what[:1].lower()}{what[1:]}."


def _unknown(path: _Path, siblings: list[str]) -> str:
    near = difflib.get_close_matches(str(path[-1]).lower(), siblings, 1, 0.4)
    return f"There is no argument {_place(path)}" + (f": did you mean `{near[0]}`?" if near else ".")


def _node(args: type[Arguments], path: _Path) -> Schema:
    """What the schema says of the place."""
    node = schema_of(args)
    for part in path:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
    return node


def _place(path: _Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return f"`{text.lstrip('.')}`"


def _kind(value: Json) -> str:
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


def _shown(value: Json) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"


def _expected(args: type[Arguments]) -> str:
    names = [_named(field) for field in _fields(args).values()]
    return f"The arguments are: {', '.join(names)}."


def _named(field: FieldInfo) -> str:
    return f"`{field.name}`" if field.required else f"`{field.name}` (optional)"
