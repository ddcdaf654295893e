"""OpenAI-compatible chat completions over HTTP: one streamed attempt, its errors typed. Knows no retry and no purse."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from socket import gaierror
from typing import Any

import httpx2

from ml_intern.base.errors import ModelError
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished, Request
from ml_intern.model.wire import errors
from ml_intern.model.wire.assemble import Assembly
from ml_intern.model.wire.encode import Encoder
from ml_intern.model.wire.shapes import fields
from ml_intern.model.wire.sse import Events, Malformed
from ml_intern.record.messages import Image

# httpx2 loads these at the first request: 0.1 to 0.2 s in which the event loop would stand still. This module is
# imported in a thread; there it costs nobody.
for _name in ("httpcore2._backends.anyio", "anyio._backends._asyncio"):
    import_module(_name)

CONNECT_S = 10.0
IDLE_S = 300.0
_USAGE_S = 5.0
"""How long usage may come after the end of a reply before we do without."""
_CLOSE_S = 0.3
"""How long the connection's end may come after [DONE] before the connection is given up."""

_ERROR_BYTES = 64 << 10

# Words for a finish reason that is no end of a reply but its failure: OpenRouter, vLLM, DeepSeek, Z.ai.
_FAULTS = frozenset({"error", "abort", "aborted", "insufficient_system_resource", "network_error"})

LoadImage = Callable[[Image], Awaitable[bytes]]
"""Reads an image's bytes from where the session keeps them."""


class ChatModel:
    """One session's access to one model of one server. Implements `port.Model`."""

    def __init__(self, endpoint: Endpoint, *, load_image: LoadImage | None = None, idle_s: float = IDLE_S) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two."""
        self._endpoint = endpoint
        self._encoder = Encoder(endpoint)
        self._load_image = load_image
        self._idle_s = idle_s
        is_plain = endpoint.base_url.startswith("http://")
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(idle_s, connect=CONNECT_S, pool=None),
            limits=httpx2.Limits(keepalive_expiry=30.0),
            # Reading the machine's certificates takes 30 ms, in vain for a server without TLS. A proxy has its own.
            verify=not is_plain,
            # Proxies and certificates of the environment count, but never between us and this machine.
            trust_env=not endpoint.loopback,
            headers=_headers(endpoint),
        )

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        body = self._encoder.body(request, await self._pictures(request))
        async with self._answer(body, request.session) as response:
            reading = _Reading(self._endpoint, is_whole=_is_json(response))
            data = response.aiter_bytes()
            async for piece in data:
                for delta in reading.read(piece):
                    yield delta
                if reading.ends:
                    await self._read_on(data, reading)
                    break
        for delta in reading.rest():
            yield delta
        yield reading.finished()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _pictures(self, request: Request) -> dict[str, bytes]:
        load = self._load_image
        return {image.sha: await load(image) for image in self._encoder.new_images(request)} if load else {}

    @asynccontextmanager
    async def _answer(self, body: bytes, session: str) -> AsyncGenerator[httpx2.Response]:
        """The open response to `body`, closed at the end; what the transport raises becomes ours.

        Raises:
            ModelError: the server was not reached, answered with an error, or broke off.
        """
        headers = {"x-hf-session-id": session} if self._endpoint.provider.session == "x-hf-session-id" else {}
        reached = False
        try:
            async with self._client.stream(
                "POST", f"{self._endpoint.base_url}/chat/completions", content=body, headers=headers
            ) as response:
                reached = True
                if not response.is_success or "html" in response.headers.get("content-type", ""):
                    shown = dict(response.headers.items())
                    raise errors.from_response(self._endpoint, response.status_code, shown, await _head(response))
                yield response
        except httpx2.TransportError as error:
            raise self._failed(error, reached=reached) from error
        except httpx2.DecodingError as error:
            raise errors.cut(self._endpoint, f"it cannot be decoded ({error})") from error

    async def _read_on(self, data: AsyncIterator[bytes], reading: "_Reading") -> None:
        """Read what follows the end: usage comes last, and a connection that was read to its end can be used again."""
        now = asyncio.get_running_loop().time
        with suppress(TimeoutError, httpx2.TransportError):
            async with asyncio.timeout(_CLOSE_S if reading.is_done else _USAGE_S) as limit:
                async for piece in data:
                    reading.keep(piece)
                    limit.reschedule(now() + (_CLOSE_S if reading.is_done else _USAGE_S))

    def _failed(self, error: httpx2.TransportError, *, reached: bool) -> ModelError:
        causes = list(_causes(error))
        silent = f"it was silent for {self._idle_s:.0f} s"
        if reached:
            return errors.cut(self._endpoint, silent if isinstance(error, httpx2.ReadTimeout) else _words(error))
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            remedy = "Name your company's certificates in SSL_CERT_FILE, or check the address."
            return errors.unreached(self._endpoint, f"no trusted TLS connection ({_words(error)})", remedy)
        if any(isinstance(cause, gaierror) for cause in causes):
            return errors.nobody(self._endpoint, "its name is unknown", "Check the address, and the network.")
        match error:
            case httpx2.ConnectTimeout():
                return errors.unreached(self._endpoint, f"no connection within {CONNECT_S:.0f} s")
            case httpx2.ConnectError() if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
                return errors.nobody(self._endpoint, _words(error), errors.started(self._endpoint))
            case httpx2.ConnectError() | httpx2.ProxyError():
                return errors.unreached(self._endpoint, _words(error), errors.started(self._endpoint))
            case _:
                why = silent if isinstance(error, httpx2.ReadTimeout) else _words(error)
                return errors.unreached(self._endpoint, why, was_sent=True)


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


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "text/event-stream",
        # A compressed stream waits for its blocks to fill.
        "accept-encoding": "identity",
        "user-agent": "ml-intern",
    }
    if endpoint.key:
        headers["authorization"] = f"Bearer {endpoint.key}"
    return headers


def _is_json(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


async def _head(response: httpx2.Response) -> bytes:
    """The beginning of an error's body: enough to know it by."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > _ERROR_BYTES:
            break
    return body


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        # The transport raises some of its own `from None`.
        error = error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
