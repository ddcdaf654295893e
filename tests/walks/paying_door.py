"""A door like the headless one, whose only tool spends money, so that its calls are held. A process of its own.

python -m tests.walks.paying_door WITNESS (PROMPT | --resume [--approve CALL] [--deny CALL] [--reason TEXT])
"""

import argparse
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ml_intern.agent.ask import Asker
from ml_intern.agent.context import Head
from ml_intern.agent.loop import Worker
from ml_intern.agent.road import Road
from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.wire import Opened
from ml_intern.base.clock import SystemClock
from ml_intern.base.ids import new_id
from ml_intern.headless.run import Answers, Run, run_to_exit
from ml_intern.model.catalog import describe
from ml_intern.model.catalog import resolve as endpoint
from ml_intern.model.port import ToolSpec
from ml_intern.model.wire.chat import ChatModel
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import Spends
from ml_intern.record.events import (
    CapSet,
    LimitsSet,
    ModelChosen,
    ModeSet,
    OwnerTook,
    SessionStarted,
    ToolStarted,
)
from ml_intern.record.live import Live
from ml_intern.record.log import Log
from ml_intern.record.secrets import Secrets
from ml_intern.session.session import Session
from ml_intern.store.lock import take
from ml_intern.store.sessions import resolve
from ml_intern.store.sqlite import SqliteStore
from ml_intern.toolkit.registry import Registry
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result

PAYER = "another team"


class PayArgs(Arguments, frozen=True):
    """What the model sends."""

    amount: int
    what: str


@dataclass(frozen=True)
class Pay:
    """Writes a line to the witness for every payment. Its quote is the price list's, which a test may change."""

    witness: Path
    name: str = "pay"
    text: str = "pays"
    args: type[Arguments] = PayArgs

    async def prepare(self, args: PayArgs, context: Context) -> Prepared:
        rise = int((self.witness.with_name("rise")).read_text()) if self.witness.with_name("rise").exists() else 0
        quote = args.amount + rise
        effects = (Spends(quote, PAYER, args.what, own=False),)
        return Prepared(effects, TextDisplay("pay", args.what), "findable", args, quote, PAYER)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        with self.witness.open("a") as file:
            file.write(f"{prepared.payload.amount}\n")
        return Result(f"paid {prepared.payload.amount}", TextDisplay("pay"), cost=prepared.payload.amount)

    async def recover(self, args: PayArgs, started: ToolStarted, context: Context) -> Result | None:
        return None


@asynccontextmanager
async def opened(witness: Path, session: str) -> AsyncGenerator[Opened]:
    """As `app/wire.py` opens one, with the one tool and no sandbox."""
    launch = make_launch(Flags(on_ask="hold"))
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(Path(os.environ["ML_INTERN_DATA"]))
        stack.push_async_callback(store.close)
        fresh = not session
        session = new_id() if fresh else await resolve(store, session)
        if fresh:
            await store.create(session)
        owner = await take(store, session, "test")
        stack.callback(owner.release)
        log = await Log.open(owner.journal, SystemClock(), Secrets({}))
        if fresh:
            await log.add(SessionStarted(session, str(launch.cwd), "0"))
        await log.add(OwnerTook(owner.epoch, "test", os.getpid(), "here"))
        # The model is always the one that the variables name: only the tool is unlike the real wiring.
        info, base_url = describe(str(launch.model), str(launch.base_url)), str(launch.base_url)
        if fresh:
            await log.add(ModelChosen("main", info.id, info.window, None, info.prices, info.payer, base_url))
            for event in (CapSet(5_000_000, "user"), ModeSet("auto", "hold"), LimitsSet(50, None)):
                await log.add(event)
        model = ChatModel(endpoint(info.id, base_url))
        stack.push_async_callback(model.aclose)
        registry, live, clock = Registry((Pay(witness),)), Live(), SystemClock()
        head = Head("system", tuple(ToolSpec(row.name, row.text, row.parameters) for row in registry.specs()))
        asker = Asker(log, live, clock, {"main": model}, {"main": head})
        yield Opened(Session(Worker(log, asker, Road(log, live, clock, registry), clock), live), "paying")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("witness", type=Path)
    parser.add_argument("prompt", nargs="?")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--approve", action="append", default=[])
    parser.add_argument("--deny", action="append", default=[])
    parser.add_argument("--reason", default="")
    given = parser.parse_args()
    answers = Answers(tuple(given.approve), tuple(given.deny), given.reason)
    session = "last" if given.resume else ""
    return run_to_exit(Run(given.prompt, answers=answers), lambda: opened(given.witness, session))


if __name__ == "__main__":
    sys.exit(main())
