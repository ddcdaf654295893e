"""OpenAI-compatible chat completions: one streamed attempt, its errors typed. Knows no retry and no purse."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from ml_intern.base.errors import BadRequest, ModelError, Overflow
from ml_intern.model.catalog import Endpoint
from ml_intern.model.effort import chat_fields, left_after, names_it, nearest, taken
from ml_intern.model.learned import Learned, Lesson
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire.assemble import Assembly
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.exchange import IDLE_S, Exchange, LoadImage
from ml_intern.model.wire.reading import Reading
from ml_intern.model.wire.screen import Screen
from ml_intern.model.wire.spoken import Speaker, has_no_tools
from ml_intern.record.events import Effort


class ChatModel:
    """One session's access to one model of one server. Implements `port.Model`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        load_image: LoadImage | None = None,
        idle_s: float = IDLE_S,
        has_tools: bool = True,
        lesson: Lesson | None = None,
        effort: Effort | None = None,
    ) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two. `has_tools`: whether the
        model has calls of its own; where it turns out that it has not, they are put into words from then on, and
        `lesson` gets to know it. `effort`: how much it is to think; what it refuses of that `lesson` gets to know, too.
        """
        self._effort: Effort | None = effort
        self._lesson = lesson or Lesson()
        self._speaker = None if has_tools and self._lesson.learned.tools else Speaker()
        self._endpoint = endpoint
        self._encoder = Encoder(endpoint)
        self._load_image = load_image
        key = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
        # https://huggingface.co/docs/inference-providers/pricing#organization-billing
        payer = {"x-hf-bill-to": endpoint.bill_to} if endpoint.bill_to else {}
        self._exchange = Exchange(endpoint, "/chat/completions", {**key, **payer}, idle_s)

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        taught, has_learned = self._lesson.learned, False
        try:
            async with aclosing(self._attempt(request)) as stream:
                async for item in stream:
                    yield item
        except ModelError as error:
            if isinstance(error, Overflow):
                self._lesson.overflowed(error.what)
            has_learned = self._learns(error, request, taught)
            if not has_learned:
                raise
        if has_learned:
            # The refusal cost nothing, and the next one would be another.
            async with aclosing(self.ask(request)) as stream:
                async for item in stream:
                    yield item

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    @property
    def _sent(self) -> Effort | None:
        """The effort that is asked for: the nearest one that the model takes."""
        takes = taken(self._endpoint.provider.id, self._lesson.learned.efforts)
        return nearest(self._effort, takes) if self._effort else None

    def _learns(self, error: ModelError, request: Request, taught: Learned) -> bool:
        """Whether the next request will be another one; what was refused was made by what had been `taught`."""
        learned, sent = self._lesson.learned, self._sent
        is_refused = isinstance(error, BadRequest) and not error.may_be_billed
        if self._speaker is None and request.tools and has_no_tools(error):
            self._speaker = Speaker()
            self._lesson.learned = replace(learned, tools=False)
            return True
        if is_refused and learned != taught:
            # Lanes ask side by side: another one has learned it meanwhile.
            return True
        if is_refused and sent and names_it(error.what, sent):
            left = left_after(error.what, sent, self._endpoint.provider.id, learned.efforts)
            self._lesson.learned = replace(learned, efforts=left)
            return True
        if is_refused and learned.marks and "cache_control" in error.what:
            self._lesson.learned = replace(learned, marks=False)
            return True
        return False

    async def _attempt(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        sent = self._speaker.said(request) if self._speaker else request
        more = chat_fields(self._endpoint.provider.id, self._sent)
        marks = self._lesson.learned.marks
        body = self._encoder.body(sent, await self._pictures(sent), more, is_marked=marks)
        is_routed = self._endpoint.provider.session == "x-hf-session-id"
        headers = {"x-hf-session-id": request.session} if is_routed else {}
        screen = Screen(request.tools, is_spoken=self._speaker is not None)
        async with aclosing(self._exchange.stream(body, headers, self._reading)) as stream:
            async for item in stream:
                for each in screen.show(item):
                    yield each

    def _reading(self, is_whole: bool) -> Reading:  # noqa: FBT001 - its caller has no name for it
        return Reading(self._endpoint, Assembly(), _of_whole if is_whole else None)

    async def _pictures(self, request: Request) -> dict[str, bytes]:
        load = self._load_image
        return {image.sha: await load(image) for image in self._encoder.new_images(request)} if load else {}


def _of_whole(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [reply] if "choices" in reply else []
