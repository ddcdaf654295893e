"""The double's ledger: an append-only JSONL file of who asked what, what it cost and how it ended. Knows no HTTP.

One line when a request has arrived, with all it will cost: what was begun is owed, whether or not anybody reads it to
the end. One line when it is over. Several servers may share a file: who holds its lock sees every line before its own.
"""

import fcntl
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices in micro-dollars per million tokens."""

    input: int
    output: int
    cached: int

    @classmethod
    def parse(cls, text: str) -> "Rates":
        """Read `IN/OUT` or `IN/OUT/CACHED`, dollars per million tokens; without CACHED a cached token costs as any."""
        numbers = [int(Decimal(word) * 1_000_000) for word in text.split("/")]
        if len(numbers) not in {2, 3} or min(numbers) < 0:
            raise ValueError(f"prices are IN/OUT or IN/OUT/CACHED in dollars per million tokens, not {text!r}")
        return cls(numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else numbers[0])

    def cost(self, prompt: int, cached: int, output: int) -> int:
        """Micro-dollars of one request, rounded up once. `prompt` includes `cached`."""
        exact = (prompt - cached) * self.input + cached * self.cached + output * self.output
        return -(-exact // 1_000_000)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request as the ledger tells it. Times are of the monotonic clock, which all processes of a machine share.

    `how` is completed, disconnected (the client left), fault, refused (an error answer), stopped (the server was) or
    open. `chunks` counts the SSE events handed to the socket, of the `chunks_of` there were; `silent_ms` is, for one
    who left, the time between the last of them and its leaving being noticed.
    """

    id: str
    arrived_ns: int
    how: str = "open"
    ended_ns: int | None = None
    status: int | None = None
    path: str = ""
    client: str = ""
    model: str = ""
    rule: int | None = None
    fault: str | None = None
    step: int = 0
    messages: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    max_tokens: int | None = None
    cost: int = 0
    chunks: int = 0
    chunks_of: int = 0
    silent_ms: float | None = None


class Ledger:
    """The open file. Lines are written at once; nothing is ever changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._read_to = 0
        self._fired: Counter[tuple[int | None, bool]] = Counter()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file against other servers: what is counted inside is true until the line is written."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self._catch_up()
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def fired(self, rule: int, *, fault: bool) -> int:
        """How many requests a rule has answered, with its fault or without. True only while locked."""
        return self._fired[rule, fault]

    def arrived(self, id_: str, at_ns: int, facts: dict[str, Any]) -> None:
        """Note a request, what answers it and what it costs."""
        self._write({"event": "arrived", "id": id_, "at_ns": at_ns, **facts})

    def ended(self, id_: str, how: str, facts: dict[str, Any]) -> None:
        """Note how a request ended."""
        self._write({"event": "ended", "id": id_, "at_ns": time.monotonic_ns(), "how": how, **facts})

    def exchanges(self) -> list[Exchange]:
        """Every request so far, in order of arrival."""
        return exchanges(self.path)

    def total(self) -> int:
        """What all requests so far cost, in micro-dollars."""
        return total(self.path)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def _catch_up(self) -> None:
        new = os.pread(self._file, os.fstat(self._file).st_size - self._read_to, self._read_to)
        complete = new[: new.rfind(b"\n") + 1]
        self._read_to += len(complete)
        for line in complete.splitlines():
            if line.startswith(b'{"event":"arrived"'):
                entry = json.loads(line)
                self._fired[entry.get("rule"), entry.get("fault") is not None] += 1


def exchanges(path: Path) -> list[Exchange]:
    """Every request in a ledger file, in order of arrival. A last line that is only half written is left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        event, at = entry.pop("event"), entry.pop("at_ns")
        if event == "arrived":
            found[entry["id"]] = {**entry, "arrived_ns": at}
        else:
            found[entry["id"]] |= {**entry, "ended_ns": at}
    return [Exchange(**entry) for entry in found.values()]


def total(path: Path) -> int:
    """What all requests in a ledger file cost, in micro-dollars."""
    return sum(exchange.cost for exchange in exchanges(path))


if __name__ == "__main__":
    print(total(Path(sys.argv[1])))
