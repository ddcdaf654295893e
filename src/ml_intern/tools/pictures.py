"""What an image file is, by its head: media type and size in pixels. Knows no file system, decodes nothing.

Sources: PNG 11.2.2 (IHDR), GIF89a 18, ITU T.81 B.2.2 (SOF), RFC 9649 2.4 to 2.7 (WebP).
"""

import struct

from msgspec import Struct

MOST_SIDE = 1_568
"""Pixels: the longest side that every provider takes as it is; agent/context.py reserves for no more."""

MOST_BYTES = 3_700_000
"""Every provider takes 5 MB of base64."""

SMALLER = f"Save a smaller copy (lower dpi, or Pillow's thumbnail(({MOST_SIDE}, {MOST_SIDE}))) and take that."

_TAIL_BYTES = 1_024
"""Some programs write a little after the end."""

_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


class Picture(Struct, frozen=True):
    """An image that models can be sent; sides in pixels, 0 where the head does not tell."""

    mime: str
    width: int
    height: int


def picture(data: bytes) -> Picture | None:
    """What `data` shows; None if it is no PNG, JPEG, GIF or WebP."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Picture("image/png", *_sides(data, ">II", 16))
    if data.startswith((b"GIF87a", b"GIF89a")):
        return Picture("image/gif", *_sides(data, "<HH", 6))
    if data.startswith(b"\xff\xd8\xff"):
        return Picture("image/jpeg", *_jpeg(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Picture("image/webp", *_webp(data))
    return None


def is_whole(data: bytes) -> bool:
    """Whether an image that `picture` knows reaches its end."""
    if data.startswith(b"RIFF"):
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    ends = {b"\x89": b"IEND", b"G": b";", b"\xff": b"\xff\xd9"}
    return ends[data[:1]] in data[-_TAIL_BYTES:]


class Fault(Struct, frozen=True):
    """Why a picture cannot be sent, and what to do about it."""

    what: str
    remedy: str


def described(kind: Picture, size: int) -> str:
    """The picture in a few words; `size` in bytes."""
    return f"{kind.mime}, {kind.width:,} × {kind.height:,} pixels, {size:,} bytes"


def fault_of(name: str, kind: Picture, data: bytes) -> Fault | None:
    """Why the picture `data` of this name cannot be sent; None where it can."""
    what = described(kind, len(data))
    if max(kind.width, kind.height) > MOST_SIDE or len(data) > MOST_BYTES:
        return Fault(
            f"{name} is too large to look at: {what}; at most {MOST_SIDE:,} pixels a side and {MOST_BYTES:,} bytes.",
            SMALLER,
        )
    if not is_whole(data):
        # A server that refuses it would refuse every later request, too.
        return Fault(f"{name} ({what}) breaks off before its end.", "Make it anew.")
    return None


def _sides(data: bytes, layout: str, at: int) -> tuple[int, int]:
    try:
        width, height = struct.unpack_from(layout, data, at)
    except struct.error:
        return 0, 0
    return int(width), int(height)


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        if marker in _FRAMES:
            height, width = _sides(data, ">HH", at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    return 0, 0


def _webp(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8 ":
            width, height = _sides(data, "<HH", 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case _:
            return 0, 0
