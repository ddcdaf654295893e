"""Where our requests differ from the official clients' on purpose: what makes both alike, and why we differ."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


def blocks_of(body: Body) -> Iterator[list[Any]]:
    """Every list of blocks in a body, the innermost first."""
    system = body.get("system")
    for content in [*(row["content"] for row in body["messages"]), system]:
        if isinstance(content, list):
            yield from (block["content"] for block in content if isinstance(block.get("content"), list))
            yield content


# ---------------------------------------------------------------------------------- where we differ, and why
@dataclass(frozen=True)
class Difference:
    """What makes two bodies that differ in this way alike."""

    reason: str
    level: Callable[[Body], None]


def without_marks(body: Body) -> None:
    for blocks in [*blocks_of(body), body.get("tools") or []]:
        for block in blocks:
            block.pop("cache_control", None)


def without_blanks(body: Body) -> None:
    for blocks in blocks_of(body):
        blocks[:] = [block for block in blocks if block.get("type") != "text" or block["text"].strip()]
    body["messages"] = [row for row in body["messages"] if row["content"]]


def without_silence(body: Body) -> None:
    body["messages"] = [row for row in body["messages"] if row["role"] != "assistant" or _says(row)]


def _says(row: Body) -> bool:
    content = row.get("content") or ""
    if isinstance(content, str):
        return bool(content.strip() or row.get("tool_calls"))
    return any(block["type"] == "tool_use" or block.get("text", "").strip() for block in content)


def with_words(body: Body) -> None:
    for blocks in blocks_of(body):
        for block in blocks:
            if block.get("is_error") and isinstance(block["content"], str):
                block["content"] = block["content"] if block["content"].strip() else "[nothing]"


def joined(body: Body) -> None:
    rows: list[Body] = []
    for row in body["messages"]:
        if rows and rows[-1]["role"] == row["role"]:
            rows[-1]["content"] += row["content"]
        else:
            rows.append(row)
    body["messages"] = rows


def without_cut_calls(body: Body) -> None:
    for blocks in blocks_of(body):
        for block in blocks:
            if block.get("type") == "tool_use" and (
                "invalid_arguments" in block["input"] or block["input"] in ({"command": "l"}, {})
            ):
                block["input"] = "cut"


def with_joined_asks(body: Body) -> None:
    rows: list[Body] = []
    for row in body["messages"]:
        both = [*rows[-1:], row]
        if len(both) == 2 and all(each["role"] == "user" and isinstance(each["content"], str) for each in both):
            rows[-1]["content"] += f"\n\n{row['content']}"
        else:
            rows.append(row)
    body["messages"] = rows


def without_cut_arguments(body: Body) -> None:
    for row in body["messages"]:
        for call in row.get("tool_calls") or ():
            try:
                arguments = json.loads(call["function"]["arguments"])
            except ValueError:
                arguments = {"invalid_arguments": ""}
            call["function"]["arguments"] = "cut" if "invalid_arguments" in arguments else arguments


def with_null_content(body: Body) -> None:
    for row in body["messages"]:
        if row["role"] == "assistant" and not row.get("tool_calls"):
            row["content"] = row.get("content") or ""
        elif row["role"] == "assistant":
            row["content"] = row.get("content") or None


MESSAGES_DIFFERENCES = {
    "empty replies": Difference("the API refuses a message of nothing, or of thinking alone", without_silence),
    "cache marks": Difference("we mark what to cache; the client leaves it to its caller", without_marks),
    "blank texts": Difference("the API refuses a text of spaces, which a model may well write", without_blanks),
    "wordless errors": Difference("the API refuses an error without content", with_words),
    "turns": Difference("we join neighbours of one role, as the API does itself: answers must share a turn", joined),
    "cut calls": Difference("the client completes half an object; we say that it was invalid", without_cut_calls),
}
CHAT_DIFFERENCES = {
    "empty replies": Difference(
        "servers refuse a message of nothing; its thinking alone helps nobody", without_silence
    ),
    "asks in a row": Difference(
        "many chat templates refuse two user messages in a row; we join them", with_joined_asks
    ),
    "cut calls": Difference("many servers fail on arguments that are no object", without_cut_arguments),
    "null content": Difference(
        "servers disagree on absent and empty contents; null with calls suits all", with_null_content
    ),
}


def assert_alike(ours: Body, theirs: Body, differences: dict[str, Difference], met: Counter[str]) -> None:
    for name, difference in differences.items():
        before = json.dumps([ours, theirs])
        difference.level(ours)
        difference.level(theirs)
        met[name] += before != json.dumps([ours, theirs])
    assert ours == theirs
