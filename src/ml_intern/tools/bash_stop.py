"""Ends a command in the background with its whole tree. Knows no policy."""

import asyncio
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from ml_intern.record.display import LogDisplay
from ml_intern.record.effects import Executes
from ml_intern.record.events import ToolStarted
from ml_intern.sandbox.commands import Commands, Ended
from ml_intern.sandbox.paths import Roots
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.tool import Context, Prepared, Result
from ml_intern.tools import background
from ml_intern.tools.texts import text_of


class BashStopArgs(Arguments, frozen=True):
    """What the model sends."""

    id: Annotated[str, Meta(min_length=1, description="Id of the command.")]


class BashStop:
    """See bash_stop.md."""

    name = "bash_stop"
    args = BashStopArgs

    def __init__(self, commands: Commands, roots: Roots) -> None:
        self._commands = commands
        self._roots = roots
        self.text = text_of(__file__)

    async def prepare(self, args: BashStopArgs, context: Context) -> Prepared:
        """Which command.

        Raises:
            ToolFailed: there is none of this id.
        """
        found = await background.find(self._commands, args.id)
        title = await asyncio.to_thread(background.title, found.output_path.parent)
        return Prepared((Executes(f"stop: {title}"),), LogDisplay(f"stop: {title}"), "idempotent", args.id)

    async def run(self, prepared: Prepared, context: Context) -> Result:
        """End it, and wait until it is gone.

        Raises:
            SandboxError: it cannot be followed.
        """
        key: str = prepared.payload
        found = await background.find(self._commands, key)
        had_ended = isinstance(found, Ended)
        if not had_ended:
            await self._commands.stop(key)
            found = await self._commands.attach(key, lambda _: None)
        notes, facts = await asyncio.to_thread(background.left, self._roots, found, context.view.files)
        title = await asyncio.to_thread(background.title, Path(found.output_path).parent)
        words = ["It had ended already.", *notes] if had_ended else notes
        return Result(" ".join(words), LogDisplay(f"stop: {title}", "", found.exit_code), facts=facts)

    async def recover(self, args: BashStopArgs, started: ToolStarted, context: Context) -> Result | None:
        """Stopping twice is stopping once."""
        return None
