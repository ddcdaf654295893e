"""Anthropic messages over HTTP: one streamed attempt, its errors typed. Knows no retry and no purse."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from ml_intern.base.errors import BadRequest
from ml_intern.model.catalog import Endpoint
from ml_intern.model.learned import Lesson
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire.blocks import Blocks
from ml_intern.model.wire.exchange import IDLE_S, Exchange, LoadImage
from ml_intern.model.wire.reading import Reading
from ml_intern.model.wire.shapes import items
from ml_intern.model.wire.turns import TurnEncoder

VERSION = "2026-10-21"
"""https://platform.claude.com/docs/en/api/versioning."""

_STALE = re.compile(r"signature|thinking(?:`)? block", re.IGNORECASE)
# Gateways that only resemble the API.
_NO_MARKS = re.compile(r"cache_control", re.IGNORECASE)
_TOO_LONG = re.compile(r"max_tokens: \d+ > (\d+)")


class MessagesModel:
    """One session's access to one model of one server. Implements `port.Model`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        load_image: LoadImage | None = None,
        idle_s: float = IDLE_S,
        lesson: Lesson | None = None,
    ) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two. `lesson`: what is known
        of the server, and gets what it is found not to take.
        """
        self._lesson = lesson or Lesson()
        self._endpoint = endpoint
        self._encoder = TurnEncoder(endpoint, self._lesson)
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
            known, told = self._lesson.learned.most_output, int(most.group(1))
            self._lesson.learned = replace(self._lesson.learned, most_output=told)
            return known is None or told < known
        if self._lesson.learned.marks and _NO_MARKS.search(error.what):
            self._lesson.learned = replace(self._lesson.learned, marks=False)
            return True
        if self._encoder.thinks and _STALE.search(error.what):
            # Thinking of another model or account, or changed when a secret in it was hidden.
            self._encoder.thinks = False
            self._encoder.forget()
            return True
        return False

    def _reading(self, is_whole: bool) -> Reading:  # noqa: FBT001 - its caller has no name for it
        return Reading(self._endpoint, Blocks(), _of_whole if is_whole else None)

    async def _pictures(self, request: Request) -> dict[str, bytes]:
        load = self._load_image
        return {image.sha: await load(image) for image in self._encoder.new_images(request)} if load else {}


def _of_whole(reply: dict[str, Any]) -> list[dict[str, Any]]:
    if "content" not in reply:
        return []
    starts = [
        {"type": "content_block_start", "index": index, "content_block": block}
        for index, block in enumerate(items(reply["content"]))
    ]
    delta = {"type": "message_delta", "delta": {"stop_reason": reply.get("stop_reason")}}
    return [{"type": "message_start", "message": reply}, *starts, delta, {"type": "message_stop"}]


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"anthropic-version": VERSION}
    if endpoint.key:
        headers["x-api-key"] = endpoint.key
        if not endpoint.provider.prices:
            # Gateways that only resemble the API want the key as everybody else does.
            headers["authorization"] = f"Bearer {endpoint.key}"
    return headers
