"""Changes every text inside an event, whatever its type. Knows no meaning; opaque provider state is never touched."""

import re
from collections.abc import Callable
from typing import TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.record.messages import Opaque

T = TypeVar("T")

_SURROGATE = re.compile("[\ud800-\udfff]")


def with_texts(value: T, change: Callable[[str], str]) -> T:
    """`value` (an event, or a part of one) with `change` applied to every text in it."""
    return cast("T", _walk(value, change))


def storable(text: str) -> str:
    """`text` without lone surrogates, which UTF-8 cannot hold: pairs are joined, others become U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub("\ufffd", text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _walk(value: object, change: Callable[[str], str]) -> object:
    match value:
        case str():
            return change(value)
        case Opaque():
            return value
        case tuple():
            return tuple(_walk(each, change) for each in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case Struct():
            changes = {name: _walk(getattr(value, name), change) for name in value.__struct_fields__}
            return replace(value, **changes)
        case _:
            return value
