"""What progress leaves out because its reader has just said it, as lines: who said, set and answered what, and when.

Draws events; knows no tool.
"""

import time

from ml_intern.agent.prompt import machine_words
from ml_intern.base.money import Micro
from ml_intern.base.money import show as dollars
from ml_intern.base.text import one_line, visible_line
from ml_intern.record.events import (
    BriefSet,
    CapSet,
    CompactAsked,
    Entry,
    Granted,
    GrantEnded,
    GuardsSet,
    Lifted,
    LimitsSet,
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
from ml_intern.record.ground import GroundSet

_WIDTH = 100


def head_lines(entry: Entry) -> list[str]:
    """The lines of an entry that progress is silent about; none of them can forge another."""
    return [visible_line(line) for line in _lines(entry)]


def _lines(entry: Entry) -> list[str]:
    return [*_of_session(entry), *_of_settings(entry), *_of_guards(entry), *_of_person(entry)]


def _of_guards(entry: Entry) -> list[str]:
    match entry.event:
        case GuardsSet(repeats=repeats, stall=stall, plan=plan):
            return [f"guards: repeats {repeats or 'off'}, stall {stall or 'off'}, plan {'on' if plan else 'off'}"]
        case Lifted():
            return ["the pause was lifted"]
        case _:
            return []


def _of_session(entry: Entry) -> list[str]:
    match entry.event:
        case SessionStarted(session=session, workspace=workspace, forked_from=original):
            return [f"session {session} in {workspace}" + (f", copied from {original}" if original else "")]
        case OwnerTook(door=door, pid=pid, host=host):
            return [f"opened {_moment(entry.at)} by process {pid} ({door}) on {host}"]
        case CompactAsked():
            return ["compaction asked for: before the model is asked again"]
        case SessionClosed():
            return ["closed"]
        case _:
            return []


def _of_settings(entry: Entry) -> list[str]:
    match entry.event:
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
        case GroundSet(machine=machine, joined=joined):
            words = [f"machine: {machine_words(machine)}"] if machine is not None else []
            return [*words, *(f"{each.kind} joined: {each.path}" for each in joined)]
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
            return ["stop: the turn's time is up" if reason == "limit" else "stop: a person asked for it"]
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
