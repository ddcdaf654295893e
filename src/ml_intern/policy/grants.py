"""Grants: what a person allowed within bounds, whether it still holds, and what is said of it. Pure; knows no tool."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from ml_intern.base.money import Micro, show
from ml_intern.policy.rules import ORIGINS, Rule, parse_rules, rule_for
from ml_intern.record.effects import Effect, Spends
from ml_intern.record.events import Granted, RuleGiven
from ml_intern.record.folds.grants import Given


class Grant(Struct, frozen=True):
    """A grant as it stands at one instant: `over` says why it allows nothing now; empty while it does."""

    id: str
    rules: tuple[Rule, ...]
    over: str
    left: int | None
    """Micro-dollars that calls may still cost; None without such a bound."""

    def covers(self, effect: Effect) -> bool:
        """Whether one of its rules speaks of this effect."""
        return any(rule.matches(effect) for rule in self.rules)

    def pays(self, effects: Iterable[Effect]) -> bool:
        """Whether what these effects spend is left."""
        return self.left is None or sum(one.amount for one in effects if isinstance(one, Spends)) <= self.left

    @property
    def from_answer(self) -> bool:
        """Whether it was given in answer to a held call: it then speaks to the very rule that had asked."""
        return any(rule.given.origin == "answer" for rule in self.rules)

    @property
    def words(self) -> str:
        """The grant, for a sentence."""
        return ", ".join(f"`{rule.given.text}`" for rule in self.rules)


def grants_at(grants: Mapping[str, Given], now_ms: int) -> tuple[Grant, ...]:
    """Every grant of a record, as it stands at `now_ms`."""
    return tuple(_grant(each, now_ms) for each in grants.values())


def _grant(given: Given, now_ms: int) -> Grant:
    granted = given.granted
    left = None if granted.total is None else max(0, granted.total - given.committed)
    return Grant(granted.grant, parse_rules(granted.rules), why_over(given, now_ms), left)


def why_over(given: Given, now_ms: int) -> str:
    """Why the grant allows nothing any more; empty while it does."""
    granted = given.granted
    if given.ended:
        return given.ended
    if granted.times is not None and given.used >= granted.times:
        return f"it is used up ({given.used} of {granted.times})"
    if granted.until is not None and now_ms >= granted.until:
        return f"it ended {_moment(granted.until)}"
    if granted.total is not None and given.committed >= granted.total:
        return f"its {show(Micro(granted.total))} are spent"
    return ""


def line_of(given: Given, now_ms: int) -> str:
    """One line for a person: what it allows, who said so, what is left of it."""
    granted = given.granted
    text = ", ".join(f"`{rule.text}`" for rule in granted.rules)
    bounds = [f"{given.used} of {granted.times} used" if granted.times is not None else f"{given.used} used"]
    if granted.total is not None:
        bounds.append(f"{show(Micro(given.committed))} of {show(Micro(granted.total))} spent")
    bounds += [f"until {_moment(granted.until)}"] if granted.until is not None else []
    bounds += ["this turn"] if granted.turn else []
    over = why_over(given, now_ms)
    origins = ", ".join(dict.fromkeys(ORIGINS[rule.origin] for rule in granted.rules))
    return f"{text} ({origins}): {', '.join(bounds)}" + (f"; {over}" if over else "")


def like(effects: Sequence[Effect]) -> tuple[RuleGiven, ...]:
    """The narrowest rules that would allow these effects again; empty where one of them cannot stand in a rule."""
    texts = [rule_for(effect) for effect in effects]
    return tuple(RuleGiven("allow", text, "answer") for text in dict.fromkeys(texts)) if all(texts) else ()


def granted_of(rule: Rule, key: str, until: int | None) -> Granted:
    """The event of a rule with bounds; `until` is the instant that its words mean."""
    bounds = rule.bounds
    return Granted(key, (rule.given,), bounds.times, bounds.total, until, bounds.turn)


def _moment(instant_ms: int) -> str:
    # The person's own clock: it is their word.
    return datetime.fromtimestamp(instant_ms / 1000).strftime("%Y-%m-%d %H:%M")
