"""What each kind of local server says of the models it serves: the window it gives them, whether they see and call.
Knows no port and no catalog.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from msgspec import Struct

from ml_intern.model.glance import Json

Ask = Callable[[str, Json], Awaitable[Json]]
"""A path below the server's root and a body (None: GET) to what it answers; raises OSError or ValueError."""

OLLAMA_WINDOW = 4096
"""Tokens that Ollama gives a model, on all but large accelerators, where nobody said otherwise:
https://docs.ollama.com/context-length."""

MARKS = {
    "ollama": "/api/version",
    "lm_studio": "/api/v0/models",
    "llamacpp": "/props",
    "tgi": "/info",
    "vllm": "/version",
}
"""A path that only this kind of server answers."""

MORE = {
    "ollama": "OLLAMA_CONTEXT_LENGTH=32768 ollama serve",
    "vllm": "vllm serve MODEL --max-model-len 32768",
    "lm_studio": "lms load MODEL --context-length 32768",
    "llamacpp": "llama-server -m MODEL.gguf -c 32768 --jinja",
    "tgi": "text-generation-launcher --model-id MODEL --max-total-tokens 32768",
}
"""The command that gives a model a larger window."""

_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)", re.MULTILINE)


class Served(Struct, frozen=True):
    """A model of a local server. None is unknown. `is_default`: the window is what the server takes unless it was told
    otherwise: it says no number before the model is loaded.
    """

    name: str
    window: int | None = None
    images: bool | None = None
    tools: bool | None = None
    thinking: bool | None = None
    is_loaded: bool | None = None
    is_default: bool = False


async def served(kind: str, ask: Ask, only: str = "") -> tuple[Served, ...]:
    """The models that the server lists; with `only`, that one where it is listed, else all, of which no more is known
    than the name.

    Raises:
        OSError, ValueError: it does not answer as this kind does.
    """
    match kind:
        case "ollama":
            return await _ollama(ask, only)
        case "lm_studio":
            return await _lm_studio(ask)
        case "llamacpp":
            return await _llamacpp(ask)
        case "tgi":
            return await _tgi(ask)
        case _:
            return await _vllm(ask)


def is_same(kind: str, name: str, listed: str) -> bool:
    """Whether the server means `listed` where it is asked for `name`."""
    return name == listed or (kind == "ollama" and ":" not in name and f"{name}:latest" == listed)


def answers_any(kind: str) -> bool:
    """Whether the server has one model and answers for it under every name."""
    return kind in {"llamacpp", "tgi"}


async def _ollama(ask: Ask, only: str) -> tuple[Served, ...]:
    """https://docs.ollama.com/api: `/api/tags`, `/api/ps` (`context_length` of what is loaded), `/api/show`."""
    tags, loaded = await asyncio.gather(ask("/api/tags", None), _or_nothing(ask, "/api/ps"))
    names = [name for row in _rows(tags, "models") if (name := _text(row, "name") or _text(row, "model"))]
    windows = {_text(row, "name"): _count(row, "context_length") for row in _rows(loaded, "models")}
    wanted = [name for name in names if is_same("ollama", only, name)] if only else names
    if not wanted:
        return tuple(Served(name) for name in names)
    shown = await asyncio.gather(*(_or_nothing(ask, "/api/show", {"model": name}) for name in wanted))
    return tuple(_of_ollama(name, facts, windows) for name, facts in zip(wanted, shown, strict=True))


def _of_ollama(name: str, facts: Mapping[str, Json], loaded: Mapping[str, int | None]) -> Served:
    abilities = _items(facts, "capabilities")
    info = _table(facts.get("model_info"))
    most = next((count for key in info if key.endswith(".context_length") and (count := _count(info, key))), None)
    said = _NUM_CTX.search(_text(facts, "parameters"))
    # A model of their cloud gets all it can.
    chosen = int(said[1]) if said else most if _text(facts, "remote_host") else None
    window = loaded.get(name) or chosen or OLLAMA_WINDOW
    return Served(
        name,
        min(window, most or window),
        "vision" in abilities if abilities else None,
        "tools" in abilities if abilities else None,
        "thinking" in abilities if abilities else None,
        name in loaded,
        is_default=not (loaded.get(name) or chosen),
    )


async def _vllm(ask: Ask) -> tuple[Served, ...]:
    """https://docs.vllm.ai/en/stable/serving/openai_compatible_server: ModelCard.max_model_len."""
    rows = _rows(await ask("/v1/models", None), "data")
    return tuple(Served(name, _count(row, "max_model_len")) for row in rows if (name := _text(row, "id")))


async def _lm_studio(ask: Ask) -> tuple[Served, ...]:
    """https://lmstudio.ai/docs/developer/rest/endpoints: `type` llm, vlm or embeddings, `state`, `capabilities`."""
    rows = _rows(await ask("/api/v0/models", None), "data")
    return tuple(
        Served(
            name,
            _count(row, "loaded_context_length"),
            _text(row, "type") == "vlm",
            "tool_use" in _items(row, "capabilities") if "capabilities" in row else None,
            is_loaded=_text(row, "state") == "loaded",
        )
        for row in rows
        if (name := _text(row, "id")) and _text(row, "type") != "embeddings"
    )


async def _llamacpp(ask: Ask) -> tuple[Served, ...]:
    """https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md: `/props`; its `n_ctx` is a slot's."""
    listed, props = await asyncio.gather(ask("/v1/models", None), _or_nothing(ask, "/props"))
    window = _count(_table(props.get("default_generation_settings")), "n_ctx")
    sees = _table(props.get("modalities")).get("vision")
    images = sees if isinstance(sees, bool) else None
    # Without a place for tools in the template the server takes them, says nothing, and the model never hears of them.
    has_tools = _table(props.get("chat_template_caps")).get("supports_tools") is not False
    tools = None if has_tools else False
    return tuple(Served(name, window, images, tools) for row in _rows(listed, "data") if (name := _text(row, "id")))


async def _tgi(ask: Ask) -> tuple[Served, ...]:
    """https://huggingface.co/docs/text-generation-inference/reference/api_reference: `GET /info`."""
    info = _table(await ask("/info", None))
    name = _text(info, "model_id")
    if not name:
        raise ValueError("it names no model")
    return (Served(name, _count(info, "max_total_tokens")),)


async def _or_nothing(ask: Ask, path: str, body: Json = None) -> Mapping[str, Json]:
    """An answer that may be missing: an older server has no such path."""
    with suppress(OSError, ValueError):
        return _table(await ask(path, body))
    return {}


def _table(said: Json) -> Mapping[str, Json]:
    return cast("Mapping[str, Json]", said) if isinstance(said, dict) else {}


def _rows(said: Json, name: str) -> Sequence[Mapping[str, Json]]:
    return [_table(row) for row in _items(_table(said), name)]


def _items(said: Mapping[str, Json], name: str) -> Sequence[Json]:
    found = said.get(name)
    return cast("list[Json]", found) if isinstance(found, list) else ()


def _text(said: Mapping[str, Json], name: str) -> str:
    found = said.get(name)
    return found if isinstance(found, str) else ""


def _count(said: Mapping[str, Json], name: str) -> int | None:
    found = said.get(name)
    return found if isinstance(found, int) and found > 0 else None
