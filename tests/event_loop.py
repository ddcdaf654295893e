"""Watches an event loop from a thread: what ran when it stood still. Knows no test."""

import asyncio
import sys
import threading
import time
import traceback


class LoopWatch:
    """Pings the loop that started it and notes each time that an answer took longer than `limit_s`, with the stack."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.blocks: list[tuple[float, str]] = []
        self._answered = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread.start()

    def stop(self) -> None:
        """Must be called on the loop, so that a block that has just ended is still seen."""
        self._stopping.set()
        self._answered.set()
        self._thread.join()

    def report(self) -> str:
        return "\n".join(f"{seconds:.2f} s in:\n{stack}" for seconds, stack in self.blocks)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._answered.clear()
            asked = time.perf_counter()
            self._loop.call_soon_threadsafe(self._answered.set)
            if not self._answered.wait(self.limit_s):
                stack = "".join(traceback.format_stack(sys._current_frames()[self._watched]))
                self._answered.wait()
                self.blocks.append((time.perf_counter() - asked, stack))
            self._stopping.wait(self.limit_s / 10)
