"""The name a TLS client asks for, read from its first message without opening anything. Knows no policy.

Sources: RFC 8446 (4.1.2, 5.1), RFC 6066 (3), RFC 9849 (encrypted_client_hello).
"""

import asyncio
import struct

from ml_intern.sandbox.broker.heads import Broken

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME, _ENCRYPTED = 22, 1, 0, 0, 0xFE0D
_MOST_BYTES = 65_536
_MOST_RECORD = 16_384


async def read_hello(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The name in lower case ("" if it names none) and the bytes that were read, to be passed on as they are.

    Raises:
        Broken: it is no TLS, longer than any client's, or hides the name.
        asyncio.IncompleteReadError: the client left.
    """
    raw, message = b"", b""
    while not _is_whole(message):
        head = await reader.readexactly(5)
        kind, major, _, length = struct.unpack("!BBBH", head)
        if kind != _HANDSHAKE or major != 3 or not 0 < length <= _MOST_RECORD or len(raw) > _MOST_BYTES:
            raise Broken("the connection does not begin with a TLS handshake")
        body = await reader.readexactly(length)
        raw, message = raw + head + body, message + body
    try:
        return _name(message), raw
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Broken("the TLS handshake cannot be read") from error


def _is_whole(message: bytes) -> bool:
    return len(message) >= 4 and len(message) >= 4 + int.from_bytes(message[1:4], "big")


def _name(message: bytes) -> str:
    if message[0] != _CLIENT_HELLO or int.from_bytes(message[1:4], "big") != len(message) - 4:
        raise Broken("the TLS handshake does not begin with a client's hello")
    at = 4 + 2 + 32
    at += 1 + message[at]
    at += 2 + struct.unpack_from("!H", message, at)[0]
    at += 1 + message[at]
    if at == len(message):
        return ""
    end = at + 2 + struct.unpack_from("!H", message, at)[0]
    if end != len(message):
        raise Broken("the TLS handshake cannot be read")
    names = list(_extensions(message, at + 2, end))
    if len(names) > 1:
        raise Broken("the TLS handshake names two hosts")
    return names[0] if names else ""


def _extensions(message: bytes, at: int, end: int) -> list[str]:
    names: list[str] = []
    while at < end:
        kind, length = struct.unpack_from("!HH", message, at)
        body = message[at + 4 : at + 4 + length]
        if kind == _ENCRYPTED:
            raise Broken("the TLS handshake hides the host's name")
        if kind == _SERVER_NAME:
            whole, entry, size = struct.unpack_from("!HBH", body, 0)
            if entry != _HOST_NAME or whole != size + 3 or len(body) != size + 5:
                raise Broken("the TLS handshake cannot be read")
            names.append(body[5:].decode("ascii").lower())
        at += 4 + length
    if at != end:
        raise Broken("the TLS handshake cannot be read")
    return names
