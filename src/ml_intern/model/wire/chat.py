"""OpenAI-compatible chat completions: one streamed attempt, its errors typed. Knows no retry and no purse."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from ml_intern.base.errors import ModelError
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire import errors, leaked
from ml_intern.model.wire.assemble import Assembly
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.exchange import IDLE_S, Exchange, LoadImage
from ml_intern.model.wire.shapes import fields
from ml_intern.model.wire.spoken import Speaker, has_no_tools, heard
from ml_intern.model.wire.sse import Events, Malformed

# Words for a finish reason that is no end of a reply but its failure: OpenRouter, vLLM, DeepSeek, Z.ai.
_FAULTS = frozenset({"error", "abort", "aborted", "insufficient_system_resource", "network_error"})


class ChatModel:
    """One session's access to one model of one server. Implements `port.Model`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        load_image: LoadImage | None = None,
        idle_s: float = IDLE_S,
        has_tools: bool = True,
    ) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two. `has_tools`: whether the
        model has calls of its own; where it turns out that it has not, they are put into words from then on.
        """
        self._speaker = None if has_tools else Speaker()
        self._endpoint = endpoint
        self._encoder = Encoder(endpoint)
        self._load_image = load_image
        key = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        self._exchange = Exchange(endpoint, "/chat/completions", key, idle_s)

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        has_learned = False
        try:
            async with aclosing(self._attempt(request)) as stream:
                async for item in stream:
                    yield item
        except ModelError as error:
            has_learned = self._speaker is None and bool(request.tools) and has_no_tools(error)
            if not has_learned:
                raise
        if has_learned:
            # The refusal cost nothing.
            self._speaker = Speaker()
            async with aclosing(self._attempt(request)) as stream:
                async for item in stream:
                    yield item

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    async def _attempt(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        sent = self._speaker.said(request) if self._speaker else request
        body = self._encoder.body(sent, await self._pictures(sent))
        is_routed = self._endpoint.provider.session == "x-hf-session-id"
        headers = {"x-hf-session-id": request.session} if is_routed else {}
        async with aclosing(self._exchange.stream(body, headers, self._reading)) as stream:
            async for item in stream:
                whole = heard(item, request.tools) if self._speaker and isinstance(item, Finished) else item
                for each in leaked.told(whole, request.tools):
                    yield each

    def _reading(self, is_whole: bool) -> "_Reading":  # noqa: FBT001 - its caller has no name for it
        return _Reading(self._endpoint, is_whole=is_whole)

    async def _pictures(self, request: Request) -> dict[str, bytes]:
        load = self._load_image
        return {image.sha: await load(image) for image in self._encoder.new_images(request)} if load else {}


class _Reading:
    """One reply being read, from bytes to its end. `is_whole`: the server did not stream, but sends one JSON text."""

    def __init__(self, endpoint: Endpoint, *, is_whole: bool) -> None:
        self._endpoint = endpoint
        self._events = Events()
        self._assembly = Assembly()
        self._whole: list[bytes] | None = [] if is_whole else None

    @property
    def is_done(self) -> bool:
        """Whether the server has said that nothing follows."""
        return self._events.done

    @property
    def ends(self) -> bool:
        """Whether the server has ended the reply; usage may follow."""
        return self._events.done or bool(self._assembly.finish)

    def read(self, data: bytes) -> list[Delta]:
        """What `data` adds.

        Raises:
            ModelError: it is an error, or nonsense.
        """
        if self._whole is not None:
            self._whole.append(data)
            return []
        try:
            self._add(self._events.read(data))
        except Malformed as error:
            raise errors.cut(self._endpoint, f"an event is no JSON: {error}") from error
        return self._assembly.take()

    def keep(self, data: bytes) -> None:
        """Read what follows the end: it can add, but no longer spoil."""
        with suppress(Malformed):
            for event in self._events.read(data):
                self._assembly.add(event)

    def rest(self) -> list[Delta]:
        """What the end of the stream adds.

        Raises:
            ModelError: the stream ended before the reply did.
        """
        try:
            if self._whole is not None:
                self._add(self._of_whole(b"".join(self._whole)))
            self._add(self._events.rest())
        except Malformed as error:
            if not self.ends:
                raise errors.cut(self._endpoint, f"in mid-event: {error}") from error
        if not self.ends:
            raise errors.cut(self._endpoint, "the connection was closed before its end")
        return self._assembly.take(ends=True)

    def finished(self) -> Finished:
        """The whole reply."""
        return self._assembly.finished()

    def _of_whole(self, body: bytes) -> list[dict[str, Any]]:
        try:
            reply = fields(json.loads(body))
        except (ValueError, RecursionError):
            # Some stream all the same, and only call it JSON.
            return self._events.read(body)
        self._events.done = True
        return [reply if "choices" in reply else {"error": reply.get("error") or reply or "an answer without a reply"}]

    def _add(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if (event.get("error") or event.get("object") == "error") and not self._assembly.finish:
                raise errors.from_stream(self._endpoint, event)
            self._assembly.add(event)
            if self._assembly.finish in _FAULTS:
                raise errors.cut(self._endpoint, f"it ended with {self._assembly.finish!r}")
