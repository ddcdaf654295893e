"""Thinking and calls that a server left in the text of a reply, in the forms that models are trained on. Knows no wire.

Read is only what can hardly be meant as text: thinking at its beginning; at its end, outside of code, calls that are
whole, one after the other, of tools that were offered. Anything else stays text.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished, ToolSpec
from ml_intern.model.wire.shapes import fields, is_object, items, words
from ml_intern.record.messages import Call, Reply, ReplyPart, Text, Thinking

Found = tuple[str, dict[str, Any]]
_DECODE = json.JSONDecoder().raw_decode
_THINK = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*", re.DOTALL)
# Templates that begin the thinking themselves leave only its end to the model: on a line of its own.
_THINK_END = re.compile(r"((?:(?!<think).)*?)(?:\A|\n)[ \t]*</think>[ \t]*(?:\n\s*|\Z)", re.DOTALL)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)


_BAR = r"[|｜]"
_OWN = rf"(?:{_BAR}DSML{_BAR}|minimax:|antml:)?"


class _Form(Struct, frozen=True):
    """One way to write calls: how it begins, what may stand around and between calls, and the call itself.

    `call` has the groups `name` and, where its arguments are not JSON that follows, `inside`; `parameter` finds them
    there; `end` closes the call, or the text ends. Tokens that are no text may stand in mid-line (`is_token`).
    """

    start: re.Pattern[str]
    around: re.Pattern[str]
    call: re.Pattern[str]
    end: re.Pattern[str]
    parameter: re.Pattern[str] | None = None

    @property
    def is_token(self) -> bool:
        return self.start.pattern.startswith(("<\\|", f"<{_BAR}"))


def _form(start: str, around: str, call: str, end: str, parameter: str = "") -> _Form:
    begins, others, calls, ends = (re.compile(each, re.DOTALL) for each in (start, rf"(?:\s|{around})*", call, end))
    return _Form(begins, others, calls, ends, re.compile(parameter, re.DOTALL) if parameter else None)


@cache
def _forms() -> tuple[_Form, ...]:
    """Made for the first text that may hold a call: not before the first request, which these patterns would delay."""
    return (
        # Kimi K2.
        _form(
            r"<\|tool_calls_section_begin\|>",
            r"<\|tool_calls_section_(?:begin|end)\|>",
            r"<\|tool_call_begin\|>\s*(?:functions\.)?(?P<name>[\w-]+)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*",
            r"\s*(?:<\|tool_call_end\|>|\Z)",
        ),
        # DeepSeek V3 and R1, then V3.1.
        _form(
            rf"<{_BAR}tool▁calls▁begin{_BAR}>",
            rf"<{_BAR}tool▁calls▁(?:begin|end){_BAR}>|<{_BAR}end▁of▁sentence{_BAR}>",
            rf"<{_BAR}tool▁call▁begin{_BAR}>(?:function<{_BAR}tool▁sep{_BAR}>)?(?P<name>[\w-]+)"
            rf"(?:<{_BAR}tool▁sep{_BAR}>|\s*```json)\s*",
            rf"\s*(?:```\s*)?(?:<{_BAR}tool▁call▁end{_BAR}>|\Z)",
        ),
        # DeepSeek V3.2 and V4; MiniMax; models that imitate Claude.
        _form(
            rf"<{_OWN}(?:function_calls|tool_calls?)>\s*<{_OWN}invoke ",
            rf"</?{_OWN}(?:function_calls|tool_calls?)>",
            rf'<{_OWN}invoke name="(?P<name>[\w-]+)">(?P<inside>.*?)(?=</{_OWN}invoke>)',
            rf"</{_OWN}invoke>",
            rf'<{_OWN}parameter name="(?P<key>[^"]+)"[^>]*>(?P<value>.*?)</{_OWN}parameter>',
        ),
        # Qwen3-Coder, which often forgets the outer tag.
        _form(
            r"(?:<tool_call>\s*)?<function=",
            r"</?tool_call>",
            r"<function=(?P<name>[\w-]+)>(?P<inside>.*?)(?=</function>)",
            r"</function>",
            r"<parameter=(?P<key>[^>]+)>\n?(?P<value>.*?)\n?</parameter>",
        ),
        # GLM.
        _form(
            r"<tool_call>[\w-]+\s*<arg_key>",
            r"(?!)",
            r"<tool_call>(?P<name>[\w-]+)(?P<inside>.*?)(?=</tool_call>)",
            r"</tool_call>",
            r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>",
        ),
        # Hermes, Qwen.
        _form(r"<tool_call>\s*\{", r"(?!)", r"<tool_call>(?P<name>)\s*", r"\s*(?:</tool_call>|\Z)"),
        # Mistral.
        _form(r"\[TOOL_CALLS\]", r"(?!)", r"\[TOOL_CALLS\](?P<name>[\w-]*)(?:\[ARGS\])?\s*", r""),
        # Nothing but fenced JSON.
        _form(r"\A\s*```(?:json|tool_call)\n", r"(?!)", r"```(?:json|tool_call)\n(?P<name>)\s*", r"\s*```"),
        # Llama: nothing but JSON.
        _form(r"\A\s*\{\s*\"(?:name|type)\"", r"[;,]", r"(?P<name>)(?=\{)", r""),
    )


def healed(finished: Finished, tools: Sequence[ToolSpec]) -> Finished:
    """The reply with what leaked into its text put where it belongs."""
    parts = finished.reply.parts
    said = "".join(part.text for part in parts if isinstance(part, Text))
    thoughts: list[ReplyPart] = [part for part in parts if isinstance(part, Thinking)]
    calls = finished.reply.calls
    text = said
    if not thoughts:
        thinking, text = split_thinking(said)
        thoughts = [Thinking(thinking)] if thinking.strip() else []
    if not calls and finished.finish == "stop":
        text, found = split_calls(text, tools)
        calls = tuple(_call(name, arguments) for name, arguments in found)
    if text == said:
        return finished
    texts = [Text(text)] if text.strip() else []
    finish = "calls" if calls and finished.finish == "stop" else finished.finish
    return replace(finished, reply=Reply((*thoughts, *texts, *calls)), finish=finish)


def split_thinking(text: str) -> tuple[str, str]:
    """The thinking that the text begins with, and what follows it."""
    found = _THINK.match(text) or (_THINK_END.match(text) if text.count("</think>") == 1 else None)
    if found is None or is_in_code(text[: found.end(1)]):
        return "", text
    return found.group(1).strip("\n"), text[found.end() :]


def split_calls(text: str, tools: Sequence[ToolSpec]) -> tuple[str, list[Found]]:
    """What stands before the calls that the text ends with, and they."""
    schemas = {tool.name: tool.parameters for tool in tools}
    for form in _forms() if schemas else ():
        start = form.start.search(text)
        if start is None or not _may_begin(form, text[: start.start()]):
            continue
        found = _read(form, text, start.start(), schemas)
        if found:
            return text[: start.start()].rstrip(), found
    return text, []


def _may_begin(form: _Form, before: str) -> bool:
    is_begun = form.is_token or not before.rpartition("\n")[2].strip()
    return is_begun and not is_in_code(before)


def is_in_code(before: str) -> bool:
    """Whether what follows stands in a fenced block or between backticks."""
    return len(_FENCE.findall(before)) % 2 == 1 or before.rpartition("\n")[2].count("`") % 2 == 1


def _read(form: _Form, text: str, at: int, schemas: Mapping[str, Any]) -> list[Found]:
    """The calls from `at` to the end of the text; none where anything there is no call."""
    found: list[Found] = []
    while (at := _end(form.around, text, at)) < len(text):
        call = form.call.match(text, at)
        if call is None:
            return []
        read = _of_parameters(form, call, schemas) if form.parameter else _of_json(text, call)
        end = form.end.match(text, read[0]) if read else None
        if read is None or end is None or not read[1] or any(name not in schemas for name, _ in read[1]):
            return []
        found += read[1]
        at = end.end()
    return found


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _of_json(text: str, call: re.Match[str]) -> tuple[int, list[Found]] | None:
    """Arguments, or whole calls with their names, as JSON; and where it ends."""
    try:
        value, end = _DECODE(text, call.end())
    except (ValueError, RecursionError):
        return None
    if call["name"]:
        return (end, [(call["name"], value)]) if is_object(value) else None
    return end, [one for each in items(value) or [value] if (one := _named(fields(each)))]


def _named(value: dict[str, Any]) -> Found | None:
    """A call as an object: its name and its arguments, nothing else that matters."""
    inner = fields(value.get("function")) or value
    known = {"name", "arguments", "parameters", "id", "type", "function"}
    arguments: object = inner.get("arguments", inner.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    if value.keys() - known or not is_object(arguments):
        return None
    return words(inner.get("name")), arguments


def _of_parameters(form: _Form, call: re.Match[str], schemas: Mapping[str, Any]) -> tuple[int, list[Found]]:
    assert form.parameter is not None
    types = fields(fields(schemas.get(call["name"])).get("properties"))
    arguments = {
        found["key"].strip(): _value(found["value"], fields(types.get(found["key"].strip())))
        for found in form.parameter.finditer(call["inside"])
    }
    return call.end(), [(call["name"], arguments)]


def _value(text: str, schema: Mapping[str, Any]) -> object:
    """A value that was written without quotes: a text, where the schema wants one."""
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _call(name: str, arguments: dict[str, Any]) -> Call:
    own = new_id()
    return Call(own, f"call_{own}", name, json.dumps(arguments, ensure_ascii=False))
