"""Has a sub-agent find something out that may only look. Knows no loop and no model."""

from typing import Annotated

from msgspec import Meta

from ml_intern.record.events import ToolStarted
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.spawn import Commission, Spawn
from ml_intern.toolkit.tool import Context, Prepared, Result, Waits
from ml_intern.tools import lanes
from ml_intern.tools.texts import text_of

DEFAULT_STEPS = 30
MOST_STEPS = 60
_MOST_FILES = 50


class ResearchArgs(Arguments, frozen=True):
    """What the model sends."""

    task: Annotated[str, Meta(min_length=1, max_length=8_000, description="The question, clear by itself.")]
    context: Annotated[str, Meta(max_length=20_000, description="What is known and tried so far.")] = ""
    files: Annotated[tuple[str, ...], Meta(max_length=_MOST_FILES, description="Where to begin.")] = ()
    max_steps: Annotated[int, Meta(ge=1, le=MOST_STEPS, description="Most replies.")] = DEFAULT_STEPS
    budget: lanes.Share = None


class Research:
    """See research.md. `tools`: what a sub-agent may be given, all of which only look."""

    name = "research"
    args = ResearchArgs

    def __init__(self, spawn: Spawn, blobs: Blobs, tools: tuple[str, ...]) -> None:
        self._spawn = spawn
        self._blobs = blobs
        self._tools = tools
        self.text = text_of(__file__, steps=DEFAULT_STEPS, most=MOST_STEPS)

    async def prepare(self, args: ResearchArgs, context: Context) -> Prepared:
        """What is asked, of whom.

        Raises:
            ToolFailed: no question, a sub-agent asks, or nothing to look with.
        """
        return lanes.prepared(self._commission(args, context))

    async def run(self, prepared: Prepared, context: Context) -> Result | Waits:
        """Its report."""
        return await lanes.answer(self._spawn, self._blobs, prepared.payload, context)

    async def recover(self, args: ResearchArgs, started: ToolStarted, context: Context) -> Result | Waits | None:
        """Go on with its lane."""
        if not self._spawn.is_open(context):
            return None
        return await lanes.answer(self._spawn, self._blobs, self._commission(args, context), context)

    def _commission(self, args: ResearchArgs, context: Context) -> Commission:
        said, tools = lanes.said(args.task, args.context, args.files), lanes.offered(self._tools, context)
        budget = lanes.share(args.budget)
        return Commission(
            self.name, args.task.strip(), said, tools, args.max_steps, role="research", looks=True, budget=budget
        )
