"""Anthropic messages over HTTP: one streamed attempt, its errors typed. Knows no retry and no purse."""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from ml_intern.base.errors import BadRequest
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire import errors
from ml_intern.model.wire.blocks import Blocks
from ml_intern.model.wire.exchange import IDLE_S, Exchange, LoadImage
from ml_intern.model.wire.shapes import fields, items
from ml_intern.model.wire.sse import Events, Malformed
from ml_intern.model.wire.turns import TurnEncoder

VERSION = "2026-10-21"
"""https://platform.claude.com/docs/en/api/versioning."""

_STALE = re.compile(r"signature|thinking(?:`)? block", re.IGNORECASE)
_TOO_LONG = re.compile(r"max_tokens: \d+ > (\d+)")


class MessagesModel:
    """One session's access to one model of one server. Implements `port.Model`."""

    def __init__(self, endpoint: Endpoint, *, load_image: LoadImage | None = None, idle_s: float = IDLE_S) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two."""
        self._endpoint = endpoint
        self._encoder = TurnEncoder(endpoint)
        self._load_image = load_image
        self._exchange = Exchange(endpoint, "/messages", _headers(endpoint), idle_s)

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        A refusal that names what can be left out is no failure: it costs nothing, and the request is sent without it.

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        body, has_learned = self._encoder.body(request, await self._pictures(request)), False
        try:
            async with aclosing(self._exchange.stream(body, {}, self._reading)) as stream:
                async for item in stream:
                    yield item
        except BadRequest as error:
            has_learned = not error.may_be_billed and self._learns(error)
            if not has_learned:
                raise
        if has_learned:
            async with aclosing(self.ask(request)) as stream:
                async for item in stream:
                    yield item

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    def _learns(self, error: BadRequest) -> bool:
        """Whether the next request will be another one."""
        if most := _TOO_LONG.search(error.what):
            is_news = self._encoder.most_output is None
            self._encoder.most_output = int(most.group(1))
            return is_news
        if self._encoder.thinks and _STALE.search(error.what):
            # Thinking of another model or account, or changed when a secret in it was hidden.
            self._encoder.thinks = False
            self._encoder.forget()
            return True
        return False

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
        self._blocks = Blocks()
        self._whole: list[bytes] | None = [] if is_whole else None

    @property
    def is_done(self) -> bool:
        """Whether the server has said that nothing follows."""
        return self._blocks.is_done or self._events.done

    @property
    def ends(self) -> bool:
        """Whether the server has ended the reply."""
        return self.is_done or bool(self._blocks.finish)

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
        return self._blocks.take()

    def keep(self, data: bytes) -> None:
        """Read what follows the end: it can add, but no longer spoil."""
        with suppress(Malformed):
            for event in self._events.read(data):
                self._blocks.add(event)

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
        return self._blocks.take(ends=True)

    def finished(self) -> Finished:
        """The whole reply."""
        return self._blocks.finished()

    def _of_whole(self, body: bytes) -> list[dict[str, Any]]:
        try:
            reply = fields(json.loads(body))
        except (ValueError, RecursionError):
            # Some stream all the same, and only call it JSON.
            return self._events.read(body)
        if "content" not in reply:
            return [{"error": reply.get("error") or reply or "an answer without a reply"}]
        starts = [
            {"type": "content_block_start", "index": index, "content_block": block}
            for index, block in enumerate(items(reply["content"]))
        ]
        delta = {"type": "message_delta", "delta": {"stop_reason": reply.get("stop_reason")}}
        return [{"type": "message_start", "message": reply}, *starts, delta, {"type": "message_stop"}]

    def _add(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if (event.get("error") or event.get("type") == "error") and not self._blocks.finish:
                raise errors.from_stream(self._endpoint, event)
            self._blocks.add(event)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"anthropic-version": VERSION}
    if endpoint.key:
        headers["x-api-key"] = endpoint.key
        if not endpoint.provider.prices:
            # Gateways that only resemble the API want the key as everybody else does.
            headers["authorization"] = f"Bearer {endpoint.key}"
    return headers
