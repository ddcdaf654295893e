"""The Hub's router as its clients see it: the list of models with who serves each, and chat completions with a ledger.

Shape of `GET /v1/models`: https://huggingface.co/docs/inference-providers/tasks/chat-completion. Imports nothing of the
product.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.doubles.http1 import Answer, Request
from tests.doubles.openai_server import Double


def provider(name: str, price: str = "1/4", window: int | None = 131_072, **more: Any) -> dict[str, Any]:
    """A provider of a model: `price` is IN/OUT in dollars per million tokens, empty where none is listed."""
    row: dict[str, Any] = {"provider": name, "status": "live", "supports_tools": True, "is_model_author": False, **more}
    if price:
        given, taken = price.split("/")
        row["pricing"] = {"input": float(given), "output": float(taken)}
    return row | ({"context_length": window} if window else {})


def model(name: str, *providers: Mapping[str, Any], modalities: Sequence[str] = ("text",)) -> dict[str, Any]:
    """A model of the list."""
    return {
        "id": name,
        "object": "model",
        "created": 1_767_225_600,
        "owned_by": name.partition("/")[0],
        "architecture": {"input_modalities": list(modalities), "output_modalities": ["text"]},
        "providers": list(providers),
    }


class Router(Double):
    """The router. `broken` makes it answer the list with this status; `headers` keeps what chat requests carried."""

    def __init__(
        self, models: Sequence[Mapping[str, Any]], script: Sequence[Mapping[str, Any]] = (), **more: Any
    ) -> None:
        super().__init__(script or [{"reply": {"text": "Done."}}], **more)
        self.listed: list[Mapping[str, Any]] = list(models)
        self.broken = 0
        self.lists: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []

    async def __aenter__(self) -> "Router":
        await self.start()
        return self

    def answer(self, request: Request) -> Answer:
        if request.path != "/v1/models":
            self.headers.append(request.headers)
            return super().answer(request)
        self.lists.append(request.headers)
        body = {"object": "list", "data": self.listed}
        return Answer(status=self.broken or 200, body=json.dumps(body).encode())
