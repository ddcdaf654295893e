"""One running command inside the supervisor: its output, its end, what is said about it.

Knows no client. Imports only the standard library.
"""

import os
import signal
import time

from ml_intern.sandbox.capture import Capture
from ml_intern.sandbox.launch import Launch, Waiting, began
from ml_intern.sandbox.limits import Limits
from ml_intern.sandbox.outcome import Outcome, Reason
from ml_intern.sandbox.processes import descendants, send

_DRAIN_S = 2.0
_KILL_AGAIN_S = 1.0


class Command:
    """Times are `time.monotonic()` seconds."""

    def __init__(self, launch: Launch, process: Waiting, capture: Capture) -> None:
        self.launch = launch
        self.process = process
        self.capture = capture
        self.group = process.group
        self._begun_at = time.monotonic()
        self._ending: tuple[Reason, float] | None = None
        self._exited: tuple[int, float] | None = None
        self._met_processes = False

    def due_at(self) -> float:
        """When `tick` has something to do next."""
        if self._exited:
            return self._exited[1] + _DRAIN_S
        return self._ending[1] if self._ending else self._begun_at + self.launch.deadline_s

    def tick(self, now: float, grace_s: float) -> None:
        """Do what is due: the deadline, the kill after the grace."""
        if self._exited or now < self.due_at():
            return
        if self._ending:
            self._kill()
            self._ending = (self._ending[0], now + _KILL_AGAIN_S)
        else:
            self.end("deadline", grace_s)

    def end(self, reason: Reason, grace_s: float) -> None:
        """SIGTERM to the whole tree now, SIGKILL after the grace; the first reason given stays."""
        if self._ending or self._exited:
            return
        self._ending = (reason, time.monotonic() + grace_s)
        # Inside a process-id namespace its first process ignores this; bubblewrap itself must live to reap.
        send(descendants(self.process.pid), signal.SIGTERM)

    def count(self, processes: int) -> None:
        """Kill the command if it has more processes: for where the kernel does not count them."""
        # The first look is cheap: nothing can be over its limit while the whole machine is not.
        if not self._exited and len(os.listdir("/proc")) > processes < len(descendants(self.process.pid)):
            self._met_processes = True
            self._kill()

    def reap(self) -> None:
        """Notice the process's end, if it ended."""
        if self._exited:
            return
        pid, status = os.waitpid(self.process.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._exited = (code if code >= 0 else 128 - code, time.monotonic())
            self.group.kill()

    def is_over(self, now: float) -> bool:
        """Ended, and nothing can be written any more."""
        return self._exited is not None and (not self.capture.is_open or now >= self.due_at())

    def outcome(self, limits: Limits, memory_bytes: int) -> Outcome:
        """How it ended; asked once, when it is over."""
        code, at = self._exited or (None, time.monotonic())
        reason: Reason = self._ending[0] if self._ending else "exited"
        notes = [self.capture.note] if self.capture.note else []
        if kills := self.group.memory_kills():
            notes.append(f"{kills} of its processes ended by the memory limit of {memory_bytes} bytes")
            reason = "memory" if reason == "exited" and code else reason
        if self._met_processes or self.group.refused_forks():
            notes.append(f"the limit of {limits.processes} processes was reached")
        if self.capture.dropped and not self.capture.note:
            notes.append(f"output beyond {limits.output_bytes} bytes was dropped")
        if reason == "exited" and not self._began():
            reason, code = "failed_to_start", None
            notes.append(self._why_not())
        kept, dropped = self.capture.kept, self.capture.dropped
        return Outcome(reason, code, kept, dropped, at - self._begun_at, "; ".join(notes))

    def close(self) -> None:
        """Let go of what is held."""
        self.capture.close()
        os.close(self.process.status)

    def _began(self) -> bool:
        return self._met_processes or began(self.process.status, walled=bool(self.launch.walls))

    def _why_not(self) -> str:
        text = b"" if self.launch.walls else os.pread(self.process.status, 4096, 0)
        return text.decode(errors="replace") or "the sandbox could not be set up: its output says why"

    def _kill(self) -> None:
        # Without this a fork bomb makes new processes as fast as they can be found.
        self._met_processes = self._met_processes or self.group.refused_forks() > 0
        self.group.refuse_forks()
        if not self.launch.walls:
            # The keeper ends the tree itself; without it orphans would stay.
            send([self.process.pid], signal.SIGTERM)
            return
        # The first would be enough, once it gets to run; the others may be too many to let it. Bubblewrap's own
        # process stays: it ends when the last of them is gone.
        send(descendants(self.process.pid) or [self.process.pid], signal.SIGKILL)
