"""What a failing server says, to the error that it means: one sentence, one remedy, never a key. Knows no retry."""

import json
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ml_intern.base.errors import (
    BadRequest,
    ModelError,
    NoServer,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Refused,
    Unauthorised,
    Unreachable,
)
from ml_intern.base.text import one_line
from ml_intern.model.catalog import Endpoint
from ml_intern.model.wire.shapes import fields, items, words
from ml_intern.model.wire.waits import wait_of

SHOWN_CHARS = 300


class Fault(Struct, frozen=True):
    """What a server said: the HTTP status (0 where it had none), its code and type in lower case, its message."""

    status: int
    code: str
    message: str

    @property
    def words(self) -> str:
        """All of it, in lower case, to look for what it means."""
        return f"{self.code} {self.message}".lower()


# In this order: a server's words say more than its status. Beside each phrase, who says it. They are compiled by `re`
# when the first error comes: most sessions see none, and it takes 3 ms.
_MEANINGS: tuple[tuple[type[ModelError], str], ...] = (
    (
        Overflow,
        (
            r"context_length_exceeded|string_above_max_length"  # OpenAI, Groq, Cerebras, DeepSeek
            r"|maximum context length|maximum model length|max_model_len"  # vLLM, DeepSeek, Together, Mistral
            r"|exceed_context_size|exceeds? the available context size|context size (?:has been )?exceeded"  # llama.cpp
            # Ollama, SGLang, LM Studio
            r"|(?:exceeds?|longer than|larger than|greater than|overflows?) the (?:model'?s )?(?:maximum )?context"
            r"|context the overflows|context length of only"  # LM Studio
            r"|inputs` tokens \+ `max_new_tokens`|`inputs` must have less than"  # TGI
            r"|(?:prompt|input) is too long|input length and `max_tokens` exceed"  # Anthropic, Bedrock, Fireworks
            r"|exceeds the maximum number of tokens"  # Google
            r"|exceeded model token limit|input token length too long"  # Moonshot
            r"|maximum prompt length"  # xAI
            r"|reduce the length of the (?:messages|prompt|input)"  # OpenAI, Groq, Cerebras
            r"|prompt exceeds max length|tokens_limit_reached|too large for model"  # Z.ai, GitHub, Mistral
        ),
    ),
    (
        OutOfCredit,
        (
            r"insufficient_quota|billing_hard_limit|billing_not_active|insufficient_balance|exceeded_current_quota"
            r"|exceeded your current quota|exceeded your monthly included credits|payment required"
            r"|(?:insufficient|not enough|out of|used all|no) (?:\w+ ){0,3}(?:credits?|balance|funds)"
            r"|credit balance is too low|spending limit|billing_error|spend_limit_reached"  # the last three: Anthropic
        ),
    ),
    (
        Refused,
        (
            r"content_?filter|content_policy|responsibleaipolicy|data_inspection_failed|content exists risk"
            r"|invalid_prompt|flagged (?:as|for|by)|moderation|usage polic(?:y|ies)|sensitive content"
        ),
    ),
    (
        NotFound,
        (
            r"model_not_found|model_not_supported|model not exist|not a valid model|no endpoints found"
            r"|model \S+ (?:was )?not found|model \S+ does not exist|no models? loaded|unknown model"
            r"|model \S+ is not supported"
        ),
    ),
    (
        Unauthorised,
        (
            r"invalid_api_key|incorrect api key|api key not valid|no auth credentials"
            r"|authentication_error|permission_error"  # Anthropic
        ),
    ),
    (RateLimited, r"rate_limit|rate limit|too many requests|throttl"),
)

_BY_STATUS: dict[int, type[ModelError]] = {
    401: Unauthorised,
    402: OutOfCredit,
    403: Unauthorised,
    404: NotFound,
    # Taken for the time being: the same request may do in a moment.
    408: Unreachable,
    409: Unreachable,
    425: Unreachable,
    413: Overflow,
    429: RateLimited,
    451: Refused,
}
# Where a status leaves little to ask: a 429 that speaks of tokens is a rate, not a length.
_MEANINGS_OF: dict[int, frozenset[type[ModelError]]] = {
    401: frozenset({OutOfCredit}),
    413: frozenset(),
    429: frozenset({OutOfCredit}),
}


def from_response(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The error that a response with this status, these headers (lower-case names) and this body is."""
    if 300 <= status < 400:
        return NotFound(
            f"{_who(endpoint)} has moved to {one_line(headers.get('location', 'another place'), SHOWN_CHARS)}.",
            "Give the new address with --base-url.",
            status=status,
        )
    text = body.decode("utf-8", "replace")
    if "html" in headers.get("content-type", ""):
        if status < 300 or status in {404, 405}:
            return NotFound(
                f"{_who(endpoint)} answered with a web page{_of(status)}, not with a model.",
                "Check the base URL (it ends in /v1 as a rule), and any proxy on the way.",
                status=status,
            )
        text = ""
    try:
        payload: object = json.loads(text)
    except (ValueError, RecursionError):
        payload = text
    fault = fault_of(payload, status)
    return _error(endpoint, fault, wait_of(headers, payload, fault.message))


def from_stream(endpoint: Endpoint, event: dict[str, Any]) -> ModelError:
    """The error that an event in mid-stream is."""
    fault = fault_of(event, 0)
    return _error(endpoint, fault, wait_of({}, event, fault.message), may_be_billed=True)


def cut(endpoint: Endpoint, why: str) -> ModelError:
    """The stream ended, or became nonsense, before the reply did."""
    said = _sentence(why)
    return Unreachable(f"{_who(endpoint)} broke off its reply: {said}", _again(endpoint), may_be_billed=True)


def unreached(endpoint: Endpoint, why: str, remedy: str = "", *, was_sent: bool = False) -> ModelError:
    """No answer at all. `was_sent`: the request may have arrived all the same."""
    what = f"{_who(endpoint)} {'did not answer' if was_sent else 'cannot be reached'}: {_sentence(why)}"
    return Unreachable(what, remedy or _again(endpoint), may_be_billed=was_sent)


def nobody(endpoint: Endpoint, why: str, remedy: str) -> ModelError:
    """Nothing listens there, as far as this machine can tell."""
    return NoServer(f"{_who(endpoint)} cannot be reached: {_sentence(why)}", remedy)


def started(endpoint: Endpoint) -> str:
    """How to start a server that does not listen."""
    if endpoint.provider.start:
        return f"Start it with {endpoint.provider.start}, or give its address with --base-url."
    if endpoint.loopback:
        return "Start the server, or give its address with --base-url."
    return _again(endpoint)


def fault_of(payload: object, status: int) -> Fault:
    """What a server said, out of many shapes: {"error": {..}}, {"error": "text"}, {"object": "error", ..},
    {"detail": ..}, [..], plain text.
    """
    whole = fields(items(payload)[0] if items(payload) else payload)
    if not whole:
        return Fault(status, "", str(payload or ""))
    error = fields(whole.get("error") or whole) or {"message": whole["error"], "type": whole.get("error_type")}
    message = error.get("message") or error.get("detail") or error
    if raw := fields(error.get("metadata")).get("raw"):
        # OpenRouter's own sentence is "Provider returned error"; what the provider said stands here.
        message = f"{message}: {raw}"
    numbers = [value for name in ("code", "status", "status_code") if isinstance(value := error.get(name), int)]
    codes = " ".join(str(error.get(name) or "") for name in ("code", "type", "status"))
    # Anthropic's own: which limit was met.
    codes += " " + words(fields(error.get("details")).get("error_code"))
    in_stream = next((number for number in numbers if 400 <= number < 600), 0)
    return Fault(status or in_stream, codes, words(message) or json.dumps(message, ensure_ascii=False))


def _error(endpoint: Endpoint, fault: Fault, wait_s: float | None, *, may_be_billed: bool = False) -> ModelError:
    return of_kind(endpoint, kind_of(fault), fault, wait_s, may_be_billed=may_be_billed)


def of_kind(
    endpoint: Endpoint,
    kind: type[ModelError],
    fault: Fault,
    wait_s: float | None = None,
    *,
    may_be_billed: bool = False,
) -> ModelError:
    """The error of this kind, in the words of the server, without our key."""
    message = fault.message.replace(endpoint.key, "[key]") if endpoint.key else fault.message
    said = f": {_sentence(message)}" if message.strip(" .\n") else "."
    return kind(
        f"{_who(endpoint)} {_VERBS[kind]}{_of(fault.status)}{said}",
        _remedy(endpoint, kind),
        retry_after_s=wait_s,
        status=fault.status,
        may_be_billed=may_be_billed,
    )


def kind_of(fault: Fault) -> type[ModelError]:
    """What the words and the status of a server mean."""
    allowed = _MEANINGS_OF.get(fault.status)
    if fault.status >= 500:
        # Some servers say with a 500 that a request is too long; other words of a server that is down mean nothing.
        allowed = frozenset({Overflow})
    for kind, phrases in _MEANINGS:
        if (allowed is None or kind in allowed) and re.search(phrases, fault.words):
            return kind
    if kind := _BY_STATUS.get(fault.status):
        return kind
    if fault.status == 0:
        return BadRequest if "invalid_request" in fault.words else Unreachable
    return BadRequest if fault.status < 500 else Unreachable


_VERBS: dict[type[ModelError], str] = {
    Overflow: "has no room for a request of this length",
    RateLimited: "wants fewer requests",
    Unauthorised: "refuses the key",
    OutOfCredit: "wants money",
    Refused: "refuses the request by its policy",
    NotFound: "does not serve this model",
    BadRequest: "rejects the form of the request",
    Unreachable: "failed",
}


def _remedy(endpoint: Endpoint, kind: type[ModelError]) -> str:
    keys = endpoint.key_source or (endpoint.provider.keys[0] if endpoint.provider.keys else "")
    if kind is Unreachable or kind is RateLimited:
        return _again(endpoint)
    if kind is NotFound:
        return _other_model(endpoint)
    if endpoint.bill_to and kind in {Unauthorised, OutOfCredit}:
        return _of_payer(endpoint, keys, kind)
    remedies: dict[type[ModelError], str] = {
        Overflow: "Start a new session, or choose a model with a larger window with --model.",
        Unauthorised: f"Check {keys}: the key, and that it may use this model."
        if endpoint.key_source
        else f"Set {keys} to a key that may use this model.",
        OutOfCredit: f"Add credit to the account of {keys}, or choose another model with --model.",
        Refused: "Say it in other words, or choose another model with --model.",
        BadRequest: "Choose another model with --model, or update the server: it must take chats with tools.",
    }
    return remedies[kind]


def _of_payer(endpoint: Endpoint, keys: str, kind: type[ModelError]) -> str:
    """An organisation pays: it is its credit that is out, or it does not let this key spend."""
    who = endpoint.bill_to
    if kind is OutOfCredit:
        where = f"huggingface.co/organizations/{who}/settings/billing"
        return f"Add credit to {who} ({where}), or name another payer with --bill-to."
    return f"Check {keys}: the key, and that it may bill {who}; or name another payer with --bill-to."


def _other_model(endpoint: Endpoint) -> str:
    if endpoint.provider.wire == "adapted":
        return "Check the name in the provider's own list, and that the account may use it."
    if endpoint.provider.id == "ollama":
        return f"Fetch it with `ollama pull {endpoint.model}`, or name one of `ollama list` with --model."
    hub = f", or --model hf/{endpoint.id} for the Hub's" if endpoint.provider.id in {"openai", "deepseek"} else ""
    if endpoint.provider.id == "hf":
        return "Check the name: `ml-intern models WORD --provider hf` lists what is served."
    return f"Check the name: {endpoint.base_url}/models lists what is served{hub}."


def _again(endpoint: Endpoint) -> str:
    if endpoint.loopback:
        return "Look at the server's own output, and try again."
    return "Try again in a moment, or choose another model with --model."


def _sentence(said: str) -> str:
    """The words of somebody else in one line with one end."""
    line = one_line(said, SHOWN_CHARS).rstrip(".")
    return line if line.endswith(("!", "?", "…")) else f"{line}."


def _who(endpoint: Endpoint) -> str:
    return f"{endpoint.provider.title} ({endpoint.host})" if endpoint.host else endpoint.provider.title


def _of(status: int) -> str:
    return f" (HTTP {status})" if status else ""
