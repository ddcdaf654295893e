"""Turns commands into events, or refuses them in one sentence. Pure; knows no task."""

from typing import assert_never

from ml_intern.policy.grants import like
from ml_intern.policy.judge import needs
from ml_intern.policy.rules import parse_rules
from ml_intern.record.clearing import CompactAsked
from ml_intern.record.commands import Answer, Command, Compact, Lift, Permit, Rename, Say, Stop, Undo
from ml_intern.record.events import Event, Granted, Lifted, Renamed, StopAsked, ToolAnswered, ToolHeld, Undone, UserSaid
from ml_intern.record.log import Refusal
from ml_intern.record.titles import clean_title
from ml_intern.record.view import MAIN, View

DUPLICATE = Refusal("This command was already taken in.")


def take_in(view: View, command: Command) -> Event | Refusal:
    """The event that `command` makes of `view`; `DUPLICATE` where its id is already in the record."""
    if command.id in view.commands:
        return DUPLICATE
    match command:
        case Say(text=text) if not text.strip() and not command.images:
            return Refusal("The message is empty.", "Say what is to be done.")
        case Say():
            # Said between a stop and the end it brings: the turn is lost to it, so it opens the next.
            when = "after" if view.lane(MAIN).turn.stopping is not None else command.when
            return UserSaid(command.id, command.text, command.images, when, command.seen)
        case Answer():
            return _answer(view, command)
        case Permit():
            return _permit(view, command)
        case Stop():
            return stop_of(view, command, view.lane(MAIN).turn.started_seq)
        case Lift():
            paused = view.lane(MAIN).turn.paused
            return Lifted(command.id) if paused is not None else Refusal("No turn is paused.")
        case _:
            return _of_session(view, command)


def _of_session(view: View, command: Rename | Undo | Compact) -> Event | Refusal:
    match command:
        case Rename(title=title):
            cleaned = clean_title(title)
            return Renamed(cleaned, "user") if cleaned else Refusal("The title is empty.", "Write some words.")
        case Undo():
            return _undo(view, command)
        case Compact():
            return _compact(view, command)
        case _ as never:
            assert_never(never)


def _undo(view: View, undo: Undo) -> Event | Refusal:
    """Only at rest: what runs would go on unseen."""
    lane = view.lane(MAIN)
    if lane.turn.open or lane.calls:
        remedy = "Finish or stop it first: `ml-intern resume` goes on with it, `--deny all` refuses what waits."
        return Refusal("A turn is open, and an undo would hide what it does.", remedy)
    if undo.turns < 1:
        return Refusal(f"{undo.turns} turns cannot be undone.", "Give a whole number of 1 or more.")
    if undo.turns > len(lane.turns):
        there = f"only {len(lane.turns)}" if len(lane.turns) else "none"
        return Refusal(f"There are not {undo.turns} turns to undo, {there}.", "`ml-intern show` lists them.")
    return Undone(undo.id, lane.turns[-undo.turns] - 1)


def _compact(view: View, compact: Compact) -> Event | Refusal:
    lane = view.lane(MAIN)
    if not len(lane.transcript.lines):
        return Refusal("Nothing was said yet that could become a summary.", "Say something first.")
    if lane.memory.wanted:
        return Refusal("That was asked for already.", "It is done when the model is asked next.")
    return CompactAsked(compact.id)


def stop_of(view: View, stop: Stop, turn: int) -> Event | Refusal:
    """The stop of the main lane's turn that began with entry `turn`, if that is still open."""
    now = view.lane(MAIN).turn
    if not now.open or now.started_seq != turn:
        return Refusal("Nothing runs that could be stopped.")
    return StopAsked(stop.id, stop.reason)


def lane_of(view: View, command: Command) -> str:
    """The lane that `command` is for: an answer goes where its call is, anything else to the main agent."""
    if not isinstance(command, Answer):
        return MAIN
    return next((name for name, lane in view.lanes.items() if command.call in lane.calls), MAIN)


def _answer(view: View, answer: Answer) -> Event | Refusal:
    held = _held(view, answer)
    if isinstance(held, Refusal):
        return held
    return ToolAnswered(answer.id, answer.call, answer.approve, answer.text, answer.by)


def _permit(view: View, permit: Permit) -> Event | Refusal:
    """What is asked of a person each time cannot be allowed for many."""
    held = _held(view, permit)
    if isinstance(held, Refusal):
        return held
    settings = view.settings
    mode = settings.mode.mode if settings.mode is not None else "ask"
    effects, on_floor = needs(held.effects, mode, parse_rules(settings.rules.rules))
    once = "Approve this call alone: leave --times and --always-this-session out."
    if on_floor:
        return Refusal(f"Call {permit.call} {held.reason}: that is asked each time.", once)
    if permit.times is not None and permit.times < 1:
        return Refusal(f"{permit.times} more calls cannot be allowed.", "Give a whole number of 1 or more.")
    if not (rules := like(effects)):
        return Refusal(f"No rule can say what calls like {permit.call} would be.", once)
    return Granted(permit.id, rules, permit.times, command=permit.id)


def _held(view: View, answer: Answer | Permit) -> ToolHeld | Refusal:
    """An answer holds only for what was shown: the call must still be held under the same binding."""
    for lane in view.lanes.values():
        open_call = lane.calls.get(answer.call)
        if open_call is None or open_call.state != "held" or open_call.held is None:
            continue
        if open_call.held.binding != answer.binding:
            return Refusal("What this call would do has changed since it was shown.", "Look at it again.")
        return open_call.held
    return Refusal(f"No call {answer.call} waits for an answer.", "`ml-intern show` lists what waits.")
