"""Reads a request's JSON; messages that came before, byte for byte, are not read again. Knows not what they mean.

A transcript is sent whole with each step. Read anew, the 1 000th would cost the server more than a good client.
"""

import json
import re
from collections import deque
from dataclasses import dataclass
from typing import Any

from tests.doubles.protocol import Refused

_SPACE = re.compile(r"[ \t\n\r]*")
_REMEMBERED = 8  # transcripts that one client may have going at the same time


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


@dataclass(frozen=True, slots=True)
class _Stem:
    text: str  # from the bracket to the end of the last message
    messages: list[Any]


class Bodies:
    """What each client has sent before."""

    def __init__(self) -> None:
        self._stems: dict[str, deque[_Stem]] = {}

    def parse(self, client: str, body: bytes) -> dict[str, Any]:
        """The JSON object of a request.

        Raises:
            Refused: it is none.
        """
        stems = self._stems.setdefault(client, deque(maxlen=_REMEMBERED))
        try:
            return _object(body.decode(), stems)
        except (ValueError, RecursionError) as error:
            raise Refused("We could not parse the JSON body of your request.") from error


def _object(text: str, stems: deque[_Stem]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = _after(text, _space(text, 0), "{")
    while text[at : at + 1] != "}":
        at = _after(text, at, ",") if found else at
        key, end = _DECODER.raw_decode(text, at)
        if not isinstance(key, str):
            raise json.JSONDecodeError("a key is a string", text, at)
        at = _after(text, _space(text, end), ":")
        found[key], end = (
            _messages(text, at, stems) if key == "messages" and text[at] == "[" else _DECODER.raw_decode(text, at)
        )
        at = _space(text, end)
    if _space(text, at + 1) != len(text):
        raise ValueError("more than one value")
    return found


def _messages(text: str, start: int, stems: deque[_Stem]) -> tuple[list[Any], int]:
    known = max(
        (stem for stem in stems if text.startswith(stem.text, start)), key=lambda stem: len(stem.text), default=None
    )
    messages: list[Any] = []
    end = start + 1
    if known:
        stems.remove(known)
        messages, end = [*known.messages], start + len(known.text)
    at = _space(text, end)
    while text[at : at + 1] != "]":
        at = _after(text, at, ",") if messages else at
        message, end = _DECODER.raw_decode(text, at)
        messages.append(message)
        at = _space(text, end)
    if messages:
        stems.append(_Stem(text[start:end], messages))
    return messages, at + 1


def _space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _after(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(f"expected {sign} at {at}")
    return _space(text, at + 1)
