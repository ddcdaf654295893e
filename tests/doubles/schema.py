"""Whether a JSON Schema is one that a model's server takes for a function's parameters. Knows no request."""

from collections.abc import Iterator
from typing import Any

_TYPES = {"object", "array", "string", "number", "integer", "boolean", "null"}


def wrong_schema(schema: object, *, strict: bool) -> str | None:
    """What is wrong with the schema of a function's parameters, in the server's words; None where nothing is."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        kind = schema.get("type") if isinstance(schema, dict) else None
        return f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    return next(_problems(schema, schema, (), strict=strict), None)


def _problems(schema: object, root: dict[str, Any], path: tuple[str, ...], *, strict: bool) -> Iterator[str]:
    where = f"In context={path}, "
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{where}a schema must be an object or a boolean."
        return
    yield from (where + problem for problem in _of_itself(schema, root))
    if strict and schema.get("type") == "object":
        yield from (where + problem for problem in _of_strictness(schema))
    for name, inner in _inner(schema):
        yield from _problems(inner, root, (*path, name), strict=strict)


def _of_itself(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    kinds = schema.get("type", [])
    for kind in [kinds] if isinstance(kinds, str) else kinds:
        if kind not in _TYPES:
            yield f"{kind!r} is not valid under any of the given schemas."
    if "enum" in schema and not (isinstance(schema["enum"], list) and schema["enum"]):
        yield "'enum' must be a non-empty array."
    if not isinstance(schema.get("properties", {}), dict):
        yield "'properties' must be an object."
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield "'required' must be an array of strings."
    if schema.get("type") == "array" and "items" not in schema and "prefixItems" not in schema:
        yield "array schema missing items."
    reference = schema.get("$ref")
    if reference is not None and not _resolves(reference, root):
        yield f"reference {reference!r} cannot be resolved."


def _of_strictness(schema: dict[str, Any]) -> Iterator[str]:
    if schema.get("additionalProperties") is not False:
        yield "'additionalProperties' is required to be supplied and to be false."
    if {*schema.get("properties", {})} != {*schema.get("required", [])}:
        yield "'required' is required to be supplied and to be an array including every key in properties."


def _resolves(reference: object, root: dict[str, Any]) -> bool:
    if not isinstance(reference, str) or not reference.startswith("#"):
        return False
    place: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        place = place.get(step) if isinstance(place, dict) and step else place
    return isinstance(place, dict)


def _inner(schema: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name in ("properties", "$defs", "definitions", "patternProperties"):
        inner = schema.get(name)
        if isinstance(inner, dict):
            yield from inner.items()
    for name in ("items", "additionalProperties", "not"):
        if name in schema:
            yield name, schema[name]
    for name in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if name in schema:
            inner = schema[name]
            yield from (
                ((f"{name}[{n}]", one) for n, one in enumerate(inner))
                if isinstance(inner, list) and inner
                else [(name, None)]
            )
