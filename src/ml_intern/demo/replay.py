"""Finds the next move of a story in a conversation. Knows no call's meaning.

It keeps nothing: the story is told anew each time and fed the answers that stand there, so that a cut session goes on.
"""

import json
import re
from collections.abc import Sequence

from msgspec import Struct

from ml_intern.demo.story import SEED, Outcome, Step, Story, astray, story
from ml_intern.model.scripted import Conversation, ScriptOver, Turn
from ml_intern.record.messages import Answered, Asked, Message, Reply

OVER = (
    "The decisions in this session are a script, and it has been played to its end. "
    "Ask a real model to go on here: ml-intern resume SESSION MESSAGE --model ID."
)
_MOST_CUTS = 3
_CUT = re.compile(r"\b(Interrupted:|Not run[.:]|Stopped |is gone, and the command with it)")
"""How the product words it that a call was not let end: such a call is made again, any other failure is one."""


class _Try(Struct, frozen=True):
    """A call and its answer. `old`: a person spoke after it."""

    tool: str
    arguments: str
    text: str
    ok: bool
    old: bool


def turn_of(seen: Conversation) -> Turn:
    """The next turn of the demo in a conversation that its prompt began.

    Raises:
        ScriptOver: another prompt began it, or the story has no decision for an answer.
    """
    first = seen.messages[0] if seen.messages else None
    seed = SEED.search(first.text) if isinstance(first, Asked) else None
    if seed is None:
        raise ScriptOver("This model plays the demo and nothing else.", "Start it with `ml-intern demo`.")
    move = next_move(story(int(seed[1])), seen.messages)
    return Turn(move) if isinstance(move, str) else Turn(move.say, calls=[(move.tool, move.arguments)])


def next_move(told: Story, messages: Sequence[Message]) -> Step | str:
    """The next step of `told`, or the text it ends with.

    Raises:
        ScriptOver: the story has no decision for an answer.
    """
    tries = _tries(messages)
    step, at = next(told), 0
    while True:
        same = _same(step, tries[at:])
        outcome = _outcome(step, same)
        if outcome is None:
            return step
        at += len(same)
        try:
            step = told.send(outcome)
        except StopIteration as end:
            return OVER if _spoken(messages) else end.value


def _tries(messages: Sequence[Message]) -> list[_Try]:
    calls = {call.id: call for message in messages if isinstance(message, Reply) for call in message.calls}
    spoke = max((at for at, message in enumerate(messages) if isinstance(message, Asked)), default=0)
    return [
        _Try(message.tool, calls[message.call].arguments, message.text, message.ok, at < spoke)
        for at, message in enumerate(messages)
        if isinstance(message, Answered)
    ]


def _same(step: Step, tries: Sequence[_Try]) -> list[_Try]:
    same: list[_Try] = []
    for each in tries:
        if each.tool != step.tool or json.loads(each.arguments) != step.arguments:
            break
        same.append(each)
    return same


def _outcome(step: Step, same: Sequence[_Try]) -> Outcome | None:
    """What the step came to; None where it is to be tried (again)."""
    if not same:
        return None
    last, cuts = same[-1], sum(_is_cut(each) for each in same)
    if last.ok:
        return Outcome(last.text)
    if _is_cut(last) and (last.old or cuts < _MOST_CUTS):
        return None
    if step.may_fail:
        return Outcome(last.text, ok=False)
    if last.old:
        return None
    raise astray(f"`{step.tool}` failed", last.text)


def _is_cut(tried: _Try) -> bool:
    return not tried.ok and _CUT.search(tried.text) is not None


def _spoken(messages: Sequence[Message]) -> bool:
    """Whether the story's last word is already said: someone talks to it after its end."""
    last = max((at for at, message in enumerate(messages) if isinstance(message, Answered)), default=0)
    return any(isinstance(message, Reply) and not message.calls for message in messages[last:])
