"""One live session: takes commands in, runs the loop as a task, stops it. Knows no door, no store and no tool."""

import asyncio
import logging

from ml_intern.agent.loop import Worker, work
from ml_intern.base.errors import MlInternError
from ml_intern.base.ids import new_id
from ml_intern.record.commands import Command, Stop
from ml_intern.record.events import TurnEnded
from ml_intern.record.live import Live
from ml_intern.record.log import Log, Refusal
from ml_intern.record.next import Rest, Wait
from ml_intern.record.view import MAIN
from ml_intern.session.inbox import DUPLICATE, take_in

_log = logging.getLogger(__name__)


class Session:
    """Doors send commands and read entries and live items; everything else is behind the record."""

    def __init__(self, worker: Worker, live: Live) -> None:
        self._worker = worker
        self._task: asyncio.Task[Wait | Rest] | None = None
        self._stops: set[asyncio.Task[None]] = set()
        self.live = live

    @property
    def log(self) -> Log:
        """The session's log: its view and its readers."""
        return self._worker.log

    async def send(self, command: Command) -> Refusal | None:
        """Record `command`; a stop is felt at once. A refusal says why nothing was recorded;
        a repeated id is no refusal.

        Raises:
            SessionError: the record can no longer be written.
        """
        entry = await self.log.add(lambda view: take_in(view, command))
        if isinstance(entry, Refusal):
            return None if entry is DUPLICATE else entry
        if isinstance(command, Stop) and self._task is not None:
            self._task.cancel()
        return None

    async def run(self) -> Wait | Rest:
        """Work until the main lane rests or waits for a person.

        Raises:
            SessionError: the record can no longer be written.
            asyncio.CancelledError: the caller was cancelled; the record is left as a crash would leave it.
        """
        timer = self._start_timer()
        try:
            pause = await self._run_once()
            while pause is None:
                pause = await self._run_once()
            return pause
        finally:
            if timer is not None:
                timer.cancel()
            await self._end_task()

    async def _run_once(self) -> Wait | Rest | None:
        """None: a stop cancelled the task, and the loop must now close the turn. Our own cancellation goes on up."""
        self._task = asyncio.create_task(self._work())
        try:
            return await self._task
        except asyncio.CancelledError:
            if self._is_cancelled() or self.log.view.lane(MAIN).turn.stopping is None:
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
            await self.log.add(
                TurnEnded("failed", what, "Nothing is lost: resume the session, and report this please.")
            )
            return Rest()

    def _is_cancelled(self) -> bool:
        current = asyncio.current_task()
        return current is not None and current.cancelling() > 0

    async def _end_task(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _start_timer(self) -> asyncio.TimerHandle | None:
        """The turn's time is up even in mid-command; between steps a guard sees it, too."""
        bounds, turn = self.log.view.settings.limits, self.log.view.lane(MAIN).turn
        if bounds.max_time_s is None or not turn.open:
            return None
        passed_s = (self._worker.clock.now_ms() - turn.started_ms) / 1000
        return asyncio.get_running_loop().call_later(max(0.0, bounds.max_time_s - passed_s), self._time_is_up)

    def _time_is_up(self) -> None:
        stop = asyncio.ensure_future(self._stop_for_time())
        self._stops.add(stop)
        stop.add_done_callback(self._stops.discard)

    async def _stop_for_time(self) -> None:
        await self.send(Stop(new_id(), "limit"))
