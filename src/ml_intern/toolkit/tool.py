"""The contract between the road and a tool: prepare says what a call would do, run does it. Knows no tool by name."""

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from ml_intern.record.display import Display
from ml_intern.record.effects import Effect
from ml_intern.record.events import Outcome, Replay, ToolStarted
from ml_intern.record.facts import Fact, FileChange
from ml_intern.record.messages import Image
from ml_intern.record.view import View
from ml_intern.toolkit.schema import Arguments


class Context(Struct, frozen=True):
    """The call's own facts. `key` is unique per call and stable over restarts;
    `view` is the state when the call was taken up.

    `live` sends a line of progress to whoever watches; it is dropped when the call finishes.
    """

    call: str
    key: str
    lane: str
    workspace: str
    view: View
    live: Callable[[str], None]


class Prepared(Struct, frozen=True):
    """What a call would do. `payload` is the tool's own, handed back to `run` untouched.

    `inputs` are (name, SHA-256) of everything prepare looked at: an approval is bound to them.
    `quote` is the worst-case
    price in micro-dollars of `payer`.
    """

    effects: tuple[Effect, ...]
    display: Display
    replay: Replay
    payload: Any = None
    quote: int = 0
    payer: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    writes: tuple[FileChange, ...] = ()


class Result(Struct, frozen=True):
    """A finished call: `text` for the model (already within the tool's budget), `display` for people,
    `facts` for the record.

    `blob` names the full output where `text` was clipped, so that the model can page it; `cost` is in micro-dollars.
    `ours`: nobody else wrote any of the text, no file, program or page. All other text is framed as data.
    """

    text: str
    display: Display
    outcome: Outcome = "ok"
    facts: tuple[Fact, ...] = ()
    images: tuple[Image, ...] = ()
    cost: int = 0
    blob: str | None = None
    ours: bool = False


class Waits(Struct, frozen=True):
    """A call that is not over: something inside it waits for a person. It goes on when it is recovered."""


class Tool(Protocol):
    """One tool. `text` is what the model reads of it; `Args` validates what the model sends."""

    @property
    def name(self) -> str:
        """The name the model calls it by."""
        ...

    @property
    def text(self) -> str:
        """The description for the model."""
        ...

    @property
    def args(self) -> type[Arguments]:
        """The class of its arguments."""
        ...

    async def prepare(self, args: Any, context: Context) -> Prepared:
        """Say what the call would do. Reads, never changes anything.

        Raises:
            MlInternError: the call cannot be done; the message goes to the model.
        """
        ...

    async def run(self, prepared: Prepared, context: Context) -> Result | Waits:
        """Do it. Cancelled when a person stops the turn: then the effect must end, too.

        Raises:
            MlInternError: it failed; the message goes to the model.
        """
        ...

    async def recover(self, args: Any, started: ToolStarted, context: Context) -> Result | Waits | None:
        """After a crash between `ToolStarted` and `ToolFinished`: the effect's result if it happened,
        None if it did not. Also after `run` came back with `Waits`.

        Waits for an effect that still runs. Only asked of tools whose prepared replay is not `pure`.
        """
        ...
