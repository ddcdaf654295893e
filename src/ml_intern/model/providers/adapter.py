"""A provider through pydantic-ai's model layer: one streamed attempt, its errors typed. Knows no retry and no purse.

Importing it costs seconds: only once such a provider is chosen, and in a thread.
"""

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AsyncExitStack, aclosing
from inspect import signature
from typing import Any, TypeVar, cast

from httpx2 import HTTPError
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import AgentRunError, UnsupportedSettingWarning, UserError
from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import Model as TheirModel
from pydantic_ai.models import ModelRequestParameters, StreamedResponse, infer_model
from pydantic_ai.providers import Provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from ml_intern.base.errors import BadSettings
from ml_intern.model.adapted import ADAPTED, INSTALL, Adapted
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import CallDelta, Delta, Finished, Request, TextDelta, ThinkingDelta
from ml_intern.model.providers.failures import of_error
from ml_intern.model.providers.history import History, arguments_of, finished
from ml_intern.model.wire import errors
from ml_intern.model.wire.exchange import IDLE_S, LoadImage
from ml_intern.model.wire.screen import Screen
from ml_intern.record.events import Effort
from ml_intern.record.messages import Reply

# What a provider has no setting for we do without: the bound on a reply is none of these.
warnings.filterwarnings("ignore", category=UnsupportedSettingWarning)

_BROKEN = (ValueError, LookupError, TypeError, AttributeError, AssertionError, OSError, HTTPError)
"""What clients raise over an answer that is nonsense, or a connection that broke."""


_Given = TypeVar("_Given")


class AdaptedModel:
    """One session's access to one model. Implements `port.Model`."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        load_image: LoadImage | None = None,
        idle_s: float = IDLE_S,
        model: TheirModel | None = None,
        effort: Effort | None = None,
    ) -> None:
        """`idle_s`: how long the server may be silent, before its first word and between two. `model` is asked instead
        of the one that the endpoint names.

        Raises:
            BadSettings: what asks this provider is not installed, or it wants more settings.
        """
        self._open = AsyncExitStack()
        self._endpoint = endpoint
        self._load_image = load_image
        self._settings = ModelSettings(max_retries=0, timeout=idle_s, cache=True)
        if effort is not None:
            # What the model does not know of it, their layer leaves out.
            self._settings["thinking"] = False if effort == "off" else effort
        self._model = model or make(endpoint, self._open)
        self._history = History(ADAPTED[endpoint.provider.id].kind, self._model.system)
        self._pictures: dict[str, bytes] = {}
        self._is_open = False

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        has_begun = False
        try:
            async with aclosing(self._attempt(request)) as stream:
                async for item in stream:
                    has_begun = True
                    yield item
        except (AgentRunError, UserError) as error:
            raise of_error(self._endpoint, error, has_begun=has_begun) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._open.aclose()

    @property
    def _idle_s(self) -> float:
        return cast("float", self._settings.get("timeout", IDLE_S))

    async def _attempt(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        if not self._is_open:
            self._is_open = True
            await self._open.enter_async_context(self._model)
        await self._load(request)
        screen = Screen(request.tools, is_spoken=False)
        told = [each.told_to(self._endpoint.id) if isinstance(each, Reply) else each for each in request.messages]
        messages = self._history.of(request.system, told, self._pictures)
        settings: ModelSettings = {**self._settings, "max_tokens": request.max_output}
        tools = [
            # The schema goes as it is: what is strict rewrites it.
            ToolDefinition(name=each.name, parameters_json_schema=each.parameters, description=each.text, strict=False)
            for each in request.tools
        ]
        parameters = ModelRequestParameters(function_tools=tools, allow_text_output=True)
        stack = AsyncExitStack()
        async with stack:
            opening = stack.enter_async_context(
                model_request_stream(
                    self._model, messages, model_settings=settings, model_request_parameters=parameters
                )
            )
            response = await self._within(opening)
            async for delta in self._deltas(response):
                for each in screen.show(delta):
                    yield each
            for each in screen.show(finished(self._whole(response))):
                yield each

    def _whole(self, response: StreamedResponse) -> ModelResponse:
        reply = response.get()
        if reply.finish_reason == "error":
            raise errors.cut(self._endpoint, f"it ended with {_end_of(reply) or 'an error'}")
        # What has no address has no connection that could break.
        if reply.provider_url and reply.finish_reason is None and not _end_of(reply):
            raise errors.cut(self._endpoint, "the connection was closed before its end")
        return reply

    async def _deltas(self, response: StreamedResponse) -> AsyncIterator[Delta]:
        events, calls = aiter(response), _Calls()
        while True:
            try:
                event = await self._within(anext(events))
            except StopAsyncIteration:
                return
            if delta := calls.delta_of(event):
                yield delta

    async def _within(self, work: Awaitable[_Given]) -> _Given:
        """What the client gives, unless the server is silent for too long, or says what the client does not grasp."""
        try:
            async with asyncio.timeout(self._idle_s):
                return await work
        except TimeoutError as error:
            raise errors.cut(self._endpoint, f"it was silent for {self._idle_s:.0f} s") from error
        except UserError:
            raise
        except _BROKEN as error:
            raise errors.cut(self._endpoint, f"{type(error).__name__}: {error}") from error

    async def _load(self, request: Request) -> None:
        if self._load_image is None:
            return
        for message in request.messages:
            for image in () if isinstance(message, Reply) else message.images:
                if image.sha not in self._pictures:
                    self._pictures[image.sha] = await self._load_image(image)


def _end_of(reply: ModelResponse) -> str:
    """The server's own word for the end, empty where it never said one."""
    return str((reply.provider_details or {}).get("finish_reason") or "")


class _Calls:
    """Events as deltas; a call's number is its place among the calls, not among the parts."""

    def __init__(self) -> None:
        self._calls: dict[int, int] = {}

    def delta_of(self, event: ModelResponseStreamEvent) -> Delta | None:
        match event:
            case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                return TextDelta(text) if text else None
            case (
                PartStartEvent(part=ThinkingPart(content=text))
                | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
            ):
                return ThinkingDelta(text) if text else None
            case PartStartEvent(index=index, part=ToolCallPart(tool_name=name) as part):
                self._calls[index] = len(self._calls)
                return CallDelta(self._calls[index], name, arguments_of(part) if part.args else "")
            case PartDeltaEvent(index=index, delta=ToolCallPartDelta(tool_name_delta=name, args_delta=arguments)):
                said = arguments if isinstance(arguments, str) else ""
                return CallDelta(self._calls.get(index, 0), name or "", said) if name or said else None
            case _:
                return None


def make(endpoint: Endpoint, closing: AsyncExitStack) -> TheirModel:
    """The model that an endpoint names. What it does not close itself `closing` does.

    Raises:
        BadSettings: what asks this provider is not installed, or it wants more settings.
    """
    row = ADAPTED[endpoint.provider.id]
    try:
        provider = _provider(row, endpoint, closing)
        return infer_model(f"{row.kind}:{endpoint.model}", provider_factory=lambda _: provider)
    except ImportError as error:
        what = f"{row.title} is asked through the extra [providers], which is not installed ({error.name or error})."
        raise BadSettings(what, f"Run `{INSTALL}`, or choose another model with --model.") from error
    except (UserError, ValueError) as error:
        said = " ".join(str(error).replace(endpoint.key or "\0", "[key]").split())
        raise BadSettings(f"{row.title} cannot be asked like this: {said.rstrip('.')}.", _settings(row)) from error


def _provider(row: Adapted, endpoint: Endpoint, closing: AsyncExitStack) -> Provider[Any]:
    their_class = infer_provider_class(row.kind)
    is_elsewhere = endpoint.base_url and endpoint.base_url != row.base_url
    taken: dict[str, Any] = {row.takes_key: endpoint.key} if row.takes_key and endpoint.key else {}
    if is_elsewhere and row.takes_base:
        taken[row.takes_base] = endpoint.base_url
        if endpoint.loopback and not endpoint.key and row.takes_key:
            taken[row.takes_key] = "none"  # a server on this machine wants none, the class does
    elif is_elsewhere and "openai_client" in signature(their_class).parameters:
        from openai import AsyncOpenAI  # noqa: PLC0415 - not every one of the table needs it

        client = AsyncOpenAI(api_key=endpoint.key or "none", base_url=endpoint.base_url)
        closing.push_async_callback(client.close)
        taken = {"openai_client": client}
    return their_class(**taken)


def _settings(row: Adapted) -> str:
    if row.keyless:
        return f"It takes {row.keyless}."
    return f"Set what it names, or see https://pydantic.dev/docs/ai/models/{row.kind}/."
