"""A session as one file of JSON lines: head, entries, kept outputs, end. Knows no store and no session's meaning.

{"ml_intern_session": 1, "session": ..., "entries": N}     the head
{"seq": 1, ...}                                            N entries, as `show --json` prints them
{"blob": SHA, "data": BASE64}                              what the entries name
{"end": SHA}                                               SHA-256 of every byte before: a file that was cut is told
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.errors import BadSettings
from ml_intern.policy.redact import redact, redact_bytes
from ml_intern.record.codec import decode, encode
from ml_intern.record.events import Entry
from ml_intern.record.secrets import Secrets
from ml_intern.record.texts import with_texts

FORMAT = 1

_SHA = re.compile(rb"[0-9a-f]{64}")
_NAME = re.compile(_SHA.pattern.decode())
_REMEDY = "Export it again with `ml-intern sessions export`."


class Blob(Struct, frozen=True):
    """A kept output under the name that the file gives it."""

    sha: str
    data: bytes


def names_in(lines: Iterable[bytes]) -> frozenset[str]:
    """Everything in these lines that could name a blob."""
    return frozenset(found.decode() for line in lines for found in _SHA.findall(line))


def renamed(entries: Iterable[Entry], names: dict[str, str], change: Callable[[str], str]) -> Iterator[Entry]:
    """The entries with other names of blobs, and with `change` applied to every text."""

    def changed(text: str) -> str:
        return change(_NAME.sub(lambda found: names.get(found.group(), found.group()), text))

    return (replace(entry, event=with_texts(entry.event, changed)) for entry in entries)


def pack(
    session: str, lines: Sequence[bytes], blobs: Callable[[str], bytes | None], secrets: Secrets
) -> Iterator[bytes]:
    """The lines of the file. What `secrets` knows and what looks like a secret is left out, in blobs, too.

    `blobs` gives a kept output by its name, None where there is none; each is asked for twice.

    Raises:
        StoreFailed: an entry is damaged.
    """

    def cleaned(sha: str) -> bytes | None:
        data = blobs(sha)
        return None if data is None else redact_bytes(secrets.clean_bytes(data))

    names: dict[str, str] = {}
    for sha in sorted(names_in(lines)):
        if (data := cleaned(sha)) is not None:
            names[sha] = hashlib.sha256(data).hexdigest()
    digest = hashlib.sha256()

    def counted(line: bytes) -> bytes:
        digest.update(line + b"\n")
        return line + b"\n"

    yield counted(_json({"ml_intern_session": FORMAT, "session": session, "entries": len(lines)}))
    for entry in renamed(map(decode, lines), names, lambda text: redact(secrets.clean(text))):
        yield counted(encode(entry))
    for sha, name in names.items():
        yield counted(_json({"blob": name, "data": base64.b64encode(cleaned(sha) or b"").decode()}))
    yield _json({"end": digest.hexdigest()}) + b"\n"


def is_parcel(head: bytes) -> bool:
    """Whether a file that begins with the line `head` is one of these."""
    try:
        found: Any = json.loads(head)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "ml_intern_session" in found


def unpack(head: bytes, source: BinaryIO) -> Iterator[Entry | Blob]:
    """What the file holds, in order; `head` is its first line. Only when it is through is it known to be whole.

    Raises:
        BadSettings: it was cut or changed, or a newer version of the product wrote it.
        StoreFailed: an entry is damaged.
    """
    digest, entries = hashlib.sha256(head), _entries(head)
    for number, line in enumerate(source):
        row = _row(line) if number >= entries else None
        if row is None:
            yield decode(line.rstrip(b"\n"))
        elif "end" in row:
            if row["end"] != digest.hexdigest() or source.read(1):
                raise BadSettings("The file was changed after it was exported.", _REMEDY)
            return
        else:
            yield _blob(row)
        digest.update(line)
    raise BadSettings("The file ends too early: a part of it is missing.", _REMEDY)


def _entries(head: bytes) -> int:
    found = _row(head)
    version, entries = found.get("ml_intern_session"), found.get("entries")
    if isinstance(version, int) and version > FORMAT:
        what = f"A newer version of ml-intern wrote this file (format {version}, this one reads up to {FORMAT})."
        raise BadSettings(what, "Update ml-intern.")
    if not isinstance(entries, int) or entries < 1:
        raise BadSettings("The head of the file is damaged.", _REMEDY)
    return entries


def _row(line: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadSettings("The file holds a line that is no JSON: it is damaged or was cut.", _REMEDY) from error
    if not isinstance(found, dict):
        raise BadSettings("The file holds a line that is no object: it is damaged.", _REMEDY)
    return found  # pyright: ignore[reportUnknownVariableType] - keys of JSON objects are texts


def _blob(row: dict[str, Any]) -> Blob:
    try:
        data = base64.b64decode(row["data"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise BadSettings("The file holds a kept output that cannot be read.", _REMEDY) from error
    if hashlib.sha256(data).hexdigest() != row.get("blob"):
        raise BadSettings("The file holds a kept output that does not match its name.", _REMEDY)
    return Blob(row["blob"], data)


def _json(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()
