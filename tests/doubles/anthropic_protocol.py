"""What a real Anthropic messages server accepts, and the same transcript as the script sees it. Knows no reply.

The rules are those of the API reference and of `anthropic/types/*_param.py` of the official client (anthropic 2.12).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.doubles.protocol import Refused
from tests.doubles.schema import wrong_schema

VERSIONS = frozenset({"2023-06-01", "2026-10-21"})
# anthropic/types/message_create_params.py; temperature, top_p and top_k are gone since 2026-10-21.
# fmt: off
_PARAMETERS = frozenset({
    "cache_control", "container", "diagnostics", "inference_geo", "max_tokens", "messages", "metadata", "model",
    "output_config", "service_tier", "speed", "stop_sequences", "stream", "system", "thinking", "tool_choice", "tools",
})
# fmt: on
_BLOCKS = {
    "system": {"text"},
    "user": {"text", "image", "tool_result"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"},
}
_KEYS = {
    "text": {"type", "text", "cache_control"},
    "image": {"type", "source", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "tool_use": {"type", "id", "name", "input", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
}
_MEDIA = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MOST_MARKS = 4


def signed(thinking: str) -> str:
    """The signature of a thinking block: it does not fit any other text."""
    return f"sig-{hashlib.sha256(thinking.encode()).hexdigest()}"


def check(body: dict[str, Any]) -> None:
    """Everything about a request.

    Raises:
        Refused: the API would refuse it.
    """
    for name in body.keys() - _PARAMETERS:
        raise Refused(f"{name}: Extra inputs are not permitted")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused("model: Field required")
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise Refused("max_tokens: Field required, an integer of at least 1")
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refused("messages: at least one message is required")
    _check_tools(body.get("tools"))
    _check_system(body.get("system"))
    _check_messages(body["messages"])
    marks = json.dumps(body).count('"cache_control": {')
    if marks > _MOST_MARKS:
        raise Refused(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def has_marks(body: dict[str, Any]) -> bool:
    """Whether anything is to be cached."""
    return '"cache_control": {' in json.dumps(body)


def as_chat(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The transcript in the form of chat completions: what conditions and templates of a script look at."""
    system = body.get("system") or []
    text = system if isinstance(system, str) else "".join(block["text"] for block in system)
    rows = [{"role": "system", "content": text}] if text else []
    for message in body["messages"]:
        blocks = blocks_of(message)
        rows += [*_user_rows(blocks)] if message["role"] == "user" else [_assistant_row(blocks)]
    return rows


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The content of a message as blocks."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _user_rows(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for block in blocks:
        match block["type"]:
            case "tool_result":
                content = block.get("content") or ""
                parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
                texts = [part["text"] for part in parts if part["type"] == "text"]
                yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": "".join(texts)}
            case "image":
                source = block["source"]
                url = f"data:{source['media_type']};base64,{source['data']}"
                yield {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
            case _:
                yield {"role": "user", "content": block["text"]}


def _assistant_row(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    thinking = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"])},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    row: dict[str, Any] = {"role": "assistant", "content": text}
    return row | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": thinking} if thinking else {})


def _check_tools(tools: object) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise Refused("tools: Input should be a valid list")
    names = [_check_tool(tool, f"tools.{index}") for index, tool in enumerate(tools)]
    if len({*names}) < len(names):
        raise Refused("tools: Tool names must be unique.")


def _check_tool(tool: object, where: str) -> str:
    if not isinstance(tool, dict) or tool.keys() - {"name", "description", "input_schema", "cache_control", "type"}:
        raise Refused(f"{where}: Extra inputs are not permitted")
    if not isinstance(tool.get("name"), str) or not _NAME.fullmatch(tool["name"]):
        raise Refused(f"{where}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise Refused(f"{where}.input_schema.type: Field required")
    if problem := wrong_schema(schema, strict=False):
        raise Refused(f"{where}.input_schema: JSON schema is invalid: {problem}")
    return tool["name"]


def _check_system(system: object) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise Refused("system: Input should be a valid list")
    for index, block in enumerate(system):
        _check_block(block, "system", f"system.{index}")


def _check_messages(messages: list[Any]) -> None:
    open_ids: list[str] = []
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        role = str(message.get("role")) if isinstance(message, dict) else ""
        if role not in {"user", "assistant"} or message.keys() != {"role", "content"}:
            raise Refused(f"{where}: a message has a role, user or assistant, and a content")
        if index == 0 and role != "user":
            raise Refused("messages: first message must use the user role")
        blocks = blocks_of(message)
        if not isinstance(blocks, list) or not blocks:
            raise Refused(f"{where}: all messages must have non-empty content")
        for number, block in enumerate(blocks):
            _check_block(block, role, f"{where}.content.{number}")
        _check_answers(blocks, open_ids, where)
        open_ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len({*open_ids}) < len(open_ids):
            raise Refused(f"{where}: `tool_use` ids must be unique")
    if messages[-1]["role"] == "assistant":
        raise Refused("This model does not support assistant message prefill. The conversation must end with the user.")


def _check_answers(blocks: list[dict[str, Any]], open_ids: list[str], where: str) -> None:
    """Every call is answered, in the message after it, before anything else is said there."""
    answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    if unknown := [each for each in answered if each not in open_ids]:
        raise Refused(f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(unknown)}.")
    if missing := [each for each in open_ids if each not in answered]:
        ids = ", ".join(missing)
        raise Refused(f"{where}: `tool_use` ids were found without `tool_result` blocks immediately after: {ids}.")
    if len({*answered}) < len(answered):
        raise Refused(f"{where}: each tool_use must have a single result.")
    kinds = [block["type"] == "tool_result" for block in blocks]
    if sorted(kinds, reverse=True) != kinds:
        raise Refused(f"{where}: `tool_result` blocks must come first.")


def _check_block(block: Any, role: str, where: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in _BLOCKS[role] or block.keys() - _KEYS[kind]:
        raise Refused(f"{where}: Input tag {kind!r} does not match any of the expected tags, or has extra inputs")
    if problem := _PROBLEMS[kind](block):
        raise Refused(f"{where}: {problem}")
    if kind == "tool_result":
        _check_result(block, where)


def _of_text(block: dict[str, Any]) -> str:
    good = isinstance(block.get("text"), str) and block["text"].strip()
    return "" if good else "text content blocks must contain non-whitespace text"


def _of_image(block: dict[str, Any]) -> str:
    source = block.get("source") or {}
    good = source.keys() == {"type", "media_type", "data"} and source["media_type"] in _MEDIA
    return "" if good else "source: Input should be a base64 image"


def _of_thinking(block: dict[str, Any]) -> str:
    good = block.get("signature") == signed(block.get("thinking", ""))
    return "" if good else "Invalid `signature` in `thinking` block"


def _of_redacted(block: dict[str, Any]) -> str:
    good = str(block.get("data")).startswith("enc-")
    return "" if good else "Invalid `data` in `redacted_thinking` block"


def _of_call(block: dict[str, Any]) -> str:
    if not _NAME.fullmatch(str(block.get("id"))) or not _NAME.fullmatch(str(block.get("name"))):
        return "id and name: String should match pattern '^[a-zA-Z0-9_-]+$'"
    return "" if isinstance(block.get("input"), dict) else "input: Input should be a valid dictionary"


_PROBLEMS: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "text": _of_text,
    "image": _of_image,
    "thinking": _of_thinking,
    "redacted_thinking": _of_redacted,
    "tool_use": _of_call,
    "tool_result": lambda block: "" if isinstance(block.get("tool_use_id"), str) else "tool_use_id: Field required",
}


def _check_result(block: dict[str, Any], where: str) -> None:
    content = block.get("content", "")
    if block.get("is_error") and not content:
        raise Refused(f"{where}.tool_result: content cannot be empty if `is_error` is true")
    if isinstance(content, str):
        return
    for number, part in enumerate(content):
        if not isinstance(part, dict) or part.get("type") not in {"text", "image"}:
            raise Refused(f"{where}.content.{number}: a result holds texts and images")
        _check_block(part, "user", f"{where}.content.{number}")
