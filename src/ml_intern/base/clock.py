"""Time as a port: wall time in integer milliseconds and an awaitable sleep. Knows no event loop policy."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the inside asks about time."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`; cancellable."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        await asyncio.sleep(seconds)


class TestClock:
    """A clock for tests: time moves only when someone sleeps or `tick` is called."""

    __test__ = False

    def __init__(self, start_ms: int = 1_800_000_000_000) -> None:
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """The current fake time."""
        return self._now_ms

    def tick(self, milliseconds: int) -> None:
        """Move time forward."""
        self._now_ms += milliseconds

    async def sleep(self, seconds: float) -> None:
        """Move time forward by `seconds` and yield once."""
        self.tick(round(seconds * 1000))
        await asyncio.sleep(0)
