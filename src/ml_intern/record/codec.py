"""Entries to JSON and back, one line each. Knows no store."""

import json
from functools import cache

from pydantic import TypeAdapter, ValidationError

from ml_intern.base.errors import StoreFailed
from ml_intern.record.events import VERSION, Entry
from ml_intern.record.upcast import upcast


@cache
def _adapter() -> TypeAdapter[Entry]:
    return TypeAdapter(Entry)


def encode(entry: Entry) -> bytes:
    """The entry as one line of JSON, UTF-8, defaults included: the line reads alone."""
    return _adapter().dump_json(entry)


def decode(line: bytes) -> Entry:
    """The entry of a line.

    Raises:
        StoreFailed: the line is damaged or was written by a newer version.
    """
    try:
        if line.endswith(b'"v":%d}' % VERSION):
            return _adapter().validate_json(line)
        return _adapter().validate_python(upcast(json.loads(line)))
    except (ValidationError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"An entry of this session cannot be read: {str(error).splitlines()[0]}."
        raise StoreFailed(
            what, "Open it with the version of ml-intern that wrote it, or export what `show` can read."
        ) from error
