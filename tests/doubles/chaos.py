"""What goes wrong between a client and a model, by name, and scripts made to stumble over it. Knows no server."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

# What the next attempt may well survive.
TRANSIENT: Mapping[str, Mapping[str, Any]] = {
    "rate limit": {"status": 429, "retry_after": 0.01},
    "rate limit without a word": {"status": 429},
    "server error": {"status": 500},
    "overloaded": {"status": 503, "retry_after": 0.01},
    "bad gateway": {"status": 502, "body": "<html><body>502 Bad Gateway</body></html>"},
    "reset before a byte": {"reset": True},
    "reset in mid-stream": {"reset": True, "after": 2},
    "cut before a delta": {"cut_after": 0},
    "cut in mid-stream": {"cut_after": 2},
    "ended without an end": {"end_after": 2},
    "malformed": {"malformed": True},
    "error in the stream": {"error": {"message": "The server had an error.", "type": "server_error", "code": None}},
}
# What no attempt survives.
PERMANENT: Mapping[str, Mapping[str, Any]] = {
    "wrong key": {"status": 401},
    "out of credit": {"status": 402},
    "quota": {
        "status": 429,
        "body": {
            "error": {
                "message": "You exceeded your current quota, please check your plan and billing details.",
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            }
        },
    },
    "forbidden": {"status": 403},
    "no such model": {"status": 404},
    "overflow": {"overflow": True},
}


def stumbling(rules: Sequence[Mapping[str, Any]], fault: Mapping[str, Any], times: int) -> list[Mapping[str, Any]]:
    """The script, but its first `times` replies go wrong in this way."""
    return [{"fault": fault, "times": times}, *rules]


def chaotic(rules: Sequence[Mapping[str, Any]], steps: int, seed: int, most: int = 3) -> list[Mapping[str, Any]]:
    """The script, but each of its first `steps` steps goes wrong up to `most` times in a row, in ways that pass."""
    dice = random.Random(seed)
    faults = [
        {"when": {"step": step}, "fault": TRANSIENT[dice.choice([*TRANSIENT])], "times": 1}
        for step in range(steps)
        for _ in range(dice.randint(0, most))
    ]
    return [*faults, *rules]
