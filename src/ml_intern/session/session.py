"""One live session: takes commands in, runs the loop as a task, stops it. Knows no door, no store and no tool."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress

from ml_intern.agent.loop import Worker, work
from ml_intern.agent.lost import close_attempt
from ml_intern.base.errors import MlInternError, SessionError
from ml_intern.base.ids import new_id
from ml_intern.record.commands import Command, Stop
from ml_intern.record.events import StopAsked, TurnEnded
from ml_intern.record.live import Live
from ml_intern.record.log import Log, Refusal
from ml_intern.record.next import Rest, Wait
from ml_intern.record.view import MAIN, View
from ml_intern.session.inbox import DUPLICATE, lane_of, stop_of, take_in
from ml_intern.session.timer import TurnTimer

_log = logging.getLogger(__name__)


class Session:
    """Doors send commands and read entries and live items; everything else is behind the record."""

    def __init__(
        self,
        worker: Worker,
        live: Live,
        halt: Callable[[frozenset[str] | None], Coroutine[None, None, None]] | None = None,
    ) -> None:
        """`halt` ends what these calls, or all (None), left running: a stop is for that, too."""
        self._worker = worker
        self._halt = halt
        self._callers = 0
        self._run: asyncio.Task[Wait | Rest] | None = None
        self._step: asyncio.Task[Wait | Rest] | None = None
        self._stops: set[asyncio.Task[None]] = set()
        self._timer = TurnTimer(worker.log, worker.clock, self._time_is_up)
        self.live = live

    @property
    def log(self) -> Log:
        """The session's log: its view and its readers."""
        return self._worker.log

    async def send(self, command: Command) -> Refusal | None:
        """Record `command`; a stop is felt at once, by sub-agents too. A refusal says why nothing was recorded;
        a repeated id is no refusal.

        Raises:
            SessionError: the record can no longer be written.
        """
        entry = await self.log.add(lambda view: take_in(view, command), lane_of(self.log.view, command))
        if isinstance(entry, Refusal):
            return None if entry is DUPLICATE else entry
        if isinstance(command, Stop):
            await self._stop(command)
        return None

    async def run(self) -> Wait | Rest:
        """Work until the main lane rests or waits for a person. Who calls while it runs waits for the same end.

        Raises:
            SessionError: the record can no longer be written.
            asyncio.CancelledError: the caller was cancelled; with the last caller the work ends, and the record
                is left as a crash would leave it.
        """
        while not self._callers and self._run is not None and not self._run.done():
            await asyncio.wait([self._run])  # Its callers have left: it is about to end.
        if self._run is None or self._run.done():
            self._run = asyncio.create_task(self._work_to_rest())
        run = self._run
        self._callers += 1
        try:
            return await asyncio.shield(run)
        finally:
            self._callers -= 1
            if not self._callers and not run.done():
                run.cancel()
                await asyncio.gather(run, return_exceptions=True)

    async def _work_to_rest(self) -> Wait | Rest:
        self._timer.start()
        try:
            pause = None
            while pause is None:
                pause = await self._run_once()
                if self._stops:
                    # What follows a stop must not be what it ends.
                    await asyncio.wait(self._stops)
            return pause
        finally:
            self._timer.stop()
            await self._end_step()

    async def _run_once(self) -> Wait | Rest | None:
        """None: a stop cut the work, and the loop must look again. Our own cancellation goes on up."""
        self._step = asyncio.create_task(self._work())
        try:
            return await self._step
        except asyncio.CancelledError:
            if self._is_cancelled():
                raise
            return None

    async def _work(self) -> Wait | Rest:
        try:
            return await work(self._worker, MAIN)
        except MlInternError:
            raise
        except Exception as error:  # A bug of ours must not lose the session: the turn ends, the log keeps the trace.
            _log.exception("the loop broke")
            what = f"ml-intern itself broke ({type(error).__name__}: {error})."
            await close_attempt(self.log, MAIN, "ml-intern broke while the model was answering.")
            await self.log.add(
                TurnEnded("failed", what, "Nothing is lost: resume the session, and report this please.")
            )
            return Rest()

    def _is_cancelled(self) -> bool:
        current = asyncio.current_task()
        return current is not None and current.cancelling() > 0

    async def _end_step(self) -> None:
        if self._step is not None and not self._step.done():
            self._step.cancel()
            await asyncio.wait([self._step])

    def _time_is_up(self, turn: int) -> None:
        self._track(asyncio.create_task(self._stop_turn(turn)))

    def _track(self, stop: asyncio.Task[None]) -> None:
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)

    async def _stop_turn(self, turn: int) -> None:
        """The turn's time is up even in mid-command; between steps a guard sees it, too."""
        stop = Stop(new_id(), "limit")
        with suppress(SessionError):  # The loop meets it at its own next entry.
            if not isinstance(await self.log.add(lambda view: stop_of(view, stop, turn)), Refusal):
                await self._stop(stop)

    async def _stop(self, stop: Stop) -> None:
        """Stop what runs, unless the turn that was meant has ended meanwhile."""
        for name, lane in self.log.view.lanes.items():
            if name != MAIN and lane.turn.open:
                await self.log.add(StopAsked(stop.id, stop.reason), name)
        if self.log.view.lane(MAIN).turn.stopping is None:
            return
        if self._step is not None and not self._step.cancelling():
            self._step.cancel()
        if self._halt is not None:
            halting = asyncio.ensure_future(self._halt(_meant(self.log.view, stop)))
            self._track(halting)
            await halting


def _meant(view: View, stop: Stop) -> frozenset[str] | None:
    """The calls whose commands a stop ends: those of the present step, or all."""
    if stop.commands or stop.reason == "limit":
        return None
    replied = [lane.turn.replied for lane in view.lanes.values() if lane.turn.open]
    return frozenset(call.id for each in replied if each is not None for call in each.reply.calls)
