"""A server of Anthropic messages, scripted like the other one, with the same ledger. Imports nothing of the product.

In a test: `async with AnthropicDouble(script) as double: double.url`. Shapes as the official client's types demand
(anthropic 2.12, anthropic/types: raw_message_stream_event.py, message.py, usage.py, shared/error_response.py).
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.doubles import anthropic_protocol, replies
from tests.doubles.bodies import Bodies
from tests.doubles.completions import Terms
from tests.doubles.http1 import Answer, Request
from tests.doubles.ledger import Ledger
from tests.doubles.openai_server import Double
from tests.doubles.prompts import Prompts
from tests.doubles.protocol import Refused
from tests.doubles.script import Fault, Reply, Rule, Script, ScriptWrong, Seen, load

_FINISHES = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}
# anthropic/types/shared/error_type.py, and the words of the API beside each.
_ERRORS = {
    400: ("invalid_request_error", "The request is malformed."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "There is an issue with your billing or payment information."),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "model: the model does not exist"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out"),
    529: ("overloaded_error", "Overloaded"),
}


class AnthropicDouble(Double):
    """The server; its arguments are those of `Double`."""

    def __init__(self, script: Path | Sequence[Mapping[str, Any]], **more: Any) -> None:
        super().__init__(script, **more)
        self._messages = _Messages(load(script), self.ledger, self._terms)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    async def __aenter__(self) -> "AnthropicDouble":
        await self.start()
        return self

    def answer(self, request: Request) -> Answer:
        """What to send for a request."""
        self.bodies.append(json.loads(request.body or b"{}"))
        self.headers.append(request.headers)
        return self._messages.answer(request)


class _Messages:
    """The endpoint: one request in, one answer out, and its line in the ledger."""

    def __init__(self, script: Script, ledger: Ledger, terms: Terms) -> None:
        self._script = script
        self._ledger = ledger
        self._terms = terms
        self._bodies = Bodies()
        self._prompts = Prompts()

    def answer(self, request: Request) -> Answer:
        """Judge a request, choose its reply, bill it."""
        id_ = secrets.token_hex(6)
        facts: dict[str, Any] = {"path": request.path, "client": _client(request)}
        try:
            return self._answer(id_, request, facts)
        except Refused as refused:
            status, message = refused.status, refused.message
        except ScriptWrong as wrong:
            status, message = 400, str(wrong)
        self._ledger.arrived(id_, request.began_ns, {**facts, "status": status})
        return Answer(id_, status=status, body=_error(status, message))

    def _answer(self, id_: str, request: Request, facts: dict[str, Any]) -> Answer:
        self._check_head(request)
        body = self._bodies.parse(facts["client"], request.body)
        anthropic_protocol.check(body)
        if self._terms.models and body["model"] not in self._terms.models:
            raise Refused(f"model: {body['model']}", status=404)
        rows = anthropic_protocol.as_chat(body)
        talk = self._prompts.read(facts["client"], {**body, "messages": rows})
        seen = Seen(rows, talk.texts, talk.call_ids, body["model"], frozenset(_names(body)))
        limit = body["max_tokens"]
        facts |= {"model": seen.model, "step": seen.step, "messages": len(body["messages"])}
        facts |= {"prompt_tokens": talk.tokens, "max_tokens": limit}
        if self._terms.window is not None and talk.tokens > self._terms.window:
            raise Refused(f"prompt is too long: {talk.tokens} tokens > {self._terms.window} maximum")
        with self._ledger.locked():
            rule, reply, fault = self._script.choose(seen, self._fired)
            facts |= {"rule": rule.index, "fault": fault.kind if fault else None}
            if fault and fault.kind in {"status", "overflow"}:
                answer = _refusal(id_, fault)
                self._ledger.arrived(id_, request.began_ns, {**facts, "status": answer.status})
                return answer
            said = replies.spoken(reply, seen, limit)
            if fault and said.calls and fault.kind == "truncated_call":
                said = replies.truncated_call(said)
            cached = self._prompts.cached(facts["client"], seen.model, talk)
            cached = cached if anthropic_protocol.has_marks(body) else 0
            usage = replies.Usage(talk.tokens, cached, replies.tokens(said.size))
            events = [*_events(id_, seen.model, reply, said, usage)]
            facts |= {"cached_tokens": cached, "output_tokens": usage.output, "chunks_of": len(events), "status": 200}
            facts |= {"cost": self._terms.rates.cost(usage.prompt, cached, usage.output)}
            self._ledger.arrived(id_, request.began_ns, facts)
        if self._terms.whole or not body.get("stream"):
            return Answer(id_, body=_whole(events), pace=reply, fault=fault)
        return _streamed(id_, events, reply, fault)

    def _check_head(self, request: Request) -> None:
        if request.path != "/v1/messages" or request.method != "POST":
            raise Refused("Not Found", status=404)
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._terms.key is not None and key != self._terms.key:
            raise Refused("invalid x-api-key", status=401)
        if request.headers.get("anthropic-version") not in anthropic_protocol.VERSIONS:
            raise Refused("anthropic-version: header is required")

    def _fired(self, rule: Rule) -> int:
        return self._ledger.fired(rule.index, fault=rule.fault is not None)


def _streamed(id_: str, events: list[tuple[str, dict[str, Any]]], reply: Reply, fault: Fault | None) -> Answer:
    lines = [_sse(name, event) for name, event in events]
    if fault and fault.kind == "error":
        # The API names its error events; the connection ends properly after one.
        lines = [*lines[: fault.after], _sse("error", {"type": "error", "error": fault.value})]
        fault = replace(fault, kind="end_after", after=len(lines))
    return Answer(id_, events=lines, pace=reply, fault=fault)


def _events(
    id_: str, model: str, reply: Reply, said: replies.Spoken, usage: replies.Usage
) -> Iterator[tuple[str, dict[str, Any]]]:
    counts = {
        "input_tokens": usage.prompt - usage.cached,
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
    }
    message = {"id": f"msg_{id_}", "type": "message", "role": "assistant", "model": model, "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {**counts, "output_tokens": 1}}
    yield "message_start", {"message": message}
    yield "ping", {}
    for index, (start, deltas) in enumerate(_blocks(reply, said)):
        yield "content_block_start", {"index": index, "content_block": start}
        for delta in deltas:
            yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    ends = {"stop_reason": _FINISHES.get(said.finish, said.finish), "stop_sequence": None}
    yield "message_delta", {"delta": ends, "usage": {"output_tokens": usage.output}}
    yield "message_stop", {}


def _blocks(reply: Reply, said: replies.Spoken) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if reply.redacted:
        yield {"type": "redacted_thinking", "data": f"enc-{reply.redacted}"}, []
    if said.thinking:
        pieces = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(said.thinking, None)]
        sign = {"type": "signature_delta", "signature": anthropic_protocol.signed(said.thinking)}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*pieces, sign]
    if said.text:
        pieces = [{"type": "text_delta", "text": piece} for piece in _pieces(said.text, reply.deltas)]
        yield {"type": "text", "text": ""}, pieces
    for id_, name, arguments in said.calls:
        deltas = None if said.text else reply.deltas
        pieces = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in ("", *(_pieces(arguments, deltas) if arguments != "{}" else ()))
        ]
        yield {"type": "tool_use", "id": id_.replace("call_", "toolu_"), "name": name, "input": {}}, pieces


def _pieces(text: str, count: int | None) -> list[str]:
    count = count or -(-len(text) // 4)
    bounds = [len(text) * n // count for n in range(count + 1)] if text else []
    return [text[start:end] for start, end in pairwise(bounds)]


def _whole(events: list[tuple[str, dict[str, Any]]]) -> bytes:
    """The same reply in one piece."""
    message: dict[str, Any] = {}
    for name, event in events:
        match name:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append({**event["content_block"]})
            case "content_block_delta":
                _add(message["content"][event["index"]], event["delta"])
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case _:
                pass
    for block in message["content"]:
        if "partial_json" in block:
            block["input"] = _input(block.pop("partial_json"))
    return json.dumps(message).encode()


def _input(arguments: str) -> Any:
    """What was written of a call before the limit is no object yet: the API sends none of it."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {}


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name != "type":
            block[name] = block.get(name, "") + value


def _names(body: dict[str, Any]) -> list[str]:
    return [tool["name"] for tool in body.get("tools") or ()]


def _client(request: Request) -> str:
    key = request.headers.get("x-api-key", "") + request.headers.get("authorization", "")
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _refusal(id_: str, fault: Fault) -> Answer:
    if fault.kind == "overflow":
        # As proxies say it: the window that a script gives the server is named.
        return Answer(id_, status=400, body=_error(400, "prompt is too long"), fault=fault)
    body = _error(fault.value, _ERRORS.get(fault.value, ("", f"Status {fault.value}."))[1])
    if fault.body is not None:
        body = fault.body.encode() if isinstance(fault.body, str) else json.dumps(fault.body).encode()
    headers = () if fault.retry_after is None else (("retry-after", f"{fault.retry_after:g}"),)
    return Answer(id_, status=fault.value, headers=headers, body=body, fault=fault)


def _error(status: int, message: str) -> bytes:
    kind = _ERRORS.get(status, ("api_error" if status >= 500 else "invalid_request_error", ""))[0]
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_double"}
    return json.dumps(error).encode()


def _sse(name: str, event: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **event})}\n\n".encode()
