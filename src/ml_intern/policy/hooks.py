"""Hooks: commands of the person's own that are told what happens. Which are meant, and what one answered. Pure.

A hook may only tighten: what it allows is judged as it would be without it.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal

import msgspec
from msgspec import Struct

from ml_intern.base.text import one_line
from ml_intern.policy.rules import Rule
from ml_intern.record.effects import Effect
from ml_intern.record.hooks import HookDecision, HookOn, HookRan

OnError = Literal["ask", "ignore"]
DEFAULT_TIMEOUT_S = 10.0
MOST_TIMEOUT_S = 600.0
_REASON_CHARS = 500
_NOTE_CHARS = 4_000
_ORDER: tuple[HookDecision, ...] = ("allow", "ask", "deny")


class Hook(Struct, frozen=True):
    """One hook as a settings file holds it; `origin` is FILE:LINE.

    It is told of calls with an effect that one of `rules` covers, by a tool that one of the globs `tools` names;
    without either, of all. `on_error`: what becomes of a call when the hook before it fails.
    """

    name: str
    on: HookOn
    command: str
    rules: tuple[Rule, ...] = ()
    tools: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    on_error: OnError = "ask"
    origin: str = ""

    def wants(self, on: HookOn, tool: str = "", effects: Iterable[Effect] = ()) -> bool:
        """Whether it is to be told of this."""
        if on != self.on or (self.tools and not any(fnmatchcase(tool, glob) for glob in self.tools)):
            return False
        return not self.rules or any(rule.matches(effect) for rule in self.rules for effect in effects)


class _Answer(Struct, frozen=True, forbid_unknown_fields=True):
    decision: HookDecision = "allow"
    reason: str = ""
    note: str = ""


def ran(hook: Hook, call: str, output: bytes, total_ms: int) -> HookRan:
    """What the hook answered; nothing at all is `allow`."""
    try:
        answer = msgspec.json.decode(output, type=_Answer) if output.strip() else _Answer()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return failed(hook, call, f"its answer cannot be read: {one_line(str(error), 200)}", total_ms)
    decision = answer.decision if hook.on == "before_call" else None
    reason, note = one_line(answer.reason, _REASON_CHARS), answer.note.strip()[:_NOTE_CHARS]
    return HookRan(hook.name, hook.on, call, decision, reason, note, "", total_ms)


def failed(hook: Hook, call: str, why: str, total_ms: int) -> HookRan:
    """A hook that gave no answer: the call before which it stood asks, unless it may be ignored. Where the hook stands
    is told to the person only.
    """
    fault = f"The hook {hook.name!r} ({hook.origin}) failed ({why})."
    decision: HookDecision | None = None
    if hook.on == "before_call":
        decision = "ask" if hook.on_error == "ask" else "allow"
    return HookRan(hook.name, hook.on, call, decision, why, "", fault, total_ms)


def strictest(answers: Iterable[HookRan]) -> HookRan | None:
    """The answer that counts among several: deny before ask; None where none tightens."""
    found = [each for each in answers if each.decision in _ORDER[1:]]
    return max(found, key=lambda each: _ORDER.index(each.decision or "allow"), default=None)
