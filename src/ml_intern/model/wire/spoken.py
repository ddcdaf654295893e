"""Tools for models that have none of their own: told in the system text, called in fenced blocks. Knows no wire.

The record is the same as with native calls, so that another model can go on with the session.
"""

import json
import re
from collections.abc import Sequence
from operator import is_

from msgspec.structs import replace

from ml_intern.base.errors import ModelError
from ml_intern.base.ids import new_id
from ml_intern.model.port import Finished, Request, ToolSpec
from ml_intern.record.messages import Answered, Asked, Call, Message, Reply, ReplyPart, Text

# Ollama; vLLM; llama.cpp; OpenRouter; Groq, Together, gateways.
_NO_TOOLS = re.compile(
    r"does not support (?:tool|function)|enable-auto-tool-choice|tools param requires --jinja|support tool use"
    r"|(?:tools?|tool[ _-]?(?:use|calls?|calling|choice)|function calling)\W{0,2} (?:is|are) not (?:supported|enabled)",
    re.IGNORECASE,
)
_BLOCK = re.compile(r"^[ \t]*```tool_call[ \t]*\n(.*?)(?:\n[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r'"name"\s*:\s*"([\w-]+)"')

_HOW = """\


# How to call tools
You have no other way to call a tool than this: write a block like the following at the end of your reply, one for each
call. Then stop; the answers are in the next message. A reply without such a block ends your work.

```tool_call
{"name": "NAME", "arguments": {"KEY": "VALUE"}}
```

The tools, each with the JSON Schema of its arguments:
"""


def has_no_tools(error: ModelError) -> bool:
    """Whether the error says that the model, or its server as it was started, takes no tools."""
    return not error.may_be_billed and error.status >= 400 and _NO_TOOLS.search(error.what) is not None


class Speaker:
    """Puts one session's requests into words; a message that was put so before is the same object again."""

    def __init__(self) -> None:
        self._version = 0
        self._seen: list[Message] = []
        self._said: list[Message] = []

    def said(self, request: Request) -> Request:
        """The request without tools."""
        messages, seen = request.messages, self._seen
        if self._version != request.version or len(messages) < len(seen) or not all(map(is_, seen, messages)):
            self._seen, self._said, self._version = [], [], request.version
        for message in messages[len(self._seen) :]:
            self._seen.append(message)
            self._said.append(_in_words(message))
        system = f"{request.system}{_HOW}{''.join(map(_described, request.tools))}" if request.tools else request.system
        return Request(system, (), [*self._said], request.max_output, request.session, request.version)


def heard(finished: Finished, tools: Sequence[ToolSpec]) -> Finished:
    """The reply with the calls that stand in its text, wherever they stand; what is no call stays text."""
    names = {tool.name for tool in tools}
    calls: list[Call] = []

    def take(block: re.Match[str]) -> str:
        call = _call(block.group(1), names)
        if call is None:
            return block.group()
        calls.append(call)
        return ""

    text = _BLOCK.sub(take, finished.reply.text).strip()
    if finished.reply.calls or not calls:
        return finished
    parts: list[ReplyPart] = [part for part in finished.reply.parts if not isinstance(part, Text)]
    texts = [Text(text)] if text else []
    finish = "calls" if finished.finish == "stop" else finished.finish
    return replace(finished, reply=Reply((*parts, *texts, *calls)), finish=finish)


def _call(written: str, names: set[str]) -> Call | None:
    """A block as a call. One that is no JSON is a call all the same: the model is answered that it was not."""
    name = _NAME.search(written)
    if name is None or name.group(1) not in names:
        return None
    arguments = written
    try:
        value = json.loads(written)
        if value["name"] in names:
            name_of, arguments = value["name"], json.dumps(value.get("arguments", {}), ensure_ascii=False)
        else:
            return None
    except (ValueError, RecursionError, TypeError, KeyError):
        name_of = name.group(1)
    own = new_id()
    return Call(own, f"call_{own}", name_of, arguments)


def _described(tool: ToolSpec) -> str:
    return f"\n## {tool.name}\n{tool.text.strip()}\nArguments: {json.dumps(tool.parameters, ensure_ascii=False)}\n"


def _in_words(message: Message) -> Message:
    match message:
        case Answered(tool=tool, text=text, ok=ok, images=images):
            return Asked(f"{'Answer' if ok else 'Error'} of {tool}:\n{text}", images, "product")
        case Reply(parts=parts) if message.calls:
            blocks = [
                f'```tool_call\n{{"name": "{call.tool}", "arguments": {call.arguments or "{}"}}}\n```'
                for call in message.calls
            ]
            kept = [part for part in parts if not isinstance(part, (Text, Call))]
            return Reply((*kept, Text("\n\n".join(filter(None, [message.text, *blocks])))), message.by)
        case _:
            return message
