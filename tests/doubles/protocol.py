"""What a real chat-completions server accepts: parameters, messages, tools; each breach is its error. Knows no reply.

The rules are those of the API reference and of `openai/types/chat/*_param.py` of the official client (openai 3.54).
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.doubles.schema import wrong_schema

# openai/types/chat/completion_create_params.py:43-457: what a request may carry, without the deprecated `functions`.
# fmt: off
_PARAMETERS = frozenset({
    "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages",
    "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls", "prediction",
    "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
    "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store",
    "stream", "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user",
    "verbosity", "web_search_options",
})
# fmt: on
THINKING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "tool_calls", *THINKING_FIELDS},
    "tool": {"role", "content", "tool_call_id"},
}
_PARTS = {
    "system": {"text"},
    "developer": {"text"},
    "user": {"text", "image_url", "input_audio", "file"},
    "assistant": {"text", "refusal"},
    "tool": {"text"},
}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(eq=False)
class Refused(Exception):
    """An error answer: status and the fields of openai/types/shared/error_object.py:44-51."""

    message: str
    param: str | None = None
    code: str | None = None
    status: int = 400
    type: str = "invalid_request_error"

    def body(self) -> bytes:
        """The error object on the wire."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def check_parameters(body: dict[str, Any]) -> None:
    """Everything but the messages.

    Raises:
        Refused: the API would refuse the request.
    """
    for name in body.keys() - _PARAMETERS:
        raise Refused(f"Unrecognized request argument supplied: {name}", name, "unknown_parameter")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused("you must provide a model parameter", "model")
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refused("'messages' must be a non-empty array.", "messages", "missing_required_parameter")
    if not isinstance(body.get("stream", False), bool):
        raise Refused("Invalid type for 'stream': expected a boolean.", "stream", "invalid_type")
    if body.get("n", 1) != 1:
        raise Refused("This server gives one choice.", "n")
    _check_limit(body)
    _check_stream_options(body)
    _check_tools(body.get("tools"))
    _check_tool_choice(body)


def max_tokens(body: dict[str, Any]) -> int:
    """The limit of the reply, whichever name it has."""
    return body.get("max_completion_tokens") or body["max_tokens"]


def _check_limit(body: dict[str, Any]) -> None:
    given = [name for name in ("max_tokens", "max_completion_tokens") if body.get(name) is not None]
    if not given:
        # The API would take its own default; a client that must not overspend may not leave it open.
        raise Refused("Missing required parameter: 'max_tokens'.", "max_tokens", "missing_required_parameter")
    if len(given) == 2:
        raise Refused("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.", given[0])
    value = body[given[0]]
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(f"Invalid type for '{given[0]}': expected an integer.", given[0], "invalid_type")
    if value < 1:
        raise Refused(f"Invalid '{given[0]}': must be at least 1, got {value}.", given[0], "integer_below_min_value")


def _check_stream_options(body: dict[str, Any]) -> None:
    options = body.get("stream_options")
    if options is None:
        return
    if not body.get("stream"):
        raise Refused("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if not isinstance(options, dict) or options.keys() - {"include_usage", "include_obfuscation"}:
        raise Refused("Invalid 'stream_options'.", "stream_options", "invalid_type")
    if not isinstance(options.get("include_usage", False), bool):
        raise Refused(
            "Invalid type for 'stream_options.include_usage'.", "stream_options.include_usage", "invalid_type"
        )


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list) or not tools:
        raise Refused("Invalid 'tools': expected a non-empty array.", "tools", "empty_array")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        name = _check_tool(tool, f"tools[{index}]")
        if name in names:
            raise Refused(f"Tool names must be unique: {name!r} occurs twice.", f"tools[{index}].function.name")
        names.add(name)


def _check_tool(tool: object, where: str) -> str:
    if not isinstance(tool, dict) or tool.get("type") != "function" or tool.keys() != {"type", "function"}:
        raise Refused(f"Invalid value for '{where}': expected a function.", where, "invalid_value")
    function = tool["function"]
    if not isinstance(function, dict) or function.keys() - {"name", "description", "parameters", "strict"}:
        raise Refused(f"Invalid value for '{where}.function'.", f"{where}.function", "invalid_value")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        message = f"Invalid '{where}.function.name': expected a name that matches '^[a-zA-Z0-9_-]{{1,64}}$'."
        raise Refused(message, f"{where}.function.name", "invalid_value")
    if not isinstance(function.get("description", ""), str):
        raise Refused(f"Invalid type for '{where}.function.description'.", f"{where}.function.description")
    problem = wrong_schema(function.get("parameters", {"type": "object"}), strict=function.get("strict") is True)
    if problem:
        message = f"Invalid schema for function '{name}': {problem}"
        raise Refused(message, f"{where}.function.parameters", "invalid_function_parameters")
    return name


def _check_tool_choice(body: dict[str, Any]) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not body.get("tools"):
        raise Refused("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    names = {tool["function"]["name"] for tool in body["tools"]}
    named = choice.get("function", {}).get("name") if isinstance(choice, dict) else None
    if choice not in ("none", "auto", "required") and named not in names:
        raise Refused("Invalid value for 'tool_choice'.", "tool_choice", "invalid_value")


class Calls:
    """The calls of a transcript, message by message: every one is answered, once, before anything else is said."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._answered: set[str] = set()

    def take(self, message: object, index: int) -> None:
        """Check the next message.

        Raises:
            Refused: it may not stand here, or not at all.
        """
        where = f"messages.[{index}]"
        if not isinstance(message, dict):
            raise Refused(f"Invalid type for '{where}': expected an object.", where, "invalid_type")
        role = message.get("role")
        if not isinstance(role, str) or role not in _KEYS:
            raise Refused(f"Invalid value: {role!r}. Supported values are: {', '.join(_KEYS)}.", f"{where}.role")
        for name in message.keys() - _KEYS[role]:
            raise Refused(f"Additional property {name!r} is not allowed in '{where}'.", where, "unknown_parameter")
        _check_content(message, role, where)
        if role == "tool":
            self._answer(message.get("tool_call_id"), where)
            return
        self.close(where)
        if role == "assistant":
            self._call(message, where)

    def close(self, where: str = "messages") -> None:
        """Nothing may be left unanswered here."""
        if self._open:
            ids = ", ".join(sorted(self._open))
            message = (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. The following tool_call_ids did not have response messages: {ids}"
            )
            raise Refused(message, f"{where}.role" if where != "messages" else where)

    def _answer(self, id_: object, where: str) -> None:
        if not isinstance(id_, str) or not id_:
            raise Refused("Missing parameter 'tool_call_id': messages with role 'tool' must have one.", where)
        if id_ in self._answered:
            raise Refused(f"Duplicate value for 'tool_call_id' of {id_!r} in message {where}.", f"{where}.tool_call_id")
        if id_ not in self._open:
            message = (
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                f"'tool_calls'. No open call has the id {id_!r}."
            )
            raise Refused(message, f"{where}.role")
        self._open.remove(id_)
        self._answered.add(id_)

    def _call(self, message: dict[str, Any], where: str) -> None:
        if message.get("tool_calls") is None:
            return
        calls = message["tool_calls"]
        if not isinstance(calls, list) or not calls:
            raise Refused(
                f"Invalid '{where}.tool_calls': expected a non-empty array.", f"{where}.tool_calls", "empty_array"
            )
        for number, call in enumerate(calls):
            id_ = _call_id(call, f"{where}.tool_calls.[{number}]")
            if id_ in self._open:
                raise Refused(f"Duplicate tool call id {id_!r} in '{where}'.", f"{where}.tool_calls.[{number}].id")
            self._open.add(id_)
        # An id may come again in a later message: servers that number the calls of each reply do that.
        self._answered -= self._open


def _call_id(call: object, where: str) -> str:
    # openai/types/chat/chat_completion_message_function_tool_call_param.py
    if (
        not isinstance(call, dict)
        or call.get("type") != "function"
        or call.keys() - {"id", "type", "function", "index"}
    ):
        raise Refused(f"Invalid value for '{where}': expected a call of a function.", where, "invalid_value")
    function = call.get("function")
    if not isinstance(function, dict) or function.keys() != {"name", "arguments"}:
        raise Refused(f"Invalid value for '{where}.function'.", f"{where}.function", "invalid_value")
    if not isinstance(function["name"], str) or not _NAME.fullmatch(function["name"]):
        raise Refused(f"Invalid '{where}.function.name'.", f"{where}.function.name", "invalid_value")
    if not isinstance(function["arguments"], str):
        message = f"Invalid type for '{where}.function.arguments': expected a string."
        raise Refused(message, f"{where}.function.arguments", "invalid_type")
    if not isinstance(call.get("id"), str) or not call["id"]:
        raise Refused(f"Missing required parameter: '{where}.id'.", f"{where}.id", "missing_required_parameter")
    return call["id"]


def _check_content(message: dict[str, Any], role: str, where: str) -> None:
    content = message.get("content")
    if isinstance(content, str):
        return
    if content is None:
        if role == "assistant" and message.get("tool_calls"):
            return
        raise Refused("Invalid value for 'content': expected a string, got null.", f"{where}.content")
    if not isinstance(content, list) or not content:
        raise Refused(
            "Invalid type for 'content': expected a string or an array of parts.", f"{where}.content", "invalid_type"
        )
    for number, part in enumerate(content):
        _check_part(part, role, f"{where}.content.[{number}]")


def _check_part(part: object, role: str, where: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind not in _PARTS[role]:
        raise Refused(f"Invalid value: {kind!r}. A message of role {role!r} has parts {sorted(_PARTS[role])}.", where)
    value = part.get(str(kind))
    if kind in {"text", "refusal"} and not isinstance(value, str):
        raise Refused(f"Invalid type for '{where}.{kind}': expected a string.", where, "invalid_type")
    if kind == "image_url" and (not isinstance(value, dict) or not _is_url(value.get("url"))):
        raise Refused("Invalid 'image_url': expected a URL or base64 data.", f"{where}.image_url", "invalid_image_url")


def _is_url(url: object) -> bool:
    return isinstance(url, str) and url.startswith(("https://", "http://", "data:image/"))
