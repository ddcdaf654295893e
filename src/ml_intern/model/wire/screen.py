"""What of a reply's text is shown while it grows: not what may be the beginning of a leaked call. Knows no wire.

Held back is at most the longest marker; from a whole one on, all, until it is clear that no call follows, or the end.
Thinking that leaked into the beginning of the text is shown as thinking. What the record keeps is read in leaked.py.
"""

import re
from collections.abc import Iterator, Sequence

from ml_intern.model.port import CallDelta, Delta, Finished, TextDelta, ThinkingDelta, ToolSpec
from ml_intern.model.wire.leaked import healed, is_in_code
from ml_intern.model.wire.spoken import heard

_BARS = "|｜"
_OWNERS = ("", "minimax:", "antml:", *(f"{bar}DSML{bar}" for bar in _BARS))
_OUTER = tuple(f"<{owner}{name}>" for owner in _OWNERS for name in ("function_calls", "tool_call", "tool_calls"))
_TOKENS = ("<|tool_calls_section_begin|>", *(f"<{bar}tool▁calls▁begin{bar}>" for bar in _BARS))
"""These stand in mid-line, too: they are no text."""
_OPENED = ("<function=", "[TOOL_CALLS]", *_TOKENS)
_INNER = ("<function=", "{", *(f"<{owner}invoke " for owner in _OWNERS))
_ARGUMENT = "<arg_key>"
_SPOKEN = "```tool_call\n"

_CANDIDATE = re.compile(r"[<\[`]")
_NAME = re.compile(r"([\w-]+)\s*")
_ENDED = re.compile(
    r"(?:</[|｜\w:]*(?:tool_calls?|function_calls|function|invoke)>|<[|｜]tool[▁_]calls?(?:_section)?[▁_]end[|｜]>)"
    r"\s*[^\s<\[{;,]"
)
_TAIL_CHARS = 80
_HEAD = re.compile(r'\s*\[?\s*\{\s*"(?P<key>[^"\n]*)"(?:\s*:\s*"(?P<value>[^"\n]*)")?')
_HEAD_TO_COME = re.compile(r'\s*\[?\s*(?:\{\s*(?:"[^"\n]*(?:"\s*(?::\s*(?:"[^"\n]*)?)?)?)?)?\Z')
_KEYS = frozenset({"arguments", "parameters", "id", "function"})
_FENCES = ("```json\n", "```tool_call\n")
_THINK = ("<think>", "<thinking>")
_THINK_END = ("</think>", "</thinking>")


class Screen:
    """One reply's text on its way to a reader. Calls may leak only of `tools`, which were offered."""

    def __init__(self, tools: Sequence[ToolSpec], *, is_spoken: bool = False) -> None:
        """`is_spoken`: tools were told in words, and their blocks are calls wherever they stand."""
        self._tools = tools
        self._is_spoken = is_spoken
        self._shown: list[str] = []
        self._line_is_blank = True
        self._waiting = ""
        self._tail = ""
        self._call: list[str] = []
        self._thinks: bool | None = None
        """None: whether the reply begins with thinking is not clear yet."""

    def show(self, item: Delta | Finished) -> Iterator[Delta | Finished]:
        """What may be shown, now that `item` has come."""
        match item:
            case TextDelta(text=text):
                yield from self._show(text)
            case Finished():
                yield from self._end(item)
            case _:
                if self._thinks is None:
                    # Thinking has a place of its own here, or there is none.
                    self._thinks = False
                yield item

    def _show(self, text: str) -> Iterator[Delta]:
        if self._call:
            shown = self._hold(text)
        elif self._thinks is False:
            shown = self._pass(text)
        else:
            thought, rest = self._think(self._taken() + text)
            if thought:
                yield ThinkingDelta(thought)
            shown = self._pass(rest) if rest is not None else ""
        if shown:
            yield TextDelta(shown)

    def _end(self, finished: Finished) -> Iterator[Delta | Finished]:
        """The reply with what leaked where it belongs; before it what was held back, unless that was a call."""
        heard_of = heard(finished, self._tools) if self._is_spoken else finished
        whole = healed(heard_of, self._tools)
        found = whole.reply.calls if not finished.reply.calls else ()
        held = "".join(self._call) + self._taken()
        if held and not found:
            yield ThinkingDelta(held) if self._thinks else TextDelta(held)
        for index, call in enumerate(found):
            yield CallDelta(index, call.tool, call.arguments)
        yield whole

    def _taken(self) -> str:
        text, self._waiting = self._waiting, ""
        return text

    def _think(self, text: str) -> tuple[str, str | None]:
        """Thinking at the reply's beginning that may be shown, and the text after its end; None before that."""
        if self._thinks is None:
            begun = text.lstrip()
            opened = next((mark for mark in _THINK if begun.startswith(mark)), "")
            if not opened and any(mark.startswith(begun) for mark in _THINK):
                self._waiting = text
                return "", None
            if not opened:
                self._thinks = False
                return "", text
            self._thinks = True
            text = begun[len(opened) :]
        for mark in _THINK_END:
            before, ended, after = text.partition(mark)
            if ended:
                self._thinks = False
                return before, after.lstrip()
        kept = _beginning(text, _THINK_END)
        self._waiting = text[len(text) - kept :]
        return text[: len(text) - kept], None

    def _pass(self, text: str) -> str:
        """What of `text`, after what waits, can be no beginning of a call; the rest waits."""
        text = self._taken() + text
        if not self._tools:
            return text
        if not self._shown and (rest := self._at_the_start(text)) is not None:
            return rest
        at = 0
        while (found := _CANDIDATE.search(text, at)) is not None:
            at = found.start()
            state = self._state(text, at)
            if state == "text":
                at += 1
                continue
            self._note(text[:at])
            if state == "begins":
                self._waiting = text[at:]
            else:
                self._call = [text[at:]]
            return text[:at]
        self._note(text)
        return text

    def _at_the_start(self, text: str) -> str | None:
        """JSON alone is a call only where it is all of the reply. None: this text does not begin so."""
        begun = text.lstrip()
        fence = next((mark for mark in _FENCES if begun.startswith(mark)), "")
        if not fence and begun[:1] != "{" and not any(mark.startswith(begun) for mark in _FENCES):
            return None
        body = begun[len(fence) :] if fence else begun
        if (not fence and begun[:1] != "{") or _HEAD_TO_COME.match(body):
            self._waiting = text
        elif (head := _HEAD.match(body)) is not None and self._may_be_call(head["key"], head["value"]):
            self._call = [text]
        else:
            return None
        return ""

    def _may_be_call(self, key: str, value: str | None) -> bool:
        if key == "name":
            return any(tool.name == value for tool in self._tools)
        return value == "function" if key == "type" else key in _KEYS

    def _state(self, text: str, at: int) -> str:
        """Whether a call begins at `at` ("call"), may begin there once more has come ("begins"), or cannot ("text")."""
        rest = text[at:]
        is_token = rest.startswith(_TOKENS)
        if not is_token and not self._begins_line(text, at):
            return "begins" if any(mark.startswith(rest) for mark in _TOKENS) else "text"
        state = _marked(rest, is_spoken=self._is_spoken)
        if state == "call" and is_in_code("".join(self._shown) + text[:at]):
            return "text"
        return state

    def _begins_line(self, text: str, at: int) -> bool:
        _, newline, line = text[:at].rpartition("\n")
        return not line.strip() and (bool(newline) or self._line_is_blank)

    def _note(self, text: str) -> None:
        if text:
            self._shown.append(text)
            _, newline, line = text.rpartition("\n")
            self._line_is_blank = not line.strip() and (bool(newline) or self._line_is_blank)

    def _hold(self, text: str) -> str:
        """More of what may be a call: "". Words after its end make it a text that speaks of one: all of it."""
        self._tail = (self._tail + text)[-_TAIL_CHARS - len(text) :]
        self._call.append(text)
        if self._is_spoken or not _ENDED.search(self._tail):
            return ""
        released, self._call = "".join(self._call), []
        self._note(released)
        return released


def _marked(rest: str, *, is_spoken: bool) -> str:
    if rest.startswith(_OPENED) or (is_spoken and rest.startswith(_SPOKEN)):
        return "call"
    outer = next((mark for mark in _OUTER if rest.startswith(mark)), "")
    if outer:
        return _inside(rest[len(outer) :].lstrip())
    marks = (*_OPENED, *_OUTER, *((_SPOKEN,) if is_spoken else ()))
    return "begins" if any(mark.startswith(rest) for mark in marks) else "text"


def _inside(rest: str) -> str:
    """What the text after an opening tag makes of it."""
    if rest.startswith(_INNER):
        return "call"
    if not rest or any(mark.startswith(rest) for mark in _INNER):
        return "begins"
    name = _NAME.match(rest)
    after = rest[name.end() :] if name else ""
    if name is None or not _ARGUMENT.startswith(after[: len(_ARGUMENT)]):
        return "text"
    return "call" if after.startswith(_ARGUMENT) else "begins"


def _beginning(text: str, marks: tuple[str, ...]) -> int:
    """How many characters at the end of `text` could be the beginning of one of `marks`."""
    longest = min(len(text), max(map(len, marks)) - 1)
    return next((size for size in range(longest, 0, -1) if any(mark.startswith(text[-size:]) for mark in marks)), 0)
