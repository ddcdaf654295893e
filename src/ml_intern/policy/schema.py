"""Checks a JSON value against a JSON Schema: the keywords that describe an answer. Knows no turn.

An unknown keyword is refused when the schema is given: what is not checked must not look checked.
https://json-schema.org/draft/2020-12/json-schema-validation
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

Json = Any
"""Any JSON value."""
Schema = Mapping[str, Json]
Check = Callable[[Json, Json], Iterator[str]]

_NOTES = {"$schema", "$id", "$comment", "$defs", "title", "description", "default", "examples", "format"}
_MOST_DEPTH = 40
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def refuse(schema: Json, at: str = "the schema") -> None:
    """Look at every keyword of `schema` before it is used.

    Raises:
        ValueError: a keyword is unknown or its value makes no sense; the message names it.
    """
    match schema:
        case bool():
            return
        case dict():
            for keyword, value in cast("dict[str, Json]", schema).items():
                if keyword not in _CHECKS and keyword not in _NOTES:
                    raise ValueError(f"{at} has the keyword {keyword!r}, which is not checked here")
                for name, inner in _parts(keyword, value, f"{at}.{keyword}"):
                    refuse(inner, name)
        case _:
            raise ValueError(f"{at} is no object")


def _parts(keyword: str, value: Json, at: str) -> list[tuple[str, Json]]:
    """The schemas inside a keyword, after its own value was looked at."""
    if not _makes_sense(keyword, value):
        raise ValueError(f"{at} cannot be {value!r}")
    match keyword:
        case "properties" | "$defs":
            return [(f"{at}.{name}", inner) for name, inner in value.items()]
        case "items" | "additionalProperties":
            return [(at, value)]
        case "anyOf" | "allOf":
            return [(at, inner) for inner in value]
        case _:
            return []


def _makes_sense(keyword: str, value: Json) -> bool:
    match keyword:
        case "properties" | "$defs":
            return isinstance(value, dict)
        case "anyOf" | "allOf" | "required" | "enum":
            return isinstance(value, list)
        case "type":
            return all(isinstance(name, str) and name in _TYPES for name in _listed(value))
        case "pattern":
            return isinstance(value, str) and re.compile(value).pattern == value
        case "$ref":
            return isinstance(value, str) and value.startswith("#/$defs/")
        case _:
            return keyword not in _BOUNDS or (isinstance(value, int | float) and not isinstance(value, bool))


def misfits(value: Json, schema: Json, root: Schema, at: str = "the answer", depth: int = 0) -> Iterator[str]:
    """What of `value` does not fit, in words, outermost first."""
    if schema is False or depth > _MOST_DEPTH:
        yield f"{at} may not be there" if schema is False else f"{at} is nested too deeply"
        return
    if schema is True:
        return
    if reference := schema.get("$ref"):
        target = root.get("$defs", {}).get(str(reference).removeprefix("#/$defs/"))
        yield from (
            [f"{at}: the schema lacks {reference}"] if target is None else misfits(value, target, root, at, depth + 1)
        )
    for keyword, wanted in schema.items():
        check = _CHECKS.get(keyword)
        if check is not None:
            yield from (f"{at} {words}" for words in check(value, wanted))
    yield from _inside(value, schema, root, at, depth + 1)


def _inside(value: Json, schema: Schema, root: Schema, at: str, depth: int) -> Iterator[str]:
    """What does not fit in the parts of `value`, and in alternatives."""
    if isinstance(value, dict):
        known: dict[str, Any] = schema.get("properties", {})
        for name, inner in cast("dict[str, Any]", value).items():
            yield from misfits(
                inner, known.get(name, schema.get("additionalProperties", True)), root, f"{at}.{name}", depth
            )
    if isinstance(value, list):
        for index, inner in enumerate(cast("list[Any]", value)):
            yield from misfits(inner, schema.get("items", True), root, f"{at}[{index}]", depth)
    for inner in schema.get("allOf", ()):
        yield from misfits(value, inner, root, at, depth)
    choices = schema.get("anyOf")
    if choices is not None and all(any(misfits(value, inner, root, at, depth)) for inner in choices):
        yield f"{at} fits none of the alternatives"


def _listed(value: Json) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _is(value: Json, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _type(value: Json, wanted: Json) -> Iterator[str]:
    if not any(_is(value, name) for name in _listed(wanted)):
        yield f"must be of type {' or '.join(_listed(wanted))}"


def _required(value: Json, wanted: Json) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (f"lacks {name!r}" for name in wanted if name not in value)


def _same(one: Json, other: Json) -> bool:
    """JSON knows no 1 == true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _enum(value: Json, wanted: Json) -> Iterator[str]:
    if not any(_same(value, each) for each in wanted):
        yield f"must be one of {', '.join(map(repr, wanted))}"


def _const(value: Json, wanted: Json) -> Iterator[str]:
    if not _same(value, wanted):
        yield f"must be {wanted!r}"


def _pattern(value: Json, wanted: Json) -> Iterator[str]:
    if isinstance(value, str) and not re.search(wanted, value):
        yield f"must match {wanted!r}"


def _unique(value: Json, wanted: Json) -> Iterator[str]:
    if wanted and isinstance(value, list):
        items = cast("list[Any]", value)
        if any(_same(one, other) for index, one in enumerate(items) for other in items[:index]):
            yield "must not hold the same twice"


def _bound(
    kinds: tuple[type, ...], size: Callable[[Any], float], fits: Callable[[float, float], bool], words: str
) -> Check:
    def check(value: Json, wanted: Json) -> Iterator[str]:
        if isinstance(value, kinds) and not isinstance(value, bool) and not fits(size(value), wanted):
            yield f"must {words} {wanted:g}"

    return check


def _at_least(size: float, wanted: float) -> bool:
    return size >= wanted


def _at_most(size: float, wanted: float) -> bool:
    return size <= wanted


def _nothing(*_: Json) -> Iterator[str]:
    """Checked where the parts of a value are looked at."""
    return iter(())


_NUMBERS = (int, float)
_BOUNDS: Mapping[str, Check] = {
    "minimum": _bound(_NUMBERS, float, _at_least, "be at least"),
    "maximum": _bound(_NUMBERS, float, _at_most, "be at most"),
    "exclusiveMinimum": _bound(_NUMBERS, float, lambda size, wanted: size > wanted, "be more than"),
    "exclusiveMaximum": _bound(_NUMBERS, float, lambda size, wanted: size < wanted, "be less than"),
    "minLength": _bound((str,), len, _at_least, "have at least this many characters:"),
    "maxLength": _bound((str,), len, _at_most, "have at most this many characters:"),
    "minItems": _bound((list,), len, _at_least, "have at least this many items:"),
    "maxItems": _bound((list,), len, _at_most, "have at most this many items:"),
}
_CHECKS: Mapping[str, Check] = {
    "type": _type,
    "required": _required,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "uniqueItems": _unique,
    **_BOUNDS,
    **dict.fromkeys(("properties", "items", "additionalProperties", "anyOf", "allOf", "$ref"), _nothing),
}
