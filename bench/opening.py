"""What opening a long session costs: its record from SQLite to a view, beside `json.loads` of the very same lines.

Usage: opening.py EVENTS ROUNDS [KIND]. Prints two figures a round: milliseconds of json.loads and milliseconds of
opening, of processor time over all threads: nothing is waited for here, and other work on the machine does not count.
KIND: what the session's commands print, `numbers` (training), `code` (searches in code) or `hashes` (of files).
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ml_intern.base.clock import SystemClock
from ml_intern.base.ids import new_id
from ml_intern.record.codec import encode
from ml_intern.record.display import LogDisplay
from ml_intern.record.effects import Executes
from ml_intern.record.events import (
    CapSet,
    Entry,
    Event,
    ModelAsked,
    ModelReplied,
    SessionStarted,
    ToolFinished,
    ToolStarted,
    UserSaid,
)
from ml_intern.record.log import Log
from ml_intern.record.messages import Call, Reply, Text, Usage
from ml_intern.record.secrets import Secrets
from ml_intern.store.sqlite import SqliteJournal, SqliteStore

_TIMES = 4
SHA = "b066d05b41a5c1b5" * 4


def numbers(seed: int) -> str:
    """What a training prints."""
    return "\n".join(f"epoch {epoch} loss {1 / (epoch + 1):.4f}" for epoch in range(20))


def code(seed: int) -> str:
    """What a search in code prints; a comment of it names a page."""
    page = f"  # as in https://github.com/acme/code/blob/main/layer_{seed}.py"
    line = "src/pkg_{0}/mod_{1}.py:{2}:        self.layer_{2} = torch.nn.Linear(config.hidden_{0}, self.size){3}"
    return "\n".join(line.format(seed, at // 5, 7 * at, "" if at else page) for at in range(20))


def hashes(seed: int) -> str:
    """What sha256sum prints."""
    return "\n".join(
        f"{pow(seed + at, 31):064x}"[:64] + f"  data/part-{seed}/shard-{at:05}.parquet" for at in range(20)
    )


KINDS: dict[str, Callable[[int], str]] = {"numbers": numbers, "code": code, "hashes": hashes}


def events(printed: Callable[[int], str] = numbers) -> Iterator[Event]:
    """A session without end: one command a step, each with twenty lines of output. As the product writes it."""
    yield SessionStarted("s", "/home/me/work", "0")
    yield CapSet(10**9, "user")
    yield UserSaid(new_id(), "train it with every seed")
    seed = 0
    while True:
        seed += 1
        attempt, call, command = new_id(), new_id(), f"python train.py --seed {seed}"
        said = (Text("Now the next seed."), Call(call, f"call_{seed}", "bash", json.dumps({"command": command})))
        output = printed(seed)
        yield ModelAsked(attempt, "main", "openai-compatible/double", 70_391, 4_855, 16_384, SHA[:16])
        yield ModelReplied(attempt, Reply(said), Usage(5_000 + seed, 40, 4_800), 3_000, "calls", "double", 5, 8)
        yield ToolStarted(call, SHA, (Executes(command),), "findable")
        yield ToolFinished(call, "ok", output, LogDisplay(command, output, 0, 1.5), total_ms=1_500, frame=SHA[:12])


async def opened_ms(data: Path, session: str) -> float:
    """Milliseconds from a closed store to the view of the session."""
    began_ns = time.process_time_ns()
    store = await SqliteStore.open(data)
    log = await Log.open(SqliteJournal(store, session, 1), SystemClock(), Secrets({}))
    took = (time.process_time_ns() - began_ns) / 1e6
    assert log.view.seq > 0
    await store.close()
    return took


async def write(data: Path, session: str, lines: list[bytes]) -> None:
    """A session that holds these lines."""
    store = await SqliteStore.open(data)
    await store.create(session)
    await asyncio.to_thread(store.set_epoch, session, 1)
    journal = SqliteJournal(store, session, 1)
    await asyncio.gather(*(journal.append(seq, line, flush=False) for seq, line in enumerate(lines, 1)))
    await store.close()


def loaded_ms(lines: list[bytes]) -> float:
    """Milliseconds of `json.loads` of all of them. Several times over: a short look finds a quiet moment of the machine
    where one as long as an opening does not.
    """
    began_ns = time.process_time_ns()
    for line in (line for _ in range(_TIMES) for line in lines):
        json.loads(line)
    return (time.process_time_ns() - began_ns) / 1e6 / _TIMES


async def main(count: int, rounds: int, kind: str = "numbers") -> None:
    """Measure in turn; the first round of either is thrown away."""
    entries = zip(range(1, count + 1), events(KINDS[kind]), strict=False)
    lines = [encode(Entry(seq, 1_795_331_987_966 + seq, "main", event)) for seq, event in entries]
    session = new_id()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        await write(Path(folder), session, lines)
        for number in range(rounds + 1):
            figures = loaded_ms(lines), await opened_ms(Path(folder), session)
            if number:
                sys.stdout.write(f"{figures[0]:.3f} {figures[1]:.3f}\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
