"""Turns commands into events, or refuses them in one sentence. Pure; knows no task."""

from typing import assert_never

from ml_intern.record.commands import Answer, Command, Say, Stop
from ml_intern.record.events import Event, StopAsked, ToolAnswered, UserSaid
from ml_intern.record.log import Refusal
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
        case Stop():
            return stop_of(view, command, view.lane(MAIN).turn.started_seq)
        case _ as never:
            assert_never(never)


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
    """An answer holds only for what was shown: the call must still be held under the same binding."""
    for lane in view.lanes.values():
        open_call = lane.calls.get(answer.call)
        if open_call is None or open_call.state != "held" or open_call.held is None:
            continue
        if open_call.held.binding != answer.binding:
            return Refusal("What this call would do has changed since it was shown.", "Look at it again.")
        return ToolAnswered(answer.id, answer.call, answer.approve, answer.text, answer.by)
    return Refusal(f"No call {answer.call} waits for an answer.", "`ml-intern show` lists what waits.")
