"""Which local model servers answer now, what they serve, and what to do when no model was named. Knows no wire."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from urllib.parse import urlsplit

from msgspec import Struct

from ml_intern.base.errors import BadSettings
from ml_intern.model import kinds
from ml_intern.model.catalog import PROVIDERS, Endpoint, Provider, resolve
from ml_intern.model.glance import Json, ask
from ml_intern.model.kinds import Served

PROBE_S = 0.3
ASK_S = 2.0
"""What a server that answers may take to say what it serves: it may be busy with a prompt."""
PROBED = ("ollama", "vllm", "lm_studio", "llamacpp", "tgi")


class Server(Struct, frozen=True):
    """A server of this machine that answers, and the ids it lists."""

    endpoint: Endpoint
    names: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The provider's id."""
        return self.endpoint.provider.id


async def servers(environ: Mapping[str, str] = os.environ) -> tuple[Server, ...]:
    """The local servers that answer within 0.3 s, each once, whatever kinds its address may be of."""
    found = await asyncio.gather(*(_probed(PROVIDERS[name], environ) for name in PROBED))
    answering = sorted((server for server in found if server), key=lambda server: server.endpoint.base_url)
    groups = groupby(answering, key=lambda server: server.endpoint.base_url)
    chosen = await asyncio.gather(*(_truest(list(group)) for _, group in groups))
    return tuple(sorted(chosen, key=lambda server: PROBED.index(server.kind)))


async def local_models(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """An id that can be asked for each local server that answers within 0.3 s, its first model's."""
    return tuple(f"{server.kind}/{server.names[0]}" for server in await servers(environ) if server.names)


async def serving(endpoint: Endpoint, only: str = "") -> tuple[Served, ...]:
    """What the server says of its models (see `kinds.served`); nothing where it does not answer as its kind does."""
    with suppress(OSError, ValueError, TimeoutError):
        async with asyncio.timeout(ASK_S):
            return await kinds.served(endpoint.provider.id, _asker(endpoint), only)
    return ()


async def no_model(environ: Mapping[str, str] = os.environ) -> BadSettings:
    """The error for a start without a model: its remedy is three lines, one for each way to go on."""
    models = await local_models(environ)
    local = f"Local servers that answer: {', '.join(f'--model {model}' for model in models)}."
    none = f"Local servers: none answers ({ports()}); for example `ollama serve`, then --model ollama/MODEL."
    return BadSettings(
        "No model was named, and none is set.",
        "With a key: `hf auth login`, or HF_TOKEN from huggingface.co/settings/tokens, then --model ORG/NAME; "
        "or ANTHROPIC_API_KEY and --model anthropic/MODEL, OPENAI_API_KEY and --model openai/MODEL, "
        "OPENROUTER_API_KEY and --model openrouter/ORG/MODEL. `ml-intern models` lists them.\n"
        f"{local if models else none}\n"
        "Without any: `ml-intern demo` trains a real model on this machine and needs neither key nor network.",
    )


def ports() -> str:
    """The ports that are looked at, for sentences."""
    return ", ".join(f"{name} {urlsplit(PROVIDERS[name].base_url).port}" for name in PROBED)


async def _probed(provider: Provider, environ: Mapping[str, str]) -> Server | None:
    """The server that answers where this kind is expected, on this machine only."""
    with suppress(BadSettings, OSError, TimeoutError, ValueError, LookupError, TypeError):
        endpoint = resolve(f"{provider.id}/MODEL", environ=environ)
        if endpoint.loopback and endpoint.base_url.startswith("http:"):
            async with asyncio.timeout(PROBE_S):
                rows: Sequence[Json] = (await ask(f"{endpoint.base_url}/models", endpoint.key))["data"] or ()
            return Server(endpoint, tuple(str(row["id"]) for row in rows))
    return None


async def _truest(rivals: Sequence[Server]) -> Server:
    """Of the kinds that share an address, the one that answers as only this kind does."""
    if len(rivals) == 1:
        return rivals[0]
    marked = await asyncio.gather(*(_is_marked(server) for server in rivals))
    return next((server for server, is_it in zip(rivals, marked, strict=True) if is_it), rivals[0])


async def _is_marked(server: Server) -> bool:
    with suppress(OSError, TimeoutError, ValueError, LookupError):
        async with asyncio.timeout(PROBE_S):
            await _asker(server.endpoint)(kinds.MARKS[server.kind], None)
            return True
    return False


def _asker(endpoint: Endpoint) -> Callable[[str, Json], Awaitable[Json]]:
    root = endpoint.base_url.removesuffix("/v1")

    async def asked(path: str, body: Json) -> Json:
        return await ask(f"{root}{path}", endpoint.key, body)

    return asked
