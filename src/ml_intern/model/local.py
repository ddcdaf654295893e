"""Which local model servers answer right now, and what to do when no model was named. Knows no wire."""

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from ml_intern.base.errors import BadSettings
from ml_intern.model.catalog import PROVIDERS, Provider, resolve

PROBE_S = 0.3
_PROBED = ("ollama", "vllm", "lm_studio", "llamacpp")
_MOST_BYTES = 1 << 20


async def local_models(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """An id that can be asked for each local server that answers within 0.3 s, its first model's."""
    found = await asyncio.gather(*(_model_of(PROVIDERS[name], environ) for name in _PROBED))
    return tuple(f"{name}/{model}" for name, model in zip(_PROBED, found, strict=True) if model)


async def no_model(environ: Mapping[str, str] = os.environ) -> BadSettings:
    """The error for a start without a model: its remedy is three lines, one for each way to go on."""
    models = await local_models(environ)
    ports = ", ".join(f"{name} {urlsplit(PROVIDERS[name].base_url).port}" for name in _PROBED)
    local = f"Local servers that answer: {', '.join(f'--model {model}' for model in models)}."
    none = f"Local servers: none answers ({ports}); for example `ollama serve`, then --model ollama/MODEL."
    return BadSettings(
        "No model was named, and none is set.",
        "With a key: `hf auth login`, or HF_TOKEN from huggingface.co/settings/tokens, then --model ORG/NAME; "
        "or OPENAI_API_KEY and --model openai/MODEL, or OPENROUTER_API_KEY and --model openrouter/ORG/MODEL.\n"
        f"{local if models else none}\n"
        "Without any: `ml-intern demo` trains a real model on this machine and needs neither key nor network.",
    )


async def _model_of(provider: Provider, environ: Mapping[str, str]) -> str:
    """The first model that the server lists, or an empty text where none answers."""
    with suppress(BadSettings, OSError, TimeoutError, ValueError, LookupError, TypeError):
        endpoint = resolve(f"{provider.id}/MODEL", environ=environ)
        address = urlsplit(endpoint.base_url)
        if endpoint.loopback and address.scheme == "http":
            async with asyncio.timeout(PROBE_S):
                return await _first_model(address.hostname or "", address.port or 80, address.path, endpoint.key)
    return ""


async def _first_model(host: str, port: int, path: str, key: str) -> str:
    # HTTP/1.0: the answer ends where the connection does, so that no client has to be imported for four looks.
    bearer = f"Authorization: Bearer {key}\r\n" if key else ""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path}/models HTTP/1.0\r\nHost: {host}:{port}\r\n{bearer}\r\n".encode())
        head, _, body = (await _all(reader)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return str(json.loads(body)["data"][0]["id"]) if head.split()[1] == b"200" else ""


async def _all(reader: asyncio.StreamReader) -> bytes:
    data = b""
    while len(data) < _MOST_BYTES and (more := await reader.read(65536)):
        data += more
    return data
