"""Entries to JSON and back, one line each. Knows no store.

Writing is done by hand and reading by pydantic: what is written are our own dataclasses, what is read comes from disk.
The reader's schema takes 0.1 s to build, so a new session must not need it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, cast

from ml_intern.base.errors import StoreFailed
from ml_intern.record.events import VERSION, Entry, Event
from ml_intern.record.upcast import upcast

_ENDING = b'"v":%d}' % VERSION


def encode(entry: Entry) -> bytes:
    """The entry as one line of JSON, UTF-8, defaults included: the line reads alone.

    Raises:
        ValueError: a text holds half of a surrogate pair, for which UTF-8 has no form.
    """
    return json.dumps(_plain(entry), ensure_ascii=False, separators=(",", ":")).encode()


def decode(line: bytes) -> Entry:
    """The entry of a line.

    Raises:
        StoreFailed: the line is damaged or was written by a newer version.
    """
    try:
        return _reader()(line if line.endswith(_ENDING) else json.dumps(upcast(json.loads(line))).encode())
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        what = f"An entry of this session cannot be read: {str(error).splitlines()[0]}."
        remedy = "Open it with the version of ml-intern that wrote it, or export what `show` can read."
        raise StoreFailed(what, remedy) from error


@cache
def _reader() -> Callable[[bytes], Entry]:
    from pydantic import Field, TypeAdapter  # not before something is read: see above

    @dataclass
    class Line:
        seq: int
        at: int
        lane: str
        event: Annotated[Event, Field(discriminator="type")]
        v: int

    adapter = TypeAdapter(Line)

    def read(line: bytes) -> Entry:
        found = adapter.validate_json(line)
        return Entry(found.seq, found.at, found.lane, found.event, found.v)

    return read


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _plain(value: object) -> object:
    """The value as JSON has it; a dataclass becomes an object of its fields in their order."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, tuple):
        return [_plain(each) for each in cast("tuple[object, ...]", value)]
    return {name: _plain(getattr(value, name)) for name in _names(type(value))}
