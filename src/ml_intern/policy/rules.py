"""Rules of policy: `allow|ask|deny '<verb> <glob>[, bounds]'`, parsed and matched against one effect.

Pure; knows no mode and no tool.
"""

import difflib
import re
from collections.abc import Iterable
from fnmatch import translate
from typing import assert_never

from msgspec import Struct

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import Micro, usd
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
from ml_intern.record.events import Decision, RuleGiven

VERBS = ("read", "write", "execute", "reach", "spend", "publish", "destroy", "notify")
FORM = "Write it as '<verb> <glob>', for example 'publish hub:me/*, private' or 'spend me, up to 2.50'"

BOUNDS = "'3 times', 'once', '5.00 in all', 'until 18:30', 'until 2026-12-31', 'this turn', 'this session'"

_BOUND = re.compile(
    r"(?s)(?P<rest>.+), *(?:(?P<private>private)|(?P<only>push|create) only|up to (?P<most>[^ ,]+)"
    r"|(?P<total>[^ ,]+) in all|(?P<times>\d{1,6}) times?|(?P<once>once)"
    r"|until (?P<until>\d{4}-\d\d-\d\d(?: \d\d:\d\d)?|\d{1,2}:\d\d)|(?P<turn>this turn)|(?P<session>this session))"
)
_GLOB = re.compile(r"([*?[])")
_PUSHES = ("push", "create")
ORIGINS = {
    "flag": "a flag",
    "user": "the user's settings",
    "workspace": "the settings of this workspace",
    "answer": "an answer",
}


class Bounds(Struct, frozen=True):
    """How much is allowed in all: calls, micro-dollars, until when (as it was written), in one turn only."""

    times: int | None = None
    total: Micro | None = None
    until: str = ""
    turn: bool = False


class Rule(Struct, frozen=True):
    """A rule that can be matched. `private`, `only` (a verb of what is published) and `most` (micro-dollars) bound each
    call that an `allow` covers; with `bounds` it is no rule but a grant, which must be counted.
    """

    given: RuleGiven
    verb: str
    glob: str
    private: bool = False
    most: Micro | None = None
    only: str = ""
    bounds: Bounds = Bounds()

    @property
    def is_counted(self) -> bool:
        """Whether it holds for a while only."""
        return self.bounds != Bounds()

    @property
    def decision(self) -> Decision:
        """What becomes of a call that it matches."""
        return self.given.decision

    @property
    def words(self) -> str:
        """The rule and where it stands, for a sentence."""
        return f"`{self.given.decision} {self.given.text}` ({ORIGINS[self.given.origin]})"

    def matches(self, effect: Effect) -> bool:
        """Whether the rule speaks of this effect. What is allowed must be spelled out: no `..` on the way to it."""
        verb, target = target_of(effect)
        if verb != self.verb or not self.names(target):
            return False
        if self.decision == "allow" and _climbs(target):
            return False
        match effect:
            case Publishes(public=True) if self.private:
                return False
            case Publishes(verb=done) if self.only:
                return done == self.only
            case Spends(amount=amount) if self.most is not None:
                return amount <= self.most
            case _:
                return True

    def names(self, target: str) -> bool:
        """Whether the glob covers `target`; hosts are the same in capitals."""
        glob = self.glob
        if self.verb == "reach":
            glob, target = glob.lower(), target.lower()
        return re.fullmatch(translate(glob), target) is not None


def _climbs(target: str) -> bool:
    return ".." in re.split(r"[/:\\]", target)


def target_of(effect: Effect) -> tuple[str, str]:
    """The verb and the target of an effect, as a rule names them."""
    match effect:
        case Reads(target=target):
            return "read", target
        case Writes(target=target):
            return "write", target
        case Executes(command=command):
            return "execute", command
        case Reaches(host=host):
            return "reach", host
        case Spends(payer=payer):
            return "spend", payer
        case Publishes(target=target):
            return "publish", target
        case Destroys(target=target):
            return "destroy", target
        case Notifies(recipient=recipient):
            return "notify", recipient
        case _ as never:
            assert_never(never)


def rule_for(effect: Effect) -> str:
    """The narrowest rule that would allow this effect; empty where its target cannot stand in one."""
    verb, target = target_of(effect)
    if (
        not target.isprintable()
        or target != target.strip()
        or not target
        or _BOUND.fullmatch(target)
        or _climbs(target)
    ):
        return ""
    text = f"{verb} " + _GLOB.sub(r"[\1]", target)
    match effect:
        case Publishes(verb=done):
            return f"{text}, private" + (f", {done} only" if done in _PUSHES else "")
        case Spends(amount=amount):
            return f"{text}, up to {-(-amount // 10_000) / 100:.2f}"
        case _:
            return text


def parse_rule(given: RuleGiven, examples: Iterable[str] = (), counter: Iterable[str] = ()) -> Rule:
    """The rule of a text. `examples` are targets that it must cover, `counter` some that it must not.

    Raises:
        BadSettings: the text is no rule, or an example shows that it does not mean what was meant.
    """
    rest, each, bounds = _without_bounds(given)
    verb, _, glob = rest.partition(" ")
    if verb not in VERBS:
        near = difflib.get_close_matches(verb.lower(), VERBS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the verbs are {', '.join(VERBS)}."
        raise BadSettings(f"The rule {given.text!r} begins with no verb: {hint}", f"{FORM}.")
    if not glob.strip():
        raise BadSettings(f"The rule {given.text!r} does not say what it covers.", f"{FORM}; * covers all.")
    rule = Rule(given, verb, glob.strip(), each.private, each.most, each.only, bounds)
    if (rule.private or rule.only) and verb != "publish":
        what = f"The rule {given.text!r}: only what is published can be private, pushed or created."
        raise BadSettings(what, "Leave that out.")
    if (rule.most is not None or bounds.total is not None) and verb != "spend":
        raise BadSettings(f"The rule {given.text!r}: only spending has an amount.", "Leave the amount out.")
    if bounds.times == 0:
        raise BadSettings(f"The rule {given.text!r} allows nothing.", "Give 1 time or more, or leave the rule out.")
    if (rule.private or rule.only or rule.most is not None or rule.is_counted) and given.decision != "allow":
        what = f"The rule {given.decision} {given.text!r} has a bound, which only what is allowed can have."
        raise BadSettings(what, "Leave it out; what no rule allows is asked anyway.")
    _check(rule, examples, counter)
    return rule


def parse_rules(given: Iterable[RuleGiven]) -> tuple[Rule, ...]:
    """The rules of a record: their texts were checked when they were given."""
    return tuple(map(parse_rule, given))


class _Each(Struct, frozen=True):
    """The bounds of each call."""

    private: bool = False
    most: Micro | None = None
    only: str = ""


def _without_bounds(given: RuleGiven) -> tuple[str, _Each, Bounds]:
    rest, each, bounds = given.text.strip(), _Each(), Bounds()
    while bound := _BOUND.fullmatch(rest):
        rest = bound["rest"]
        each = _Each(
            each.private or bound["private"] is not None,
            usd(bound["most"]) if bound["most"] else each.most,
            bound["only"] or each.only,
        )
        bounds = Bounds(
            int(bound["times"]) if bound["times"] else 1 if bound["once"] else bounds.times,
            usd(bound["total"]) if bound["total"] else bounds.total,
            bound["until"] or bounds.until,
            bounds.turn or bound["turn"] is not None,
        )
    return rest, each, bounds


def _check(rule: Rule, examples: Iterable[str], counter: Iterable[str]) -> None:
    for target in examples:
        if not rule.names(target):
            what = f"The rule {rule.given.text!r} does not cover its example {target!r}."
            raise BadSettings(what, "Correct the rule or the example; * covers any text, / included.")
    for target in counter:
        if rule.names(target):
            what = f"The rule {rule.given.text!r} covers {target!r}, its counter-example."
            raise BadSettings(what, "Correct the rule or the example; * covers any text, / included.")
