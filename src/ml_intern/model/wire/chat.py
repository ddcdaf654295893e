"""OpenAI-compatible chat completions: one streamed attempt, its errors typed. Knows no retry and no purse."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ml_intern.base.errors import ModelError
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire import leaked
from ml_intern.model.wire.assemble import Assembly
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.exchange import IDLE_S, Exchange, LoadImage
from ml_intern.model.wire.reading import Reading
from ml_intern.model.wire.spoken import Speaker, has_no_tools, heard


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

    def _reading(self, is_whole: bool) -> Reading:  # noqa: FBT001 - its caller has no name for it
        return Reading(self._endpoint, Assembly(), _of_whole if is_whole else None)

    async def _pictures(self, request: Request) -> dict[str, bytes]:
        load = self._load_image
        return {image.sha: await load(image) for image in self._encoder.new_images(request)} if load else {}


def _of_whole(reply: dict[str, Any]) -> list[dict[str, Any]]:
    return [reply] if "choices" in reply else []
