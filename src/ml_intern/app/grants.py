"""Rules with a count, a sum or an end become grants of the session. Knows no door and no tool."""

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime

from ml_intern.app.deadline import due_of
from ml_intern.base.errors import BadSettings
from ml_intern.base.ids import new_id
from ml_intern.policy.grants import granted_of
from ml_intern.policy.rules import Rule, parse_rules
from ml_intern.record.events import Granted, GrantEnded, RuleGiven
from ml_intern.record.folds.grants import Given

_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def split_rules(rules: Iterable[RuleGiven]) -> tuple[tuple[Rule, ...], tuple[RuleGiven, ...]]:
    """Those that must be counted, and the others."""
    parsed = parse_rules(rules)
    plain = tuple(rule.given for rule in parsed if not rule.is_counted)
    return tuple(rule for rule in parsed if rule.is_counted), plain


def grant_events(grants: Mapping[str, Given], counted: Iterable[Rule]) -> list[Granted | GrantEnded]:
    """What must be recorded. A flag is said anew each time; a line of a file gives once in a session, as long as it
    stands there.

    Raises:
        BadSettings: an end is no time, or lies in the past.
    """
    now_ms = time.time_ns() // 1_000_000
    rules = list(dict.fromkeys(counted))
    from_files = [rule.given for rule in rules if rule.given.origin != "flag"]
    known = {rule: key for key, given in grants.items() if not given.ended for rule in given.granted.rules}
    gone = [key for rule, key in known.items() if rule.origin in {"user", "workspace"} and rule not in from_files]
    ended = [GrantEnded(key, "its line is gone from the settings") for key in gone]
    fresh = [rule for rule in rules if rule.given.origin == "flag" or rule.given not in known]
    return [*ended, *(granted_of(rule, new_id(), until_of(rule, now_ms)) for rule in fresh)]


def check_end(rule: Rule) -> None:
    """Look at a rule's end before anything starts.

    Raises:
        BadSettings: it is none, or one that a line of a file cannot mean.
    """
    if rule.bounds.turn and rule.given.origin != "flag":
        raise BadSettings(f"The rule {rule.given.text!r}: a file knows no turn.", "Say it with --allow.")
    until_of(rule, time.time_ns() // 1_000_000)


def until_of(rule: Rule, now_ms: int) -> int | None:
    """The instant (milliseconds since 1970) that a rule's end names, by this machine's clock; None where it has none.

    Raises:
        BadSettings: it is none, or lies in the past.
    """
    text = rule.bounds.until
    if not text:
        return None
    if not _DAY.match(text):
        if rule.given.origin != "flag":
            what = f"The rule {rule.given.text!r}: a time of day means another day at each start."
            raise BadSettings(what, "Write the day, too: 'until 2026-12-31 18:30'.")
        return due_of(text, None, now_ms)
    try:
        until = datetime.fromisoformat(text if ":" in text else f"{text} 23:59:59")
    except ValueError as error:
        raise BadSettings(f"The rule {rule.given.text!r}: {error}.", "Write 'until 2026-12-31 18:30'.") from error
    instant = round(until.timestamp() * 1000)
    if instant <= now_ms and rule.given.origin == "flag":
        raise BadSettings(f"The rule {rule.given.text!r} has ended already.", "Give a later time.")
    return instant
