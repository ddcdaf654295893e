"""Anthropic messages over HTTP: one streamed attempt, its errors typed. Knows no retry and no purse."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from ml_intern.base.errors import BadRequest, Overflow
from ml_intern.model.catalog import Endpoint
from ml_intern.model.effort import Fields, is_adaptive, left_after, message_fields, names_it, nearest, taken
from ml_intern.model.learned import Learned, Lesson
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire.blocks import Blocks
from ml_intern.model.wire.exchange import IDLE_S, Exchange, LoadImage
from ml_intern.model.wire.reading import Reading
from ml_intern.model.wire.shapes import items
from ml_intern.model.wire.turns import TurnEncoder
from ml_intern.record.events import Effort
from ml_intern.record.messages import Asked

VERSION = "2026-10-21"
"""https://platform.claude.com/docs/en/api/versioning."""

# Within a budget a turn cannot begin to think after its first calls.
_NOT_BEGUN = re.compile(r"must start with a thinking block|Expected `?thinking", re.IGNORECASE)
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
        effort: Effort | None = None,
    ) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two. `lesson`: what is known
        of the server, and gets what it is found not to take. `effort`: how much the model is to think.
        """
        self._effort: Effort | None = effort
        self._quiet_for = -1
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
        taught, more = self._lesson.learned, self._thinking(request)
        body, has_learned = self._encoder.body(request, await self._pictures(request), more), False
        try:
            async with aclosing(self._exchange.stream(body, {}, self._reading)) as stream:
                async for item in stream:
                    yield item
        except Overflow as error:
            self._lesson.overflowed(error.what)
            raise
        except BadRequest as error:
            has_learned = not error.may_be_billed and self._learns(error, request, taught)
            if not has_learned:
                raise
        if has_learned:
            async with aclosing(self.ask(request)) as stream:
                async for item in stream:
                    yield item

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    @property
    def _sent(self) -> Effort | None:
        """The effort that is asked for: the nearest one that the model takes."""
        return nearest(self._effort, taken("anthropic", self._lesson.learned.efforts)) if self._effort else None

    @property
    def _adaptive(self) -> bool:
        learned = self._lesson.learned.adaptive
        return is_adaptive(self._endpoint.model) if learned is None else learned

    def _thinking(self, request: Request) -> Fields:
        if self._quiet_for == _asked(request):
            return {}
        return message_fields(self._sent, self._encoder.most_output(request), adaptive=self._adaptive)

    def _learns_effort(self, error: BadRequest) -> bool:
        """A model that thinks by effort says so of a budget, and the other way round; else it is the value."""
        learned, sent = self._lesson.learned, self._sent
        if sent is None or not names_it(error.what, sent):
            return False
        is_form = sent != "off" and re.search(r"adaptive" if self._adaptive else r"budget_tokens|enabled", error.what)
        if is_form and learned.adaptive is None:
            self._lesson.learned = replace(learned, adaptive=not self._adaptive)
        else:
            left = left_after(error.what, sent, "anthropic", learned.efforts)
            self._lesson.learned = replace(learned, efforts=() if is_form else left)
        return True

    def _learns(self, error: BadRequest, request: Request, taught: Learned) -> bool:
        """Whether the next request will be another one; what was refused was made by what had been `taught`."""
        if self._lesson.learned != taught:
            # Lanes ask side by side: another one has learned it meanwhile.
            return True
        if most := _TOO_LONG.search(error.what):
            known, told = self._lesson.learned.most_output, int(most.group(1))
            self._lesson.learned = replace(self._lesson.learned, most_output=told)
            return known is None or told < known
        if self._lesson.learned.marks and _NO_MARKS.search(error.what):
            self._lesson.learned = replace(self._lesson.learned, marks=False)
            return True
        if self._thinking(request) and _NOT_BEGUN.search(error.what):
            # The calls that are open were made by a model that thinks otherwise: thinking waits for a new message.
            self._quiet_for = _asked(request)
            return True
        if self._learns_effort(error):
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


def _asked(request: Request) -> int:
    """How often something was said to the model."""
    return sum(isinstance(message, Asked) for message in request.messages)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"anthropic-version": VERSION}
    if endpoint.key:
        headers["x-api-key"] = endpoint.key
        if not endpoint.provider.prices:
            # Gateways that only resemble the API want the key as everybody else does.
            headers["authorization"] = f"Bearer {endpoint.key}"
    return headers
