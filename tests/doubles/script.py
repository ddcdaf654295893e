"""A script: which reply, and which fault, the double gives to which transcript. Knows no HTTP and no bill.

A script is a list of rules, in a JSON file or in Python; README.md of this folder lists every word of one.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

_TEMPLATE = re.compile(r"\{\{(answer|user|assistant|system):(-?\d+)(?::/((?:[^/\\]|\\.)*)/)?\}\}")
_FRAMED = re.compile(r"^\[data ([0-9a-f]{12}) \|[^\n]*\]\n(.*)\n\[end of data \1\]$", re.MULTILINE | re.DOTALL)
"""As the product marks text of others: what a script quotes is what stands within."""
_ROLES = {"answer": "tool", "user": "user", "assistant": "assistant", "system": "system"}

# Each fault and the type of its value. "after" (SSE events sent before it) may stand beside those in the second line.
FAULTS: Mapping[str, type | tuple[type, ...]] = {
    **{"status": int, "overflow": bool, "hang": bool, "truncated_call": bool, "duplicate_ids": bool, "cut_after": int},
    **{"end_after": int, "reset": bool, "malformed": bool, "silence_s": (int, float), "error": dict},
}


class ScriptWrong(ValueError):
    """The script cannot be played, or has nothing for this transcript."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a rule may look at: the transcript of a request. `step` is the number of the model's replies in it.

    `texts` are those of the messages, by role; `call_ids` are all that occur.
    """

    messages: Sequence[dict[str, Any]]
    texts: Mapping[str, Sequence[str]]
    call_ids: Set[str]
    model: str
    tools: frozenset[str]

    @property
    def step(self) -> int:
        """How often the model has spoken."""
        return len(self.texts.get("assistant", ()))


@dataclass(frozen=True, slots=True)
class Call:
    """A call in a reply. `arguments` is an object, or a text that goes out as it stands (valid JSON or not)."""

    name: str
    arguments: dict[str, Any] | str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says. `deltas` is the number of pieces of the text (without one: of each call's arguments)."""

    text: str = ""
    thinking: str = ""
    thinking_field: str = "reasoning_content"
    redacted: str = ""
    calls: tuple[Call, ...] = ()
    repeat: int = 1
    deltas: int | None = None
    finish: str | None = None
    usage: dict[str, int] | str = "auto"
    delay_ms: float = 0
    first_delay_ms: float = 0
    chunk_delay_ms: float = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: one of FAULTS. `after` counts the SSE events that go out before it."""

    kind: str
    value: Any
    after: int = 1
    retry_after: float | None = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `times` is how often its fault happens, or, without a fault, how often the rule answers at all."""

    index: int
    when: dict[str, Any]
    reply: Reply | None
    fault: Fault | None
    times: int | None

    def matches(self, seen: Seen) -> bool:
        """Whether every condition holds."""
        return all(CONDITIONS[name](seen, value) for name, value in self.when.items())


class Choice(NamedTuple):
    """What a request gets: the rule that fires, what is said, what goes wrong."""

    rule: Rule
    reply: Reply
    fault: Fault | None


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message of the wire."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def _said(seen: Seen, roles: Sequence[str], text: str) -> bool:
    return any(text in said for role in roles for said in seen.texts.get(role, ()))


CONDITIONS: Mapping[str, Callable[[Seen, Any], bool]] = {
    "step": lambda seen, value: seen.step == value,
    "step_from": lambda seen, value: seen.step >= value,
    "step_below": lambda seen, value: seen.step < value,
    "last_role": lambda seen, value: seen.messages[-1]["role"] == value,
    "last_contains": lambda seen, value: value in text_of(seen.messages[-1]),
    "user_contains": lambda seen, value: _said(seen, ["user"], value),
    "system_contains": lambda seen, value: _said(seen, ["system", "developer"], value),
    "any_contains": lambda seen, value: _said(seen, [*seen.texts], value),
    "model": lambda seen, value: seen.model == value,
    "tool_offered": lambda seen, value: value in seen.tools,
}


class Script:
    """The rules in their order."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules

    def choose(self, seen: Seen, fired: Callable[[Rule], int]) -> Choice:
        """The first rule that matches and is not used up, its reply, and its fault where that still happens.

        A fault without a reply befalls what the rules after it say.

        Raises:
            ScriptWrong: there is none.
        """
        befallen: Rule | None = None
        for rule in self.rules:
            if not rule.matches(seen):
                continue
            fresh = rule.times is None or fired(rule) < rule.times
            if befallen and rule.reply and (fresh or rule.fault):
                return Choice(befallen, rule.reply, befallen.fault)
            if fresh and rule.reply is None:
                befallen = befallen or rule
            elif rule.reply and (fresh or rule.fault):
                return Choice(rule, rule.reply, rule.fault if fresh else None)
        if befallen:
            return Choice(befallen, Reply(text="This is there to go wrong. " * 8), befallen.fault)
        last = seen.messages[-1]
        raise ScriptWrong(f"The script has no rule for step {seen.step} after {last['role']}: {text_of(last)[:200]!r}")


def load(source: Path | Sequence[Mapping[str, Any]]) -> Script:
    """Read a script.

    Raises:
        ScriptWrong: a word in it is unknown, or a value has the wrong type.
    """
    rules = json.loads(source.read_text()) if isinstance(source, Path) else source
    if not isinstance(rules, (list, tuple)):
        raise ScriptWrong("a script is a list of rules")
    return Script([_rule(index, rule) for index, rule in enumerate(rules)])


def _rule(index: int, rule: Mapping[str, Any]) -> Rule:
    where = f"rule {index}"
    _known(rule, {"when", "reply", "fault", "times", "note"}, where)
    when = dict(rule.get("when") or {})
    _known(when, CONDITIONS.keys(), f"{where}, when")
    reply, fault = rule.get("reply"), rule.get("fault")
    if reply is None and fault is None:
        raise ScriptWrong(f"{where} has neither reply nor fault")
    return Rule(index, when, _reply(reply, where), _fault(fault, where), rule.get("times"))


def _reply(reply: Mapping[str, Any] | None, where: str) -> Reply | None:
    if reply is None:
        return None
    _known(reply, {field.name for field in fields(Reply)}, f"{where}, reply")
    calls = []
    for call in reply.get("calls", ()):
        _known(call, {"name", "arguments", "id"}, f"{where}, call")
        calls.append(Call(call["name"], call.get("arguments", {}), call.get("id")))
    return Reply(**{**reply, "calls": tuple(calls)})


def _fault(fault: Mapping[str, Any] | None, where: str) -> Fault | None:
    if fault is None:
        return None
    kinds = fault.keys() & FAULTS.keys()
    if len(kinds) != 1:
        raise ScriptWrong(f"{where}: a fault is exactly one of {', '.join(FAULTS)}, not {dict(fault)!r}")
    kind = kinds.pop()
    _known(fault, {kind, "after", "retry_after", "body"}, f"{where}, fault")
    if not isinstance(fault[kind], FAULTS[kind]) or fault[kind] is False:
        raise ScriptWrong(f"{where}: {fault[kind]!r} is no value for the fault {kind!r}")
    after = fault[kind] if kind in {"cut_after", "end_after"} else fault.get("after", 0 if kind == "reset" else 1)
    return Fault(kind, fault[kind], after, fault.get("retry_after"), fault.get("body"))


def _known(words: Mapping[str, Any], known: Set[str], where: str) -> None:
    unknown = [word for word in words if word not in known]
    if unknown:
        raise ScriptWrong(f"{where}: unknown {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}")


def filled(value: Any, seen: Seen) -> Any:
    """The value with `{{answer:-1:/sha256: (\\w+)/}}` and its like replaced by what stands in the transcript.

    Raises:
        ScriptWrong: there is no such message, or the expression finds nothing in it.
    """
    if isinstance(value, str):
        return _TEMPLATE.sub(lambda found: _captured(found, seen), value) if "{{" in value else value
    if isinstance(value, list):
        return [filled(one, seen) for one in value]
    if isinstance(value, dict):
        return {name: filled(one, seen) for name, one in value.items()}
    return value


def _captured(found: re.Match[str], seen: Seen) -> str:
    who, number, expression = found.groups()
    texts = seen.texts.get(_ROLES[who], ())
    index = int(number)
    if not -len(texts) <= index < len(texts):
        raise ScriptWrong(f"{found.group()}: the transcript has {len(texts)} messages of {who}")
    text = _FRAMED.sub(r"\2", texts[index])
    if expression is None:
        return text
    match = re.search(expression.replace("\\/", "/"), text, re.MULTILINE)
    if match is None:
        raise ScriptWrong(f"{found.group()} finds nothing in {text[:200]!r}")
    return match.group(1) if match.re.groups else match.group()
