"""The floor: the least an agent can be. Messages, one tool, streaming; no policy, no record, no sandbox, no retry."""

import asyncio
import json
import sys
from typing import Any

import httpx2

PARAMETERS = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
TOOLS = [{"type": "function", "function": {"name": "bash", "description": "Run it.", "parameters": PARAMETERS}}]


async def _ask(client: httpx2.AsyncClient, messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {"model": "double", "messages": messages, "tools": TOOLS, "max_tokens": 16_384, "stream": True}
    text: list[str] = []
    calls: dict[int, dict[str, Any]] = {}
    async with client.stream("POST", "chat/completions", json=body) as response:
        async for line in response.raise_for_status().aiter_lines():
            delta = json.loads(line[6:])["choices"][0]["delta"] if line.startswith("data: {") else {}
            text.append(delta.get("content") or "")
            for part in delta.get("tool_calls", ()):
                call = calls.setdefault(part["index"], part)
                call["function"]["arguments"] += "" if call is part else part["function"]["arguments"]
    return {"role": "assistant", "content": "".join(text), **({"tool_calls": [*calls.values()]} if calls else {})}


async def _main(url: str, prompt: str) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": prompt}]
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        while calls := (messages.append(await _ask(client, messages)) or messages[-1].get("tool_calls")):
            for call in calls:
                command = ("bash", "-c", json.loads(call["function"]["arguments"])["command"])
                output = await (await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-2)).communicate()
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": output[0].decode()})
    print(messages[-1]["content"])


asyncio.run(_main(*sys.argv[1:]))
