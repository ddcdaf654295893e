"""One session's connections to one server: a body out, a stream of deltas in, what the transport raises typed.

Knows no protocol: a `Reading` turns bytes into deltas and the end.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from socket import gaierror

import httpx2
from msgspec.structs import replace

from ml_intern.base.errors import ModelError
from ml_intern.model.catalog import Endpoint
from ml_intern.model.port import Delta, Finished
from ml_intern.model.wire import errors
from ml_intern.model.wire.reading import Reading
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
"""How long the connection's end may come after the last event before the connection is given up."""

_ERROR_BYTES = 64 << 10

LoadImage = Callable[[Image], Awaitable[bytes]]
"""Reads an image's bytes from where the session keeps them."""


class Exchange:
    """The connections to `path` of an endpoint. `headers` go along with each request, beside the usual ones."""

    def __init__(self, endpoint: Endpoint, path: str, headers: Mapping[str, str], idle_s: float) -> None:
        """`idle_s`: how long the server may be silent, before its first byte and between two."""
        self._endpoint = endpoint
        self._url = f"{endpoint.base_url}{path}"
        self._idle_s = idle_s
        is_plain = endpoint.base_url.startswith("http://")
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(idle_s, connect=CONNECT_S, pool=None),
            limits=httpx2.Limits(keepalive_expiry=30.0),
            # Reading the machine's certificates takes 30 ms, in vain for a server without TLS. A proxy has its own.
            verify=not is_plain,
            # Proxies and certificates of the environment count, but never between us and this machine.
            trust_env=not endpoint.loopback,
            headers={**_USUAL, **headers},
        )

    async def stream(
        self, body: bytes, headers: Mapping[str, str], reading_of: Callable[[bool], Reading]
    ) -> AsyncGenerator[Delta | Finished]:
        """Send `body` and read the reply. `reading_of` is told whether it comes whole, as one JSON text.

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        async with self._answer(body, headers) as response:
            reading, routed = reading_of(_is_json(response)), response.headers.get(_ROUTED, "")
            data = response.aiter_bytes()
            async for piece in data:
                for delta in reading.read(piece):
                    yield delta
                if reading.ends:
                    await self._read_on(data, reading)
                    break
        for delta in reading.rest():
            yield delta
        finished = reading.finished()
        yield replace(finished, served_at=routed) if routed and not finished.served_at else finished

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def _answer(self, body: bytes, headers: Mapping[str, str]) -> AsyncGenerator[httpx2.Response]:
        """The open response to `body`, closed at the end; what the transport raises becomes ours.

        Raises:
            ModelError: the server was not reached, answered with an error, or broke off.
        """
        reached = False
        try:
            async with self._client.stream("POST", self._url, content=body, headers=headers) as response:
                reached = True
                if not response.is_success or "html" in response.headers.get("content-type", ""):
                    shown = dict(response.headers.items())
                    raise errors.from_response(self._endpoint, response.status_code, shown, await _head(response))
                yield response
        except httpx2.TransportError as error:
            raise self._failed(error, reached=reached) from error
        except httpx2.DecodingError as error:
            raise errors.cut(self._endpoint, f"it cannot be decoded ({error})") from error

    async def _read_on(self, data: AsyncIterator[bytes], reading: Reading) -> None:
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


_ROUTED = "x-inference-provider"
"""Who answered behind the Hugging Face router, as huggingface/chat-ui reads it."""
_USUAL = {
    "content-type": "application/json",
    "accept": "text/event-stream",
    # A compressed stream waits for its blocks to fill.
    "accept-encoding": "identity",
    "user-agent": "ml-intern",
}


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
