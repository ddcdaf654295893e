"""Processes made ahead of their commands, each within groups of its own, and the groups that wait for removal.

Knows no client and no command. Imports only the standard library.
"""

import contextlib
import os
import signal
import sys
import time

from ml_intern.sandbox import groups, launch, limits, seccomp
from ml_intern.sandbox.groups import Bases, Group
from ml_intern.sandbox.launch import Launch, Waiting
from ml_intern.sandbox.limits import Limits

_SHARE_OF_MEMORY = 0.9
_REMOVED_WITHIN_S = 5.0
_REMOVE_AGAIN_S = 0.05
_TRY_AGAIN_S = 60.0
# Neither a command that starts nor who was just told that one ended should wait for this work. Most is done while a
# command begins to run: whoever waits for it leaves the processors idle.
_REFILL_AFTER_S = 0.003


class Stock:
    """At most one process waits. Times are `time.monotonic()` seconds."""

    def __init__(self, folder: str, bounds: Limits, *, walled: bool) -> None:
        self.bases: Bases = groups.find_bases()
        machine = min(limits.machine_memory_bytes(), groups.memory_bound(self.bases) or sys.maxsize)
        self.memory_bytes = bounds.memory_bytes or int(machine * _SHARE_OF_MEMORY)
        self._processes = bounds.processes
        self._seccomp = seccomp.program() if walled else b""
        self._names = groups.name_prefix(folder)
        self._leaving: list[Group] = groups.leftovers(self.bases, self._names)
        self._waiting: Waiting | None = None
        self._refill_at = 0.0

    def take(self, wanted: Launch, folder: str) -> Waiting:
        """A process that has its order: to become the command, whose spec stands in `folder`. Raises OSError."""
        waiting, self._waiting = self._waiting, None
        self._refill_at = time.monotonic() + _REFILL_AFTER_S
        if waiting and launch.order(waiting, wanted, folder):
            return waiting
        if waiting:
            self._put_away(waiting)
        fresh = self._make()
        # Should it be gone, its output and its end say why.
        launch.order(fresh, wanted, folder)
        return fresh

    def leave(self, group: Group) -> None:
        """A command ended: remove its groups as soon as they are empty."""
        self._leaving.append(group)
        self._refill_at = min(self._refill_at, time.monotonic() + _REFILL_AFTER_S)

    def tend(self, now: float) -> None:
        """Remove what can be removed, make what is missing."""
        self._leaving = [group for group in self._leaving if not group.remove()]
        if self._waiting is None and now >= self._refill_at:
            # Where it cannot be made now, the command that needs it will say so.
            self._refill_at = now + _TRY_AGAIN_S
            with contextlib.suppress(OSError):
                self._waiting = self._make()
                launch.rehearse()

    def due_at(self, now: float) -> float:
        """When `tend` has something to do next."""
        again_at = now + _REMOVE_AGAIN_S if self._leaving else sys.maxsize
        return again_at if self._waiting else min(again_at, self._refill_at)

    def close(self) -> None:
        """End the process that waits; wait a while until every group is gone."""
        if self._waiting:
            launch.release(self._waiting)
            self._put_away(self._waiting)
            self._waiting = None
        give_up_at = time.monotonic() + _REMOVED_WITHIN_S
        while self._leaving and time.monotonic() < give_up_at:
            self._leaving = [group for group in self._leaving if not group.remove()]
            time.sleep(0.01)

    def _make(self) -> Waiting:
        name = f"{self._names}{time.monotonic_ns():x}"
        group = groups.make(self.bases, name, processes=self._processes, memory_bytes=self.memory_bytes)
        try:
            return launch.prepare(group, self._seccomp, self._processes, walled=bool(self._seccomp))
        except OSError:
            self._leaving.append(group)
            raise

    def _put_away(self, waiting: Waiting) -> None:
        for number in (waiting.pipe, waiting.status):
            os.close(number)
        # It would end by itself, unless somebody stopped it.
        os.kill(waiting.pid, signal.SIGKILL)
        os.waitpid(waiting.pid, 0)
        self._leaving.append(waiting.group)
