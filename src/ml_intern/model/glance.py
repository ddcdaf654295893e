"""One small HTTP question to a server nearby, answered with JSON. Knows no server, no proxy and no client library:
importing one costs more than the question.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

Json = Any
"""What a server says: its shape is checked where it is read."""

_MOST_BYTES = 8 << 20


async def ask(url: str, key: str = "", body: Json = None) -> Json:
    """What the server answers to GET, or to POST where there is a body. Its time limit is the caller's.

    Raises:
        OSError, ValueError: it was not reached, or answered with anything but JSON and status 200.
    """
    parts = urlsplit(url)
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    reader, writer = await asyncio.open_connection(host, parts.port or (443 if is_tls else 80), ssl=is_tls or None)
    try:
        writer.write(_question(parts.netloc, parts.path, key, body))
        data = await _all(reader)
    finally:
        writer.close()
    head, _, said = data.partition(b"\r\n\r\n")
    if head.split(None, 2)[1:2] != [b"200"]:
        raise ValueError(f"{url} did not answer with status 200")
    return json.loads(said)


def _question(host: str, path: str, key: str, body: Json) -> bytes:
    # HTTP/1.0: the answer ends where the connection does.
    data = b"" if body is None else json.dumps(body).encode()
    lines = [f"{'GET' if body is None else 'POST'} {path or '/'} HTTP/1.0", f"Host: {host}", "Accept: application/json"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"] if data else []
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + data


async def _all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while len(data) < _MOST_BYTES and (more := await reader.read(65536)):
        data += more
    return data
