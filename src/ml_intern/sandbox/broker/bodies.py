"""Bodies of HTTP answers: read by their framing, handed on with the same. Knows no policy.

Source: RFC 9112 (6, 7.1).
"""

import asyncio
import re
from collections.abc import AsyncGenerator

from ml_intern.sandbox.broker import heads
from ml_intern.sandbox.broker.heads import CHUNK, IDLE_S, Broken, Headers, Response

_LONGEST_CHUNK_HEAD = 1024


def has_one(method: str, answer: Response) -> bool:
    """Whether a body follows the answer's head."""
    return method != "HEAD" and answer.status not in {204, 304}


def head(method: str, answer: Response, headers: Headers) -> bytes:
    """The answer's head as the client gets it: with these headers, its own framing, and the end of the connection.

    Raises Broken where the framing cannot be read.
    """
    if heads.value_of(answer.headers, "transfer-encoding") and not answer.chunked:
        raise Broken("the answer has a framing that cannot be read")
    framing = [("Transfer-Encoding", "chunked")] if answer.chunked and has_one(method, answer) else []
    more = (("Connection", "close"), *framing)
    return heads.to_bytes(f"HTTP/1.1 {answer.status} {answer.phrase}", (*more, *headers))


async def send(writer: asyncio.StreamWriter, answer: Response, piece: bytes) -> None:
    """A piece of the body, as a chunk where the answer comes in chunks."""
    if piece:
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
        await writer.drain()


async def finish(writer: asyncio.StreamWriter, answer: Response) -> None:
    """The end of the body."""
    writer.write(b"0\r\n\r\n" if answer.chunked else b"")
    await writer.drain()


async def pieces(reader: asyncio.StreamReader, answer: Response) -> AsyncGenerator[bytes]:
    """The body of an answer, out of its chunks where it comes in such. Raises Broken, TimeoutError."""
    if answer.chunked:
        async for piece in _chunks(reader):
            yield piece
        return
    left = answer.length
    while left is None or left > 0:
        async with asyncio.timeout(IDLE_S):
            piece = await reader.read(CHUNK if left is None else min(CHUNK, left))
        if not piece and left is not None:
            raise Broken("the answer is cut off")
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """The body of a chunked message (RFC 9112, 7.1); trailers are dropped."""
    while size := await _chunk_size(reader):
        while size:
            async with asyncio.timeout(IDLE_S):
                piece = await reader.read(min(CHUNK, size))
            if not piece:
                raise Broken("the answer is cut off")
            size -= len(piece)
            yield piece
        await reader.readexactly(2)


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(IDLE_S):
        line = await reader.readline()
    digits = line.partition(b";")[0].strip()
    if not line.endswith(b"\n") or len(line) > _LONGEST_CHUNK_HEAD or not re.fullmatch(rb"[0-9a-fA-F]{1,8}", digits):
        raise Broken("the answer is cut off")
    return int(digits, 16)
