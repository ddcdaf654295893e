"""One session's world within this process: the real wires, sandbox and store behind the headless door; many side by
side. What each door says goes to its own cell."""

import asyncio
import io
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ml_intern.app.choices import Played
from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.wire import open_session
from ml_intern.headless.run import Run, _run
from ml_intern.model.catalog import describe, resolve
from ml_intern.model.wire.chat import ChatModel
from ml_intern.model.wire.messages import MessagesModel
from ml_intern.record.codec import decode
from ml_intern.record.events import Entry
from ml_intern.store.sqlite import SqliteStore
from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.ledger import Exchange
from tests.doubles.openai_server import Double
from tests.faults.failing import Rule, Wire
from tests.faults.yard import CAP, PRICES, PROMPT, end_supervisor

_IDS: dict[Wire, str] = {"chat": "openai-compatible/double", "messages": "anthropic-compatible/double"}
_DOUBLES: dict[Wire, type[Double]] = {"chat": Double, "messages": AnthropicDouble}


class _Heard(io.TextIOWrapper):
    """What one cell's door writes."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    @property
    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


_OUT: ContextVar[_Heard] = ContextVar("out")
_ERR: ContextVar[_Heard] = ContextVar("err")


class _Routed:
    """A standard stream that is another one in every task."""

    def __init__(self, heard: ContextVar[_Heard]) -> None:
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard.get(), name)


@contextmanager
def routed() -> Generator[None]:
    """Within this, what a cell's door writes is its own."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Routed(_OUT), _Routed(_ERR)  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class Ended(NamedTuple):
    """How a turn ended at the door, and what it said."""

    code: int
    out: str
    err: str


@dataclass
class Cell:
    """A session to be. `idle_s`: how long its model's server may be silent; `played`: a model in the server's place."""

    folder: Path
    wire: Wire
    double: Double
    idle_s: float = 20.0
    played: Played | None = None
    _entries: list[Entry] = field(default_factory=list)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    async def say(self, *, resume: bool = False, **flags: Any) -> Ended:
        """Say the prompt in a new session, or go on with the one there is, to the end of the turn."""
        home = self.folder / "home"
        environ = {"ML_INTERN_DATA": str(self.data), "HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        named = {} if resume else {"model": _IDS[self.wire], "base_url": self.double.url, "price": PRICES}
        launch = make_launch(Flags(**{"cwd": str(self.work), "budget": CAP, **named, **flags}), environ)
        _OUT.set(_Heard())
        _ERR.set(_Heard())

        @asynccontextmanager
        async def opener():
            async with open_session(
                launch, resume="last" if resume else None, played=self.played or self._model()
            ) as opened:
                yield opened

        code = await _run(Run(None if resume else PROMPT, quiet=True), opener)
        self._entries = await _stored(self.data)
        return Ended(int(code), _OUT.get().text, _ERR.get().text)

    def _model(self) -> Played:
        """The wire as `choose` would make it, but for its patience."""
        endpoint = resolve(_IDS[self.wire], self.double.url, {})
        info = describe(_IDS[self.wire], self.double.url, PRICES, {})
        kind = ChatModel if self.wire == "chat" else MessagesModel
        return Played(kind(endpoint, idle_s=self.idle_s), info)

    def session(self) -> str:
        return next(path.name for path in (self.data / "sessions").iterdir())

    def entries(self) -> list[Entry]:
        return self._entries

    def asked(self) -> list[Exchange]:
        return self.double.exchanges

    def owed(self) -> int:
        return self.double.ledger.total()

    def witnessed(self) -> list[str]:
        witness = self.work / "witness"
        return [line.split()[0] for line in witness.read_text().splitlines()] if witness.exists() else []


@asynccontextmanager
async def cell(folder: Path, wire: Wire, rules: Sequence[Rule], *, whole: bool = False, idle_s: float = 20.0):
    """A cell with its double; at the end nothing of it runs."""
    for name in ("work", "home"):
        (folder / name).mkdir(parents=True)
    double = _DOUBLES[wire](rules, prices=PRICES, whole=whole)
    await double.start()
    try:
        yield Cell(folder, wire, double, idle_s)
    finally:
        for each in (folder / "data" / "sessions").glob("*"):
            await asyncio.to_thread(end_supervisor, each)
        await double.stop()


async def _stored(data: Path) -> list[Entry]:
    store = await SqliteStore.open(data)
    try:
        [session] = [path.name for path in (data / "sessions").iterdir()]
        return [decode(line) for line in await store.lines(session)]
    finally:
        await store.close()
