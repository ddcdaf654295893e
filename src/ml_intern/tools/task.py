"""Hands a piece of work to a sub-agent with fewer tools. Knows no loop and no model."""

from typing import Annotated

from msgspec import Meta

from ml_intern.base.errors import ToolFailed
from ml_intern.record.events import ToolStarted
from ml_intern.toolkit.blobs import Blobs
from ml_intern.toolkit.schema import Arguments
from ml_intern.toolkit.spawn import Commission, Spawn
from ml_intern.toolkit.tool import Context, Prepared, Result, Waits
from ml_intern.tools import lanes
from ml_intern.tools.texts import text_of

DEFAULT_STEPS = 40
MOST_STEPS = 200
_MOST_FILES = 50


class TaskArgs(Arguments, frozen=True):
    """What the model sends."""

    task: Annotated[str, Meta(min_length=1, max_length=8_000, description="The work, clear by itself.")]
    context: Annotated[str, Meta(max_length=20_000, description="What is known and tried so far.")] = ""
    files: Annotated[tuple[str, ...], Meta(max_length=_MOST_FILES, description="Files it is about.")] = ()
    tools: Annotated[tuple[str, ...], Meta(description="Only these of your tools. Empty: all it can have.")] = ()
    instructions: Annotated[str, Meta(max_length=8_000, description="How it is to work: joins its prompt.")] = ""
    max_steps: Annotated[int, Meta(ge=1, le=MOST_STEPS, description="Most replies.")] = DEFAULT_STEPS
    budget: lanes.Share = None


class Task:
    """See task.md. `tools`: what a sub-agent may be given; `left`: what it left running, in words."""

    name = "task"
    args = TaskArgs

    def __init__(
        self, spawn: Spawn, blobs: Blobs, tools: tuple[str, ...], left: lanes.Left = lanes.nothing_left
    ) -> None:
        self._left = left
        self._spawn = spawn
        self._blobs = blobs
        self._tools = tools
        self.text = text_of(__file__, steps=DEFAULT_STEPS, most=MOST_STEPS)

    async def prepare(self, args: TaskArgs, context: Context) -> Prepared:
        """What is to be done, with what.

        Raises:
            ToolFailed: no task, a sub-agent asks, or a tool is named that it cannot have.
        """
        return lanes.prepared(self._commission(args, context))

    async def run(self, prepared: Prepared, context: Context) -> Result | Waits:
        """Its report."""
        return await lanes.answer(self._spawn, self._blobs, prepared.payload, context, self._left)

    async def recover(self, args: TaskArgs, started: ToolStarted, context: Context) -> Result | Waits | None:
        """Go on with its lane."""
        if not self._spawn.is_open(context):
            return None
        commission = self._commission(args, context)
        return await lanes.answer(self._spawn, self._blobs, commission, context, self._left)

    def _commission(self, args: TaskArgs, context: Context) -> Commission:
        there = lanes.offered(self._tools, context)
        if unknown := [name for name in args.tools if name not in there]:
            raise ToolFailed(f"A sub-agent cannot be given {unknown[0]!r}.", f"Name some of these: {', '.join(there)}.")
        said, tools = lanes.said(args.task, args.context, args.files), args.tools or there
        task, instructions = args.task.strip(), args.instructions
        budget = lanes.share(args.budget)
        return Commission(self.name, task, said, tools, args.max_steps, instructions=instructions, budget=budget)
