"""Pictures that a person sends along with a prompt: read, checked as the tools check theirs. Knows no session."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from ml_intern.base.errors import BadSettings
from ml_intern.base.text import size

MOST_IMAGES = 20
"""More in one request, and providers want them smaller (https://platform.claude.com/docs/en/build-with-claude/vision)."""
MOST_BYTES_IN_ALL = 20_000_000
"""As base64 within the 32 MB that providers take of one request."""


class Attached(Struct, frozen=True):
    """One picture that can be sent."""

    mime: str
    data: bytes


def read_images(names: Sequence[str]) -> tuple[Attached, ...]:
    """The pictures in these files, each known by its content. Blocks.

    Raises:
        BadSettings: one is missing, no picture, too large or broken off, or they are too many.
    """
    if len(names) > MOST_IMAGES:
        raise BadSettings(f"{len(names)} images are too many: at most {MOST_IMAGES} go along.", "Leave some out.")
    found = tuple(_image(name) for name in names)
    total = sum(len(each.data) for each in found)
    if total > MOST_BYTES_IN_ALL:
        what = f"The images hold {size(total)} together: at most {size(MOST_BYTES_IN_ALL)} go along."
        raise BadSettings(what, "Leave some out, or save smaller copies.")
    return found


def _image(name: str) -> Attached:
    # The tools are built much later, and most starts have no picture.
    from ml_intern.tools import pictures

    data, count = _read(name, pictures.MOST_BYTES)
    if count > pictures.MOST_BYTES:
        what = f"--image {name} is too large: {size(count)}; at most {size(pictures.MOST_BYTES)}."
        raise BadSettings(what, pictures.SMALLER)
    kind = pictures.picture(data)
    if kind is None or not kind.width or not kind.height:
        raise BadSettings(f"--image {name}: it is no picture.", "Give a PNG, JPEG, GIF or WebP file.")
    if fault := pictures.fault_of(f"--image {name}", kind, data):
        raise BadSettings(fault.what, fault.remedy)
    return Attached(kind.mime, data)


def _read(name: str, most: int) -> tuple[bytes, int]:
    """At most `most` bytes of the file, and how many it has."""
    if "://" in name:
        raise BadSettings(f"--image {name}: it takes a file, not an address.", "Download it first.")
    try:
        # A pipe in its place must not make us wait.
        with open(os.open(Path(name).expanduser(), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadSettings(f"--image {name}: it is no file.", "Give a PNG, JPEG, GIF or WebP file.")
            return file.read(most), status.st_size
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name is none"
        raise BadSettings(f"--image {name}: it cannot be read ({why}).", "Name a file that you may read.") from error
