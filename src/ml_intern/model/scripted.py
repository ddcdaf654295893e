"""A model that plays a script: for the demo and for tests. Makes up no answer of a tool: what it quotes it has read.

A script is a sequence of turns, played in order:

    Scripted([
        Turn("First I look at the data.", calls=[("bash", {"command": "wc -l data.csv"})], takes={"rows": r"^(\\d+)"}),
        Turn("It failed; once more.", when=lambda seen: not seen.answers[-1].ok, calls=[("bash", {"command": "..."})]),
        Turn("The file has {{rows}} rows."),
    ])

or a function of the conversation that returns one turn. It keeps nothing between two requests: which turn comes next is
read from the transcript, so that a resumed session goes on at the right place, and one that was stopped is given again.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import Struct, field

from ml_intern.base.errors import BadRequest
from ml_intern.base.ids import new_id
from ml_intern.model.port import CallDelta, Delta, Finished, ModelInfo, Request, TextDelta, ThinkingDelta
from ml_intern.record.messages import Answered, Asked, Call, Message, Prices, Reply, ReplyPart, Text, Thinking, Usage

_CAPTURED = re.compile(r"\{\{(\w+)\}\}")
_PIECE_CHARS = 24

ToolCall = tuple[str, Mapping[str, Any]]
"""A tool's name and its arguments."""


class ScriptOver(BadRequest):
    """The script has no turn for this conversation, or one wants what no answer held."""


class Conversation(Struct, frozen=True):
    """What the model has seen, as a script's functions read it. `captured` is what `takes` found so far."""

    messages: Sequence[Message]
    captured: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def asked(self) -> str:
        """The last thing that a person said."""
        return next((each.text for each in self._back if isinstance(each, Asked) and each.by == "user"), "")

    @property
    def replies(self) -> int:
        """How many replies were given."""
        return sum(isinstance(each, Reply) for each in self.messages)

    @property
    def answers(self) -> tuple[Answered, ...]:
        """The answers to the calls of the last reply, in order; empty where it made none."""
        last = next((at for at in range(len(self.messages) - 1, -1, -1) if isinstance(self.messages[at], Reply)), 0)
        return tuple(each for each in self.messages[last:] if isinstance(each, Answered))

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls of the last reply."""
        return next((each.calls for each in self._back if isinstance(each, Reply)), ())

    @property
    def failed(self) -> bool:
        """Whether a call of the last reply failed, was refused, or was lost."""
        return not all(answer.ok for answer in self.answers)

    def found(self, pattern: str) -> bool:
        """Whether an answer to the last reply's calls holds the regular expression `pattern`."""
        return any(re.search(pattern, answer.text, re.MULTILINE) for answer in self.answers)

    @property
    def _back(self) -> Sequence[Message]:
        return self.messages[::-1]


class Turn(Struct, frozen=True):
    """One reply.

    `say`, `think` and the texts within `calls` may name captured values as `{{name}}`; `calls` may be a function of the
    conversation instead. A turn whose `when` does not hold is passed over; one that is `anywhere` is looked at before
    every reply, whatever was played before, and does not move the script on. `takes` captures from the answers to its
    calls: a regular expression (its first group), or a path into an answer that is JSON, as `$.runs[0].score`.
    """

    say: str = ""
    think: str = ""
    calls: Sequence[ToolCall] | Callable[[Conversation], Sequence[ToolCall]] = ()
    when: Callable[[Conversation], bool] | None = None
    anywhere: bool = False
    takes: Mapping[str, str] = field(default_factory=dict[str, str])

    def holds(self, seen: Conversation) -> bool:
        """Whether the turn may be played now."""
        return self.when is None or self.when(seen)


Script = Sequence[Turn] | Callable[[Conversation], Turn]


class Scripted:
    """Plays a script in small deltas. Implements `port.Model`; free, and says so by its name."""

    def __init__(self, script: Script, *, name: str = "script", pace_s: float = 0.0) -> None:
        """`pace_s`: the pause between two deltas, so that a person can read along."""
        self._script = script
        self._name = name
        self._pace_s = pace_s

    @cached_property
    def info(self) -> ModelInfo:
        """What a catalog would say: nothing is asked, so nothing is paid."""
        return ModelInfo(f"scripted/{self._name}", 1_000_000, 65_536, Prices(0, 0, source="a script"), "nobody")

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Play the next turn.

        Raises:
            ScriptOver: there is none, or it wants a value that no answer held.
        """
        turn, seen = self._next(request.messages)
        reply = _reply(turn, seen)
        for delta in _deltas(reply):
            await asyncio.sleep(self._pace_s)
            yield delta
        usage = Usage(prompt=_tokens(request), output=_tokens(reply))
        yield Finished(reply, usage, "calls" if reply.calls else "stop", self._name)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _next(self, messages: Sequence[Message]) -> tuple[Turn, Conversation]:
        """Play the script against what was already said; the turn after that is the next."""
        script = self._script
        position, captured = 0, dict[str, str]()
        turn: Turn | None = None
        for at, message in enumerate(messages):
            if isinstance(message, Reply):
                seen = Conversation(messages[:at], captured)
                turn, after = self._chosen(script, position, seen)
                position = position if turn and _was_stopped(turn, message, seen) else after
            elif isinstance(message, Answered) and turn:
                captured = {**captured, **_taken(turn.takes, message.text)}
        now = Conversation(messages, captured)
        turn, _ = self._chosen(script, position, now)
        if turn is None:
            raise ScriptOver(
                f"The script {self._name!r} is over: it has no turn for what comes after {now.replies} replies.",
                "Start anew, or go on with a model: --model.",
            )
        return turn, now

    def _chosen(self, script: Script, position: int, seen: Conversation) -> tuple[Turn | None, int]:
        """The turn to play after `position` turns were played or passed over, and the position after it."""
        if callable(script):
            return script(seen), 0
        for turn in script:
            if turn.anywhere and turn.holds(seen):
                return turn, position
        for at in range(position, len(script)):
            if not script[at].anywhere and script[at].holds(seen):
                return script[at], at + 1
        return None, len(script)


def _reply(turn: Turn, seen: Conversation) -> Reply:
    calls = turn.calls(seen) if callable(turn.calls) else turn.calls
    parts: list[ReplyPart] = []
    if turn.think:
        parts.append(Thinking(_filled(turn.think, seen)))
    if turn.say:
        parts.append(Text(_filled(turn.say, seen)))
    for tool, arguments in calls:
        own = new_id()
        parts.append(Call(own, f"call_{own}", tool, json.dumps(_filled_in(arguments, seen), ensure_ascii=False)))
    return Reply(tuple(parts))


def _was_stopped(turn: Turn, reply: Reply, seen: Conversation) -> bool:
    """Whether a person stopped the reply: what is kept has no calls, and only the beginning of the text."""
    return not reply.calls and (bool(turn.calls) or len(reply.text) < len(_filled(turn.say, seen)))


def _filled(text: str, seen: Conversation) -> str:
    def value(found: re.Match[str]) -> str:
        if (name := found.group(1)) not in seen.captured:
            raise ScriptOver(
                f"The script wants {{{{{name}}}}}, and no answer held it.",
                "Look at the answer of the last call: it is not what the script expects.",
            )
        return seen.captured[name]

    return _CAPTURED.sub(value, text)


def _filled_in(value: Any, seen: Conversation) -> Any:  # noqa: ANN401 - the JSON of a call's arguments
    match value:
        case str():
            return _filled(value, seen)
        case Mapping():
            return {name: _filled_in(each, seen) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case list() | tuple():
            return [_filled_in(each, seen) for each in value]  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def _taken(takes: Mapping[str, str], answer: str) -> dict[str, str]:
    found = {
        name: _at_path(rule, answer) if rule.startswith("$") else _in_text(rule, answer) for name, rule in takes.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _in_text(pattern: str, answer: str) -> str | None:
    match = re.search(pattern, answer, re.MULTILINE)
    return match.group(1 if match.re.groups else 0) if match else None


def _at_path(path: str, answer: str) -> str | None:
    try:
        value: Any = json.loads(answer)
        for name, index in re.findall(r"\.(\w+)|\[(-?\d+)\]", path):
            value = value[name] if name else value[int(index)]
    except (ValueError, LookupError, TypeError):
        return None
    return value if isinstance(value, str) else json.dumps(value)


def _deltas(reply: Reply) -> Sequence[Delta]:
    deltas: list[Delta] = []
    index = 0
    for part in reply.parts:
        match part:
            case Text():
                deltas += [TextDelta(piece) for piece in _pieces(part.text)]
            case Thinking():
                deltas += [ThinkingDelta(piece) for piece in _pieces(part.text)]
            case Call():
                deltas += [CallDelta(index, part.tool, piece) for piece in _pieces(part.arguments)]
                index += 1
    return deltas


def _pieces(text: str) -> list[str]:
    return [text[start : start + _PIECE_CHARS] for start in range(0, len(text), _PIECE_CHARS)]


def _tokens(counted: Request | Reply) -> int:
    """About four bytes a token: what a step shows, though nothing is paid for it."""
    match counted:
        case Reply():
            texts = [part.arguments if isinstance(part, Call) else part.text for part in counted.parts]
        case Request():
            texts = [counted.system, *(f"{tool.text}{tool.parameters}" for tool in counted.tools)]
            texts += [
                "".join(part.arguments if isinstance(part, Call) else part.text for part in each.parts)
                if isinstance(each, Reply)
                else each.text
                for each in counted.messages
            ]
    return -(-sum(len(text.encode()) for text in texts) // 4)
