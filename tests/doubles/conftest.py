"""A plain client of the doubles: it hides nothing, retries nothing and checks nothing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

TOOL = {
    "type": "function",
    "function": {
        "name": "bash",
        "description": "Run a command.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
    },
}


@dataclass
class Answer:
    """A status, and either a JSON body or the events of a stream."""

    status: int
    headers: Mapping[str, str]
    body: Any = None
    events: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(delta.get("content") or "" for delta in self.deltas)

    @property
    def deltas(self) -> list[dict[str, Any]]:
        return [event["choices"][0]["delta"] for event in self.events if event != "[DONE]" and event["choices"]]

    @property
    def calls(self) -> list[dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for delta in self.deltas:
            for part in delta.get("tool_calls", ()):
                call = found.setdefault(part["index"], {"id": part.get("id"), "name": "", "arguments": ""})
                call["name"] += part["function"].get("name", "")
                call["arguments"] += part["function"]["arguments"]
        return [*found.values()]

    @property
    def finish(self) -> str | None:
        ends = [event["choices"][0]["finish_reason"] for event in self.events if event != "[DONE]" and event["choices"]]
        return next((end for end in ends if end), None)


def body(messages: str | Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    """A request that is good but for what `more` makes of it; a value of None leaves a parameter out."""
    said = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    usual = {"model": "m", "messages": said, "max_tokens": 1000, "stream": True, "tools": [TOOL]}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


class Client:
    """Asks, and reads all there is."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def ask(self, url: str, messages: str | Sequence[Mapping[str, Any]] = "hello", **more: Any) -> Answer:
        return await self.send(url, body(messages, **more))

    async def send(self, url: str, request: Any, headers: Mapping[str, str] | None = None) -> Answer:
        content = request if isinstance(request, bytes) else json.dumps(request).encode()
        named = {"content-type": "application/json", **(headers or {})}
        async with self.http.stream("POST", f"{url}/chat/completions", content=content, headers=named) as response:
            if response.headers["content-type"] == "application/json":
                return Answer(response.status_code, response.headers, json.loads(await response.aread()))
            answer = Answer(response.status_code, response.headers)
            async for line in response.aiter_lines():
                if line:
                    assert line.startswith("data: ")
                    answer.events.append("[DONE]" if line == "data: [DONE]" else json.loads(line[6:]))
            return answer


@pytest.fixture
async def client():
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(timeout=10, trust_env=False, limits=limits) as http:
        yield Client(http)
