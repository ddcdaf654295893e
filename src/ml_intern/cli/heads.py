"""What progress leaves out because its reader has just said it, as lines: who said, set and answered what, and when.

Draws events; knows no tool.
"""

import time

from ml_intern.base.money import Micro
from ml_intern.base.money import show as dollars
from ml_intern.base.text import one_line, visible_line
from ml_intern.record.events import (
    BriefSet,
    CapSet,
    Compacted,
    Entry,
    Granted,
    GrantEnded,
    LimitsSet,
    ModelChosen,
    ModelStopped,
    ModeSet,
    OwnerTook,
    Renamed,
    RulesSet,
    SessionClosed,
    SessionStarted,
    StopAsked,
    ToolAnswered,
    Undone,
    UserSaid,
)

_WIDTH = 100


def head_lines(entry: Entry) -> list[str]:
    """The lines of an entry that progress is silent about; none of them can forge another."""
    return [visible_line(line) for line in (*_of_session(entry), *_of_settings(entry), *_of_person(entry))]


def _of_session(entry: Entry) -> list[str]:
    match entry.event:
        case SessionStarted(session=session, workspace=workspace, forked_from=original):
            return [f"session {session} in {workspace}" + (f", copied from {original}" if original else "")]
        case OwnerTook(door=door, pid=pid, host=host):
            return [f"opened {_moment(entry.at)} by process {pid} ({door}) on {host}"]
        case Compacted(upto=upto):
            return [f"compacted: the model sees entries up to {upto} as a summary"]
        case SessionClosed():
            return ["closed"]
        case _:
            return []


def _of_settings(entry: Entry) -> list[str]:
    match entry.event:
        case ModelChosen(role=role, model=model, payer=payer):
            return [f"model ({role}): {model}, paid by {payer}"]
        case CapSet(cap=cap):
            return [f"budget: {dollars(Micro(cap))}"]
        case ModeSet(mode=mode, on_ask=on_ask):
            return [f"mode: {mode}, on ask: {on_ask}"]
        case LimitsSet(max_steps=steps, max_time_s=seconds, due=due):
            facts = (
                f"{steps} steps a turn" if steps else "",
                f"{seconds:g} s a turn" if seconds else "",
                f"all work ends {_moment(due)}" if due else "",
            )
            return [f"limits: {', '.join(filter(None, facts)) or 'none'}"]
        case RulesSet(rules=rules, tools=tools):
            given = [f"rule ({rule.origin}): {rule.decision} {rule.text}" for rule in rules]
            return [*given, *([f"tools: {', '.join(tools) or 'none'}"] if tools is not None else [])]
        case BriefSet(append=append, schema=schema):
            facts = (("told besides", append), ("the answer must fit", schema))
            return [f"{what}: {one_line(text, _WIDTH)}" for what, text in facts if text]
        case _:
            return []


def _of_person(entry: Entry) -> list[str]:
    match entry.event:
        case UserSaid(text=text, images=images):
            pictures = [f"> ({each.mime}, kept as {each.sha})" for each in images]
            return [*(f"> {line}" for line in text.splitlines()), *pictures]
        case ToolAnswered(call=call, approve=approve, text=text, by=by):
            said = f": {one_line(text, _WIDTH)}" if text else ""
            return [f"call {call} was {'approved' if approve else 'refused'} by {by}{said}"]
        case StopAsked(reason=reason):
            return ["stop: the turn's time is up" if reason == "limit" else "stop: Ctrl+C"]
        case ModelStopped(text=text):
            return ["stopped in mid-reply" + (", so far it said:" if text else "")]
        case Granted(rules=rules):
            return [f"allowed: {', '.join(rule.text for rule in rules)}"]
        case GrantEnded(why=why):
            return [f"a permission ended: {why}"]
        case Undone(upto=upto):
            return [f"undone: the model no longer sees entries {upto + 1} to {entry.seq - 1}"]
        case Renamed(title=title):
            return [f"title: {title}"]
        case _:
            return []


def _moment(at_ms: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_ms / 1000))
    except (OSError, OverflowError, ValueError):
        # A record that was brought along may say anything.
        return f"{at_ms} ms after 1970"
