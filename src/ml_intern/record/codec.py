"""Entries to JSON and back, one line each. Knows no store."""

from functools import cache

from msgspec import DecodeError
from msgspec.json import Decoder, Encoder
from msgspec.json import decode as loads

from ml_intern.base.errors import StoreFailed
from ml_intern.record.events import VERSION, Entry
from ml_intern.record.upcast import upcast

_ENDING = b'"v":%d}' % VERSION
_encoder = Encoder()


def encode(entry: Entry) -> bytes:
    """The entry as one line of JSON, UTF-8, defaults included: the line reads alone.

    Raises:
        ValueError: a text holds half of a surrogate pair, for which UTF-8 has no form.
    """
    return _encoder.encode(entry)


def decode(line: bytes) -> Entry:
    """The entry of a line.

    Raises:
        StoreFailed: the line is damaged or was written by a newer version.
    """
    try:
        return _decoder().decode(line if line.endswith(_ENDING) else _encoder.encode(upcast(loads(line))))
    except (DecodeError, ValueError, LookupError, TypeError, RecursionError) as error:
        what = f"An entry of this session cannot be read: {str(error).splitlines()[0]}."
        remedy = "Open it with the version of ml-intern that wrote it, or export what `show` can read."
        raise StoreFailed(what, remedy) from error


@cache
def _decoder() -> Decoder[Entry]:
    """Not before something is read: it resolves the annotations of every event."""
    return Decoder(Entry)
