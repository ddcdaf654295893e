"""One limiter for each key at each server: how many requests run at once, and a pause of all when one is told to wait.

Knows no wire and makes no second attempt: what failed is asked again by whoever asked.
"""

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

from ml_intern.base.errors import ModelError, RateLimited
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished, Model, Request

MOST_AT_ONCE = 16
"""Requests of one key that run at once where the server has never complained."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Where the server does not say how long: doubled with each complaint in a row."""
PATIENCE_S = 30.0
"""A longer pause is not waited for here: who asked is told, so that it stands in the record and a person sees it."""

_OVERLOADED = 529


class Limiter:
    """First come, first served. After a complaint half as many run at once, then one more for each good answer."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._now = float(most)
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._until = 0.0
        self._complaints = 0
        self._wake: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """A place among those that may ask, for as long as the block lasts. A cancelled wait leaves no trace.

        What the block raises is looked at: a rate limit pauses everyone.

        Raises:
            RateLimited: the key is paused for longer than is waited here.
        """
        await self._enter()
        begun = self._clock()
        try:
            yield
        except ModelError as error:
            self._note(error, begun)
            raise
        else:
            self._relax()
        finally:
            self._running -= 1
            self._let_in()

    async def _enter(self) -> None:
        left = self._until - self._clock()
        if left > PATIENCE_S:
            what = f"This key is paused for another {math.ceil(left)} s: the server asked for it."
            raise RateLimited(what, "Wait, or choose another model with --model.", retry_after_s=left)
        if self._waiting or not self._is_free():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            self._let_in()
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    # Its place was given to it in the very moment: the next one has it.
                    self._running -= 1
                elif turn in self._waiting:
                    self._waiting.remove(turn)
                self._let_in()
                raise
        else:
            self._running += 1

    def _is_free(self) -> bool:
        return self._running < int(self._now) and self._clock() >= self._until

    def _let_in(self) -> None:
        """Everyone whose turn it is goes on; where a pause holds them, they are looked at again at its end."""
        while self._waiting and self._is_free():
            turn = self._waiting.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)
        left = self._until - self._clock()
        if self._waiting and left > 0 and (self._wake is None or self._wake.cancelled()):
            self._wake = asyncio.get_running_loop().call_later(left, self._awake)

    def _awake(self) -> None:
        self._wake = None
        self._let_in()

    def _note(self, error: ModelError, begun: float) -> None:
        if not isinstance(error, RateLimited) and error.status != _OVERLOADED and error.retry_after_s is None:
            return
        now = self._clock()
        if begun >= self._until:
            # The first complaint of those that ran side by side counts once.
            self._complaints += 1
            self._now = max(1.0, min(self._now, self._running) / 2)
        told = error.retry_after_s
        usual = min(FIRST_PAUSE_S * 2 ** (self._complaints - 1), LONGEST_PAUSE_S)
        self._until = max(self._until, now + (usual if told is None else told))

    def _relax(self) -> None:
        self._complaints = 0
        self._now = min(float(self._most), self._now + 1)

    @staticmethod
    def _clock() -> float:
        return asyncio.get_running_loop().time()


class Limiters:
    """The limiters of a process, by server and key. The door that runs several sessions hands one to all of them."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._most = most
        self._found: dict[str, Limiter] = {}

    def of(self, endpoint: Endpoint) -> Limiter:
        """The one limiter of this key at this server."""
        name = f"{endpoint.provider.id}\0{endpoint.base_url}\0{endpoint.key}"
        return self._found.setdefault(hashlib.sha256(name.encode()).hexdigest(), Limiter(self._most))


class Limited:
    """A model whose requests wait for their place. Implements `port.Model`."""

    def __init__(self, model: Model, limiter: Limiter) -> None:
        self._model = model
        self._limiter = limiter

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`) when its turn has come.

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        async with self._limiter.place(), aclosing(self._model.ask(request)) as stream:
            async for item in stream:
                yield item

    async def aclose(self) -> None:
        """Close the connections."""
        await self._model.aclose()
