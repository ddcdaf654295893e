"""Judges what a call would do: allow, ask or deny; the strictest wins. Pure; knows no tool and no door.

Over the mode stand the rules: one that asks or denies holds in every mode, one that allows frees only what would be
asked, and never what is on the floor. A place that only untrusted text has named is asked in every mode.
"""

from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.money import Micro, show
from ml_intern.policy.grants import Grant
from ml_intern.policy.rules import Rule, rule_for
from ml_intern.policy.taint import Taint
from ml_intern.record.effects import (
    Destroys,
    Effect,
    Executes,
    Notifies,
    Publishes,
    Reaches,
    Reads,
    Spends,
    Writes,
)
from ml_intern.record.events import LOOKING, Mode


class Allow(Struct, frozen=True):
    """The call may start, and uses these grants."""

    grants: tuple[str, ...] = ()


class Ask(Struct, frozen=True):
    """A person decides. `floor`: only a person, each time, in every mode; no rule can allow it.

    `rule` is the rule that would allow it, where one can. `by_rule`: a rule of the person's asks. `since` says what
    makes it so where that is nothing that the call does.
    """

    reason: str
    floor: bool = False
    rule: str = ""
    by_rule: bool = False
    since: str = ""

    @property
    def demand(self) -> str:
        """That a person must decide, and why: the beginning of a sentence."""
        if self.since:
            return f"{self.since}, so a person must allow this call"
        return f"this call {self.reason}, which only a person may allow"


class Deny(Struct, frozen=True):
    """The call does not start; `reason` says why, `remedy` what would allow it."""

    reason: str
    remedy: str


Verdict = Allow | Ask | Deny


def judge(
    effects: tuple[Effect, ...],
    mode: Mode,
    rules: Sequence[Rule] = (),
    grants: Sequence[Grant] = (),
    taints: Sequence[Taint] = (),
) -> Verdict:
    """The verdict on a call with these effects: what is denied first, then the floor, then the first that must be
    asked and that no grant covers. What goes where only untrusted text has pointed is asked in every mode.
    """
    tainted = {taint.effect: taint for taint in taints}
    judged = [_tainted(_with_rules(effect, mode, rules), effect, tainted.get(effect)) for effect in effects]
    verdicts = [_with_grants(effect, base, grants, effects) for effect, base in zip(effects, judged, strict=True)]
    denied = [verdict for verdict in verdicts if isinstance(verdict, Deny)]
    asks = [verdict for verdict in verdicts if isinstance(verdict, Ask)]
    on_floor = [ask for ask in asks if ask.floor]
    used = [key for verdict in verdicts if isinstance(verdict, Allow) for key in verdict.grants]
    return (denied or on_floor or asks or [Allow(tuple(dict.fromkeys(used)))])[0]


def _tainted(verdict: Verdict, effect: Effect, taint: Taint | None) -> Verdict:
    """A rule or a grant with a glob was not given for a place that a text has chosen; one that names it, was: then
    there is no taint.
    """
    if taint is None or isinstance(verdict, Deny) or (isinstance(verdict, Ask) and verdict.floor):
        return verdict
    reason = verdict.reason if isinstance(verdict, Ask) else _what(effect)
    return Ask(f"{reason}, and {taint.words}", rule=rule_for(effect), by_rule=True)


def needs(effects: tuple[Effect, ...], mode: Mode, rules: Sequence[Rule] = ()) -> tuple[list[Effect], bool]:
    """The effects that a person must be asked for, and whether one of them must be asked for each time."""
    verdicts = [(effect, _with_rules(effect, mode, rules)) for effect in effects]
    asks = [(effect, verdict) for effect, verdict in verdicts if isinstance(verdict, Ask)]
    return [effect for effect, _ in asks], any(verdict.floor for _, verdict in asks)


def _with_grants(effect: Effect, verdict: Verdict, grants: Sequence[Grant], effects: tuple[Effect, ...]) -> Verdict:
    """What would be asked is allowed by a grant that holds. One that asked by a rule yields only to a grant that was
    given in answer to it.
    """
    if not isinstance(verdict, Ask) or verdict.floor:
        return verdict
    meant = [grant for grant in grants if grant.covers(effect) and (grant.from_answer or not verdict.by_rule)]
    if held := next((grant for grant in meant if not grant.over and grant.pays(effects)), None):
        return Allow((held.id,))
    told = [f"{grant.words} would allow it, but {grant.over or 'what is left of it is less'}" for grant in meant[-1:]]
    return replace(verdict, reason="; ".join([verdict.reason, *told]))


def _with_rules(effect: Effect, mode: Mode, rules: Sequence[Rule]) -> Verdict:
    """The strictest of what the mode says and what the rules say."""
    matching = [rule for rule in rules if not rule.is_counted and rule.matches(effect)]
    found = {rule.decision: rule for rule in reversed(matching)}
    base = _in_mode(effect, mode)
    if deny := found.get("deny"):
        return Deny(f"the rule {deny.words} forbids it", "Find another way, or ask the user to change that rule.")
    if isinstance(base, Deny) or (isinstance(base, Ask) and base.floor):
        return base
    if ask := found.get("ask"):
        reason = base.reason if isinstance(base, Ask) else _what(effect)
        return Ask(f"{reason}; the rule {ask.words} asks", by_rule=True)
    if isinstance(base, Ask) and (mode == "yolo" or "allow" in found):
        return Allow()
    return Ask(base.reason, rule=rule_for(effect)) if isinstance(base, Ask) else base


def _what(effect: Effect) -> str:
    """What a free effect does, for a rule that wants it asked."""
    match effect:
        case Reads(target=target):
            return f"reads {target}"
        case Writes(target=target):
            return f"writes {target}"
        case Executes():
            return "runs a command"
        case Reaches(host=host):
            return f"connects to {host}"
        case Spends(amount=amount, payer=payer, what=what):
            return f"spends up to {show(Micro(amount))} of {payer} on {what}"
        case Publishes(target=target, verb=verb):
            return f"publishes to {target}" + (f" ({verb})" if verb else "")
        case Destroys(target=target):
            return f"deletes {target} for good"
        case Notifies(recipient=recipient):
            return f"sends a message to {recipient}"
        case _ as never:
            assert_never(never)


def _in_mode(effect: Effect, mode: Mode) -> Verdict:
    """In `plan` nothing but looking is done; in the other modes the effect decides."""
    if mode == LOOKING and not isinstance(effect, Reads | Reaches):
        remedy = "Look, and answer with what you would do; the user can go on in another mode (--mode auto)."
        return Deny(f"it {_what(effect)}, and in mode {mode} calls may only look", remedy)
    return _judge_one(effect, mode)


def _judge_one(effect: Effect, mode: Mode) -> Verdict:
    match effect:
        case Reads(within=within) | Writes(within=within):
            return Allow() if within else Ask(f"{_what(effect)}, outside the workspace")
        case Executes(walled=walled):
            return Allow() if walled else Ask("runs a command outside the sandbox", floor=True)
        case Reaches(known=known):
            return Allow() if known else Ask(f"{_what(effect)}, which is not on the allow-list")
        case Notifies():
            return Ask(_what(effect))
        case Spends():
            return _judge_spending(effect, mode)
        case Publishes(target=target, public=public):
            return Ask(f"makes {target} public", floor=True) if public else Ask(_what(effect))
        case Destroys(remote=remote):
            return Ask(_what(effect), floor=remote)
        case _ as never:
            assert_never(never)


def _judge_spending(effect: Spends, mode: Mode) -> Verdict:
    """In `auto` spending on the session's own payer is free up to the cap,
    which the purse holds when the call starts.
    """
    if not effect.own:
        return Ask(f"spends up to {show(Micro(effect.amount))} of {effect.payer}, another payer", floor=True)
    if mode == "auto":
        return Allow()
    return Ask(_what(effect))
