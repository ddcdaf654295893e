"""The commands that a session left running, as its loop and its doors see them: ends that nobody has told, and a stop.

Knows no call. What it says, it reads off the commands' own folders.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection

from ml_intern.base.errors import SandboxError
from ml_intern.sandbox.commands import Commands, Ended, Running
from ml_intern.sandbox.paths import Roots
from ml_intern.tools import background, marks
from ml_intern.tools.marks import Mark

_HALTED_WITHIN_S = 5.0

Tell = Callable[[str], Awaitable[object]]


class Watch:
    """Of one session; `after` says how to look after a command."""

    def __init__(self, commands: Commands, roots: Roots, after: str = "") -> None:
        self._commands = commands
        self._roots = roots
        self._after = after
        self._halted: frozenset[str] = frozenset()

    async def news(self, lane: str, tell: Tell, done: Collection[str] = ()) -> bool:
        """Tell `lane` which commands that it left running have ended since the last time, and which of its sub-agents
        that are `done`; whether there were any.

        What is told is forgotten only afterwards: a crash in between makes it be told again.
        """
        ended = [(key, mark, each) for key, mark, each in await self._ends() if mark.lane in {lane, *done}]
        if not ended:
            return False
        lines = [await asyncio.to_thread(self._words, lane, key, mark, each) for key, mark, each in ended]
        await tell("\n".join([*lines, self._after]).strip())
        for key, _, _ in ended:
            await asyncio.to_thread(marks.take_away, self._commands.folder, key)
        return True

    async def halt(self, keys: frozenset[str] | None = None) -> None:
        """Stop these commands, or all: the turn that they belong to was stopped."""
        with contextlib.suppress(SandboxError, TimeoutError):
            async with asyncio.timeout(_HALTED_WITHIN_S):
                running = await self._commands.running()
                halting = frozenset(running) if keys is None else keys.intersection(running)
                self._halted |= halting
                for key in halting:
                    await self._commands.stop(key)

    def halted(self) -> frozenset[str]:
        """Those that a stop has ended, or is about to."""
        return self._halted

    async def left(self) -> list[tuple[str, str]]:
        """Id and command line of each that runs, or that was stopped and not yet told of.

        Raises:
            SandboxError: it cannot be asked.
        """
        folder = self._commands.folder
        runs = await background.running(self._commands, folder)
        stopped = [(key, mark.title) for key, mark, each in await self._ends() if each.reason == "stopped"]
        return [*runs, *(each for each in stopped if each not in runs)]

    async def _ends(self) -> list[tuple[str, Mark, Ended]]:
        if not marks.any_left(self._commands.folder):
            return []
        found = await asyncio.to_thread(marks.marks, self._commands.folder)
        ends = [(key, mark, await self._ended(key)) for key, mark in found.items()]
        return [(key, mark, each) for key, mark, each in ends if each is not None]

    async def _ended(self, key: str) -> Ended | None:
        with contextlib.suppress(SandboxError):
            match await self._commands.find(key):
                case Ended() as ended:
                    return ended
                case Running() | None:
                    return None
        return None

    def _words(self, lane: str, key: str, mark: Mark, ended: Ended) -> str:
        stopped = [f"It was stopped with the turn, after {ended.duration_s:.1f} s."] * (ended.reason == "stopped")
        notes = [*(stopped or background.notes_of(ended)), *background.settle(self._roots, ended.output_path.parent)]
        said = " ".join(notes).encode(errors="replace").decode()
        # What a sub-agent calls it is no word of ours: only its report, which is framed, says that.
        name = f"({mark.description or mark.title})" if mark.lane == lane else f"of {mark.lane}"
        return f"Command {key} in the background {name} is over. {said}"
