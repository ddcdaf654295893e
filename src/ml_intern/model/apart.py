"""One access to a model for each conversation of a session: lanes that ask in turns do not undo each other's work.

An access keeps the wire form of one conversation's messages. Knows no wire.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from ml_intern.model.port import Delta, Finished, Model, Request

MOST_KEPT = 10
"""Accesses that are kept though nobody asks by them: those of eight lanes side by side, the main agent's, one more."""


class Apart:
    """Accesses by the request's session, made when first needed. Implements `port.Model`."""

    def __init__(self, first: Model, make: Callable[[], Model]) -> None:
        """`first` is for whoever asks first; `make` may block: it runs in a thread."""
        self._first: Model | None = first
        self._make = make
        self._found: dict[str, Model] = {}
        self._asking: Counter[str] = Counter()

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        name = request.session
        self._asking[name] += 1
        try:
            model = await self._of(name)
            async with aclosing(model.ask(request)) as stream:
                async for item in stream:
                    yield item
        finally:
            self._asking[name] -= 1
            await self._let_go()

    async def aclose(self) -> None:
        """Close the connections of all."""
        first = [] if self._first is None else [self._first]
        for model in (*first, *self._found.values()):
            await model.aclose()

    async def _of(self, name: str) -> Model:
        """The access of this conversation, from now on the one that was used last."""
        model = self._found.pop(name, None)
        if model is None:
            model, self._first = self._first, None
        if model is None:
            model = await asyncio.to_thread(self._make)
        self._found[name] = model
        return model

    async def _let_go(self) -> None:
        """Close those that were not used for longest; they can be made again."""
        # Each is chosen anew: while one is closed others come, or let go of the same.
        while (name := self._stale()) is not None:
            del self._asking[name]
            await self._found.pop(name).aclose()

    def _stale(self) -> str | None:
        if len(self._found) <= MOST_KEPT:
            return None
        return next((name for name in self._found if not self._asking[name]), None)
