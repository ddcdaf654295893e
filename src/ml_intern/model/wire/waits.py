"""How long a server asks us to wait: headers, body or words. Knows no error and waits for nothing."""

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime

from ml_intern.model.wire.shapes import fields

LONGEST_S = 24 * 3600.0

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_IN_WORDS = re.compile(
    r"(?:try again|retry|available|reset\w*) (?:again )?(?:in|after) ((?:\d+(?:\.\d+)?\s?(?:ms|s|m|h)\w*\s?)+)", re.I
)


def wait_of(headers: Mapping[str, str], body: object, message: str) -> float | None:
    """Seconds until the server will take a request again, or None where it does not say.

    `retry-after-ms` (Azure, OpenAI), `retry-after` in seconds or as a date (RFC 9110, 10.2.3), then
    `x-ratelimit-reset*` of what is used up, then the same in the body (OpenRouter), then the message ("... in 1.2s").
    """
    now = _date(headers.get("date", "")) or time.time()
    for seconds in _told(headers, _headers_in(body), message, now):
        if seconds is not None:
            return min(max(seconds, 0.0), LONGEST_S)
    return None


def _told(headers: Mapping[str, str], inner: Mapping[str, str], message: str, now: float) -> Iterator[float | None]:
    for each in (headers, inner):
        milliseconds = _number(each.get("retry-after-ms", ""))
        yield None if milliseconds is None else milliseconds / 1000
        yield _moment(each.get("retry-after", ""), now)
        resets = [_moment(each[name], now) for name in _used_up(each)]
        yield max((seconds for seconds in resets if seconds is not None), default=None)
    words = _IN_WORDS.search(message)
    yield _duration(words.group(1).replace(" ", "")) if words else None


def _used_up(headers: Mapping[str, str]) -> list[str]:
    """The reset headers whose budget is used up; all of them where none says so."""
    resets = [name for name in headers if name.startswith("x-ratelimit-reset")]
    spent = [name for name in resets if headers.get(name.replace("reset", "remaining"), "").strip() in {"0", "0.0"}]
    return spent or resets


def _moment(text: str, now: float) -> float | None:
    """Seconds from now: a number of seconds, a time since 1970 in seconds or milliseconds, a duration, or a date."""
    number = _number(text)
    if number is None:
        date = _date(text)
        return _duration(text) if date is None else date - now
    if number > 1e12:
        return number / 1000 - now
    return number - now if number > 1e9 else number


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number and abs(number) < 1e15 else None  # noqa: PLR0124 - NaN is not itself


def _duration(text: str) -> float | None:
    """`6m0s`, `88ms`, `1.2s`."""
    parts = _PART.findall(text.lower())
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in parts) if parts else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _headers_in(body: object) -> dict[str, str]:
    """OpenRouter puts the provider's headers into error.metadata.headers."""
    headers = fields(fields(fields(fields(body).get("error")).get("metadata")).get("headers"))
    return {name.lower(): str(value) for name, value in headers.items()}
