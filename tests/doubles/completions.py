"""Chat completions: one request in, one answer out, and its line in the ledger. Knows no socket."""

import hashlib
import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tests.doubles import protocol, replies
from tests.doubles.bodies import Bodies
from tests.doubles.http1 import Answer, Request
from tests.doubles.ledger import Ledger, Rates
from tests.doubles.prompts import Conversation, Prompts
from tests.doubles.protocol import Refused
from tests.doubles.script import Fault, Reply, Rule, Script, ScriptWrong, Seen

_STATUS_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    402: ("insufficient_quota", "insufficient_quota", "You have run out of credits."),
    403: ("invalid_request_error", "forbidden", "You are not allowed to do that."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What the server asks for: prices, a context window in tokens, a key, the models it has (none named: any).

    `whole`: it streams nothing, whatever is asked.
    """

    rates: Rates
    window: int | None = None
    key: str | None = None
    models: Collection[str] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request that was found good."""

    id: str
    body: dict[str, Any]
    client: str
    seen: Seen
    talk: Conversation


class Completions:
    """The endpoint."""

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
            error = refused
        except ScriptWrong as wrong:
            error = Refused(str(wrong), code="script_over")
        self._ledger.arrived(id_, request.began_ns, {**facts, "status": error.status})
        return Answer(id_, status=error.status, body=error.body())

    def _answer(self, id_: str, request: Request, facts: dict[str, Any]) -> Answer:
        check_key(request, self._terms.key)
        if request.method != "POST":
            raise Refused(f"Not allowed to {request.method} on {request.path}.", status=405)
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Refused("Expected the content type application/json.")
        body = self._bodies.parse(facts["client"], request.body)
        protocol.check_parameters(body)
        if self._terms.models and body["model"] not in self._terms.models:
            message = f"The model `{body['model']}` does not exist or you do not have access to it."
            raise Refused(message, code="model_not_found", status=404)
        talk = self._prompts.read(facts["client"], body)
        limit = protocol.max_tokens(body)
        names = frozenset(tool["function"]["name"] for tool in body.get("tools") or ())
        seen = Seen(talk.messages, talk.texts, talk.call_ids, body["model"], names)
        facts |= {"model": seen.model, "step": seen.step, "messages": len(seen.messages)}
        facts |= {"prompt_tokens": talk.tokens, "max_tokens": limit}
        if self._terms.window is not None and talk.tokens + limit > self._terms.window:
            raise _overflow(self._terms.window, talk.tokens, limit)
        with self._ledger.locked():
            rule, reply, fault = self._script.choose(seen, self._fired)
            facts |= {"rule": rule.index, "fault": fault.kind if fault else None}
            if fault and fault.kind in {"status", "overflow"}:
                answer = _refusal(id_, fault)
                self._ledger.arrived(id_, request.began_ns, {**facts, "status": answer.status})
                return answer
            answer, usage = self._generate(_Ask(id_, body, facts["client"], seen, talk), reply, fault)
            cost = self._terms.rates.cost(usage.prompt, usage.cached, usage.output)
            facts |= {"prompt_tokens": usage.prompt, "cached_tokens": usage.cached, "output_tokens": usage.output}
            chunks = len(answer.events) if answer.events is not None else 1
            facts |= {"cost": cost, "chunks_of": chunks, "status": 200}
            self._ledger.arrived(id_, request.began_ns, facts)
        return answer

    def _fired(self, rule: Rule) -> int:
        return self._ledger.fired(rule.index, fault=rule.fault is not None)

    def _generate(self, ask: _Ask, reply: Reply, fault: Fault | None) -> tuple[Answer, replies.Usage]:
        said = replies.spoken(reply, ask.seen, protocol.max_tokens(ask.body))
        if fault and said.calls and fault.kind == "truncated_call":
            said = replies.truncated_call(said)
        if fault and said.calls and fault.kind == "duplicate_ids":
            said = replies.duplicate_ids(said)
        cached = self._prompts.cached(ask.client, ask.seen.model, ask.talk)
        thought = replies.tokens(len(said.thinking.encode()))
        counted = {
            "prompt": ask.talk.tokens,
            "cached": cached,
            "output": replies.tokens(said.size),
            "reasoning": thought,
        }
        usage = replies.Usage(**(counted | (reply.usage if isinstance(reply.usage, dict) else {})))
        stream = bool(ask.body.get("stream")) and not self._terms.whole
        asked = not stream or bool((ask.body.get("stream_options") or {}).get("include_usage"))
        envelope = replies.Envelope.make(ask.id, ask.seen.model, report=asked and reply.usage != "none")
        if stream:
            return Answer(ask.id, events=replies.events(reply, said, usage, envelope), pace=reply, fault=fault), usage
        return Answer(ask.id, body=replies.completion(reply, said, usage, envelope), pace=reply, fault=fault), usage


def check_key(request: Request, key: str | None) -> None:
    """The key of a request is the server's.

    Raises:
        Refused: it is not.
    """
    given = request.headers.get("authorization", "")
    if key is None or given == f"Bearer {key}":
        return
    if not given:
        raise Refused("You didn't provide an API key.", status=401)
    # The real API repeats part of the key here; so that a client's own redaction is tried, the double does so, too.
    shown = given.removeprefix("Bearer ")
    raise Refused(f"Incorrect API key provided: {shown}.", code="invalid_api_key", status=401)


def _client(request: Request) -> str:
    # A fingerprint: the ledger may be shown to anyone.
    return hashlib.sha256(request.headers.get("authorization", "").encode()).hexdigest()[:8]


def _overflow(window: int, prompt: int, limit: int) -> Refused:
    message = (
        f"This model's maximum context length is {window} tokens. However, you requested {prompt + limit} tokens "
        f"({prompt} in the messages, {limit} in the completion). "
        "Please reduce the length of the messages or completion."
    )
    return Refused(message, "messages", "context_length_exceeded")


def _refusal(id_: str, fault: Fault) -> Answer:
    if fault.kind == "overflow":
        # Many servers name no window (llama.cpp); the one that a script gives the server is named.
        refused = Refused("the request exceeds the available context size", "messages", "context_length_exceeded")
        return Answer(id_, status=400, body=refused.body(), fault=fault)
    kind, code, message = _STATUS_ERRORS.get(fault.value, ("invalid_request_error", None, f"Status {fault.value}."))
    body = Refused(message, code=code, status=fault.value, type=kind).body()
    if fault.body is not None:
        body = fault.body.encode() if isinstance(fault.body, str) else json.dumps(fault.body).encode()
    headers = () if fault.retry_after is None else (("retry-after", f"{fault.retry_after:g}"),)
    return Answer(id_, status=fault.value, headers=headers, body=body, fault=fault)
