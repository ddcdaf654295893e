"""Reads the egress log that the broker of a session writes. Knows no connection and no door."""

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from ml_intern.sandbox import outcome
from ml_intern.sandbox.broker import egress

_MOST_TOLD = 5
# Lines that are written side by side may stand a little out of their order.
_EARLIER_S = 1.0


class Crossing(Struct, frozen=True):
    """One connection that a command asked for. `at` is its end in seconds since 1970; `why` says what went wrong."""

    at: float
    host: str
    port: int
    asked: str
    sent: int
    received: int
    verdict: str
    why: str = ""


COLUMNS = ("TIME (UTC)", "HOST", "PORT", "ASKED", "SENT", "RECEIVED", "VERDICT")


def crossings(session_folder: Path) -> Iterator[Crossing]:
    """Every line of the session's log, in order; none where nothing was ever asked for. Blocks."""
    return _decoded(_lines(session_folder))


def refused_during(command_folder: Path) -> tuple[str, ...]:
    """What the broker refused, or could not reach, since the command in this folder began; each once. Blocks."""
    try:
        began = (command_folder / outcome.SPEC).stat().st_mtime
    except FileNotFoundError:
        return ()
    # From its end: a session's log grows with each command, and what is asked for is what it has grown by since.
    late = itertools.takewhile(
        lambda one: one.at >= began - _EARLIER_S, _decoded(reversed(_lines(command_folder.parents[1])))
    )
    refused = [one.why for one in late if one.at >= began - 0.01 and one.verdict != "allowed" and one.why]
    return tuple(dict.fromkeys(reversed(refused)))[:_MOST_TOLD]


def _lines(session_folder: Path) -> list[bytes]:
    try:
        return (session_folder / egress.FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return []


def _decoded(lines: Iterable[bytes]) -> Iterator[Crossing]:
    decoder = msgspec.json.Decoder(Crossing)
    for line in lines:
        # A line that was cut by a full disk, or is on its way, tells nothing.
        with contextlib.suppress(msgspec.DecodeError):
            yield decoder.decode(line)


def row(crossing: Crossing) -> tuple[str, ...]:
    """A crossing as cells of a table, under `COLUMNS`."""
    at = datetime.fromtimestamp(crossing.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    verdict = f"{crossing.verdict}: {crossing.why}" if crossing.why else crossing.verdict
    counts = (f"{crossing.sent:,}", f"{crossing.received:,}")
    return (at, crossing.host, str(crossing.port), crossing.asked, *counts, verdict)
