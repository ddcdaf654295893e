"""Rings when the time of the open turn is up; each turn has its own. Knows no command and no task."""

import asyncio
from collections.abc import Callable

from ml_intern.base.clock import Clock
from ml_intern.record.events import Entry
from ml_intern.record.log import Log
from ml_intern.record.view import MAIN


class TurnTimer:
    """Watches the main lane from `start` to `stop`; `ring` is told which turn it is, by its first sequence number."""

    def __init__(self, log: Log, clock: Clock, ring: Callable[[int], None]) -> None:
        self._log = log
        self._clock = clock
        self._ring = ring
        self._turn = 0
        self._handle: asyncio.TimerHandle | None = None
        self._leave: Callable[[], None] | None = None

    def start(self) -> None:
        """Time the turn that is open now, and each that opens from here on."""
        self._set()
        self._leave = self._log.read_with(self._read)

    def stop(self) -> None:
        """Ring no more."""
        if self._leave is not None:
            self._leave()
        self._cancel()

    def _read(self, entry: Entry) -> None:
        if entry.lane == MAIN and self._log.view.lane(MAIN).turn.started_seq != self._turn:
            self._set()

    def _set(self) -> None:
        self._cancel()
        turn, bounds = self._log.view.lane(MAIN).turn, self._log.view.settings.limits
        self._turn = turn.started_seq
        now_ms = self._clock.now_ms()
        left_ms = [bounds.due - now_ms] if bounds.due is not None else []
        left_ms += [bounds.max_time_s * 1000 - turn.passed_ms(now_ms)] if bounds.max_time_s is not None else []
        if left_ms and turn.open:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(max(0.0, min(left_ms) / 1000), self._ring, turn.started_seq)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
