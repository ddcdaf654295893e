"""A turn of four steps, and all that can go wrong between it and a model: what passes, what ends it in which words.

Each fault is a rule for the double's script, or two where the wires differ.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tests.faults.walk import call

Wire = Literal["chat", "messages"]
Fault = Mapping[str, Any]
Rule = Mapping[str, Any]
Faults = Mapping[Wire, Fault]

ANSWER = "It has 2 lines, as you wanted it to."
STEPS: Sequence[Mapping[str, Any]] = (
    {"text": "First I write what is wanted. ", "calls": [call("write", path="a.txt", content="alpha\nbeta\n")]},
    {
        "text": "Then I look at what there is. ",
        "calls": [call("bash", command="echo CALL-1 1 >> witness; wc -l < a.txt"), call("read", path="a.txt")],
    },
    {"text": "And now a change of one word. ", "calls": [call("edit", path="a.txt", old_str="beta", new_str="gamma")]},
    {"text": "It has {{answer:1:/[0-9]+/}} lines, as you wanted it to."},
)
FIRST, MIDDLE, LAST = 0, 2, 3

# Events that a wire sends before the middle of the first call's arguments, and before the middle of the text: each text
# comes in 8 pieces.
_IN_TEXT: Mapping[Wire, int] = {"chat": 4, "messages": 6}
_IN_CALL: Mapping[Wire, int] = {"chat": 1 + 8 + 1 + 3, "messages": 2 + 1 + 8 + 1 + 1 + 3}


def _both(fault: Fault) -> Faults:
    return {"chat": fault, "messages": fault}


def _error(kind: str, message: str) -> Fault:
    return {"error": {"type": kind, "message": message, "code": None}}


def _with(status: int, message: str, code: str = "", kind: str = "") -> Faults:
    """An error answer with words of the provider's own."""
    chat = {"error": {"message": message, "type": code, "code": code, "param": None}}
    messages = {"type": "error", "error": {"type": kind or "invalid_request_error", "message": message}}
    return {"chat": {"status": status, "body": chat}, "messages": {"status": status, "body": messages}}


PASSING: Mapping[str, Faults] = {
    "429": _both({"status": 429}),
    "429 with Retry-After": _both({"status": 429, "retry_after": 0.1}),
    "500": _both({"status": 500}),
    "502": _both({"status": 502, "body": "<html><body>502 Bad Gateway</body></html>"}),
    "503": _both({"status": 503, "retry_after": 0.1}),
    "529": _both({"status": 529, "retry_after": 0.1}),
    "cut at once": _both({"cut_after": 0}),
    "cut in mid-text": {wire: {"cut_after": _IN_TEXT[wire]} for wire in _IN_TEXT},
    "cut in mid-call": {wire: {"cut_after": _IN_CALL[wire]} for wire in _IN_CALL},
    "ended too early": {wire: {"end_after": _IN_TEXT[wire]} for wire in _IN_TEXT},
    "reset at once": _both({"reset": True}),
    "reset in mid-text": {wire: {"reset": True, "after": _IN_TEXT[wire]} for wire in _IN_TEXT},
    "malformed at once": _both({"malformed": True, "after": 0}),
    "malformed in mid-text": {wire: {"malformed": True, "after": _IN_TEXT[wire]} for wire in _IN_TEXT},
    "malformed in mid-call": {wire: {"malformed": True, "after": _IN_CALL[wire]} for wire in _IN_CALL},
    "error in the stream": {
        "chat": {**_error("server_error", "The server had an error."), "after": 4},
        "messages": {**_error("overloaded_error", "Overloaded"), "after": 6},
    },
    "silence in mid-text": {wire: {"silence_s": 30, "after": _IN_TEXT[wire]} for wire in _IN_TEXT},
    "silence at once": _both({"hang": True}),
}
"""What the next attempt survives."""

LASTING: Mapping[str, tuple[Faults, str]] = {
    "400": (_both({"status": 400}), "rejects the form of the request"),
    "401": (_both({"status": 401}), "refuses the key"),
    "402": (_both({"status": 402}), "wants money"),
    "403": (_both({"status": 403}), "refuses the key"),
    "404": (_both({"status": 404}), "does not serve this model"),
    "overflow": (_both({"overflow": True}), "has no room for a request of this length"),
    "too large": (_both({"status": 413}), "has no room for a request of this length"),
    "content filter": (_with(400, "Blocked by content_filter.", "content_filter"), "refuses the request by its policy"),
    "quota in a 429": (
        _with(429, "You exceeded your current quota.", "insufficient_quota", "rate_limit_error"),
        "wants money",
    ),
    "an hour to wait": (_both({"status": 429, "retry_after": 3600}), "wants fewer requests"),
}
"""What ends the turn, and the words of its sentence; `resume` goes on from there."""

STALE = _with(400, "messages.1.content.0: Invalid `signature` in `thinking` block")
"""The messages wire leaves its thinking out and goes on, within the same attempt; for the other one it is a 400."""

NEEDS_CALLS = frozenset({"cut in mid-call", "malformed in mid-call"})
"""Faults that befall only a reply with calls: not the last one."""
SILENT = frozenset({"silence in mid-text", "silence at once"})


def rules(*before: Rule) -> list[Rule]:
    """The turn as the double's script; `before` goes first."""
    return [*before, *({"when": {"step": at}, "reply": step} for at, step in enumerate(STEPS))]


def faulty(step: int, times: int, fault: Fault) -> list[Rule]:
    """The same; the first `times` attempts at `step` go wrong."""
    return rules({"when": {"step": step}, "fault": fault, "times": times, "reply": STEPS[step]})


def mended(step: int, text: str) -> list[Rule]:
    """The same; the model's call at `step` is cut at the limit of its reply, and made again when it was told so."""
    cut = {"when": {"step": step}, "fault": {"truncated_call": True}, "reply": STEPS[step]}
    later = [{"when": {"step": at + 1}, "reply": STEPS[at]} for at in range(step, len(STEPS) - 1)]
    before = [{"when": {"step": at}, "reply": STEPS[at]} for at in range(step)]
    return [cut, *before, *later, {"when": {"step": len(STEPS)}, "reply": {"text": text}}]
