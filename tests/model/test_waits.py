"""How long to wait is read wherever servers write it."""

import time
from email.utils import formatdate

import pytest

from ml_intern.model.wire.waits import LONGEST_S, wait_of

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "body", "message", "seconds"),
    [
        ({"retry-after": "7"}, None, "", 7),
        ({"retry-after": "0.5"}, None, "", 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, None, "", 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:29:30 GMT", "date": DATE}, None, "", 90),
        ({"retry-after": "-3"}, None, "", 0),
        ({"retry-after": "9999999"}, None, "", LONGEST_S),
        ({"retry-after": "soon"}, None, "", None),
        ({"retry-after": "nan"}, None, "", None),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, None, "", 360),
        (
            {
                "x-ratelimit-reset-requests": "88ms",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "1000",
            },
            None, "", 0.088,
        ),
        ({"x-ratelimit-reset": "30"}, None, "", 30),
        ({}, {"error": {"metadata": {"headers": {"Retry-After": "12"}}}}, "", 12),
        ({}, None, "Rate limit reached. Please try again in 1.2s. Visit …", 1.2),
        ({}, None, "Please try again in 20ms.", 0.02),
        ({}, None, "Please try again in 1m30s", 90),
        ({}, None, "Please retry after 15 seconds", 15),
        ({}, None, "Too many requests", None),
        ({}, "no object", "", None),
    ],
)  # fmt: skip
def test_a_wait_is_found(headers, body, message, seconds):
    assert wait_of(headers, body, message) == (seconds if seconds is None else pytest.approx(seconds))


def test_a_moment_since_1970_is_a_wait_from_now():
    reset = {"error": {"metadata": {"headers": {"X-RateLimit-Reset": str(int((time.time() + 40) * 1000))}}}}
    assert wait_of({}, reset, "") == pytest.approx(40, abs=5)
    assert wait_of({"x-ratelimit-reset": str(int(time.time() + 40))}, None, "") == pytest.approx(40, abs=5)


def test_a_date_without_the_servers_own_is_measured_by_our_clock():
    assert wait_of({"retry-after": formatdate(time.time() + 40, usegmt=True)}, None, "") == pytest.approx(40, abs=5)
