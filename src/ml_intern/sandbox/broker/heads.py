"""Heads of HTTP messages, read strictly: what two programs could read differently is refused. Knows no policy.

Source: RFC 9112 (2.2, 3, 5, 6.3).
"""

import asyncio
import re
from dataclasses import dataclass

from ml_intern.sandbox.broker.reach import Refused

MOST_HEAD_BYTES = 32_768
HEAD_WITHIN_S = 15.0
CHUNK = 65_536
IDLE_S = 300.0
"""How long a connection may be silent once it stands."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_REQUEST = re.compile(r"([A-Z]{1,20}) ([\x21-\x7e]{1,8000}) HTTP/1\.[01]")
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5]\d\d)(?: (.*))?")
_ONCE = ("content-length", "host", "transfer-encoding")
_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip

Headers = tuple[tuple[str, str], ...]


class Broken(Exception):
    """The other side does not speak HTTP, or hung up half-way."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head; `headers` in order, names as they were written."""

    method: str
    target: str
    headers: Headers

    def value(self, name: str) -> str:
        """The header's value; empty where it is missing."""
        return value_of(self.headers, name)

    @property
    def length(self) -> int:
        """Bytes of its body. Raises Refused where that is not said plainly."""
        if self.value("transfer-encoding"):
            raise Refused("A request in chunks is not passed on.", "Send it with a Content-Length.", 411)
        return _length(self.headers)


@dataclass(frozen=True, slots=True)
class Response:
    """A response's head."""

    status: int
    phrase: str
    headers: Headers

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return value_of(self.headers, "transfer-encoding").lower() == "chunked"

    @property
    def length(self) -> int | None:
        """Bytes of the body, None where only the end of the connection tells."""
        return _length(self.headers) if value_of(self.headers, "content-length") else None


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request's head; None where the client left before it. Raises Refused (400, 408, 431)."""
    try:
        data = await _read_head(reader)
    except TimeoutError as error:
        raise Refused("The request did not arrive in time.", "Send it whole.", 408) from error
    except asyncio.LimitOverrunError as error:
        raise Refused("The request's head is too long.", "Send fewer headers.", 431) from error
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Refused("The request is cut off.", "Send it whole.", 400) from error
        return None
    try:
        first, headers = _parse(data)
    except Broken as error:
        raise Refused(f"This is no HTTP request: {error}.", "Send a plain one.", 400) from error
    found = _REQUEST.fullmatch(first)
    if not found:
        raise Refused("This is no HTTP request: its first line cannot be read.", "Send a plain one.", 400)
    return Request(found[1], found[2], headers)


async def read_response(reader: asyncio.StreamReader, within_s: float) -> Response:
    """A response's head, after interim ones. Raises Broken, TimeoutError."""
    while True:
        try:
            first, headers = _parse(await _read_head(reader, within_s))
        except (asyncio.LimitOverrunError, asyncio.IncompleteReadError) as error:
            raise Broken("the answer is cut off or its head too long") from error
        found = _STATUS.fullmatch(first)
        if not found:
            raise Broken("the answer's first line cannot be read")
        if int(found[1]) >= 200:
            return Response(int(found[1]), found[2] or "", headers)


def value_of(headers: Headers, name: str) -> str:
    """The first header of this name (lower case); empty where it is missing."""
    return next((value for key, value in headers if key.lower() == name), "")


def end_to_end(headers: Headers) -> Headers:
    """The headers without those that concern one connection only (RFC 9110, 7.6.1)."""
    named = {name.strip().lower() for name in value_of(headers, "connection").split(",")}
    return tuple((key, value) for key, value in headers if key.lower() not in _HOP | named)


def to_bytes(first: str, headers: Headers) -> bytes:
    """A head as it is sent."""
    return "\r\n".join([first, *(f"{key}: {value}" for key, value in headers), "", ""]).encode("latin-1")


def refusal(refused: Refused) -> bytes:
    """The answer to a refused request. The phrase holds the sentence: many clients show no more than that."""
    body = f"ml-intern: {refused}\n".encode()
    phrase = f"ml-intern: {refused.what}".encode("ascii", "replace").decode()[:200]
    kind, length = ("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))
    return to_bytes(f"HTTP/1.1 {refused.status} {phrase}", (kind, length, ("Connection", "close"))) + body


async def _read_head(reader: asyncio.StreamReader, within_s: float = HEAD_WITHIN_S) -> bytes:
    async with asyncio.timeout(within_s):
        return await reader.readuntil(b"\r\n\r\n")


def _parse(data: bytes) -> tuple[str, Headers]:
    first, *lines = data.removesuffix(b"\r\n\r\n").decode("latin-1").split("\r\n")
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Broken("a header cannot be read")
        headers.append((name, value.strip(" \t")))
    names = [name.lower() for name, _ in headers]
    if any(names.count(name) > 1 for name in _ONCE) or {"content-length", "transfer-encoding"} <= set(names):
        raise Broken("it says twice where its body ends, or for whom it is")
    return first, tuple(headers)


def _length(headers: Headers) -> int:
    value = value_of(headers, "content-length") or "0"
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise Refused("This is no HTTP message: its length cannot be read.", "Send a plain one.", 400)
    return int(value)
