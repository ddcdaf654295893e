"""Which provider an id means, its address and key, and what is known of the model. Knows no wire and asks no server."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from ml_intern.base.errors import BadSettings
from ml_intern.model import pricelist
from ml_intern.model.adapted import ADAPTED
from ml_intern.model.keys import find_key
from ml_intern.model.port import ModelInfo
from ml_intern.model.prices import FREE, prices_from


@dataclass(frozen=True, slots=True)
class Provider:
    """One row of the table.

    `keys` and `base_variables` are environment variables, the first that is set wins. `limit` is the field that bounds
    a reply; `session` is where a session's id goes so that its requests meet a warm cache; `keeps_thinking` is whether
    the server takes its thinking back; `prices` is the provider's name in the price file; `wire` the protocol
    (adapted: whatever pydantic-ai speaks to it); `keyless` says which credentials do in the place of a key.
    """

    id: str
    title: str
    base_url: str = ""
    keys: tuple[str, ...] = ()
    base_variables: tuple[str, ...] = ()
    local: bool = False
    start: str = ""
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    session: Literal["", "prompt_cache_key", "x-hf-session-id"] = ""
    keeps_thinking: bool = True
    prices: str = ""
    wire: Literal["chat", "messages", "adapted"] = "chat"
    keyless: str = ""


def _local(name: str, title: str, port: int, start: str) -> Provider:
    variables = name.upper()
    return Provider(
        name,
        title,
        f"http://127.0.0.1:{port}/v1",
        keys=(f"{variables}_API_KEY", "LOCAL_LLM_API_KEY"),
        # Ollama's own variable is OLLAMA_HOST: https://docs.ollama.com/faq.
        base_variables=(f"{variables}_BASE_URL", *(["OLLAMA_HOST"] if name == "ollama" else []), "LOCAL_LLM_BASE_URL"),
        local=True,
        start=start,
    )


PROVIDERS = {
    provider.id: provider
    for provider in (
        Provider(
            "openai",
            "OpenAI",
            "https://api.openai.com/v1",
            ("OPENAI_API_KEY",),
            ("OPENAI_BASE_URL",),
            limit="max_completion_tokens",
            session="prompt_cache_key",
            keeps_thinking=False,
            prices="openai",
        ),
        Provider(
            "anthropic",
            "Anthropic",
            "https://api.anthropic.com/v1",
            ("ANTHROPIC_API_KEY",),
            ("ANTHROPIC_BASE_URL",),
            prices="anthropic",
            wire="messages",
        ),
        Provider(
            "hf",
            "Hugging Face",
            "https://router.huggingface.co/v1",
            ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
            ("HF_BASE_URL",),
            session="x-hf-session-id",
            prices="huggingface",
        ),
        Provider(
            "openrouter", "OpenRouter", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), prices="openrouter"
        ),
        Provider("deepseek", "DeepSeek", "https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",), prices="deepseek"),
        Provider(
            "moonshot",
            "Moonshot",
            "https://api.moonshot.ai/v1",
            ("MOONSHOT_API_KEY", "KIMI_API_KEY"),
            ("MOONSHOT_BASE_URL",),
            prices="moonshotai",
        ),
        Provider(
            "groq",
            "Groq",
            "https://api.groq.com/openai/v1",
            ("GROQ_API_KEY",),
            keeps_thinking=False,
            prices="groq",
        ),
        Provider("together", "Together", "https://api.together.xyz/v1", ("TOGETHER_API_KEY",), prices="together"),
        Provider(
            "fireworks",
            "Fireworks",
            "https://api.fireworks.ai/inference/v1",
            ("FIREWORKS_API_KEY",),
            prices="fireworks",
        ),
        Provider("cerebras", "Cerebras", "https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",), prices="cerebras"),
        Provider("xai", "xAI", "https://api.x.ai/v1", ("XAI_API_KEY",), keeps_thinking=False, prices="x-ai"),
        _local("ollama", "Ollama", 11434, "`ollama serve`"),
        _local("vllm", "vLLM", 8000, "`vllm serve MODEL --enable-auto-tool-choice --tool-call-parser PARSER`"),
        _local("lm_studio", "LM Studio", 1234, "`lms server start`"),
        _local("llamacpp", "llama.cpp", 8080, "`llama-server -m MODEL.gguf --jinja`"),
        _local("tgi", "TGI", 8080, "`text-generation-launcher --model-id MODEL --port 8080`"),
        Provider(
            "openai-compatible",
            "The server",
            keys=("OPENAI_COMPATIBLE_API_KEY",),
            base_variables=("OPENAI_COMPATIBLE_BASE_URL",),
        ),
        Provider(
            "anthropic-compatible",
            "The server",
            keys=("ANTHROPIC_COMPATIBLE_API_KEY",),
            base_variables=("ANTHROPIC_COMPATIBLE_BASE_URL",),
            wire="messages",
        ),
        *(
            Provider(
                row.id,
                row.title,
                row.base_url,
                row.keys,
                row.base_variables,
                prices=row.prices,
                wire="adapted",
                keyless=row.keyless,
            )
            for row in ADAPTED.values()
        ),
    )
}

_ALIASES = {
    "huggingface": "hf",
    "kimi": "moonshot",
    "lmstudio": "lm_studio",
    "lm-studio": "lm_studio",
    "llama.cpp": "llamacpp",
    "llama_cpp": "llamacpp",
    "llama-cpp": "llamacpp",
    "openai_compatible": "openai-compatible",
    "anthropic_compatible": "anthropic-compatible",
    "gemini": "google",
    "vertex": "google-vertex",
    "google-cloud": "google-vertex",
    "grok": "xai",
    "copilot": "github-copilot",
    "z.ai": "zai",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one model is asked: the address, the model's name there, the key (never shown) and where it was found.

    `bill_to` is the organisation of the Hub that pays; empty: who owns the key.
    """

    provider: Provider
    model: str
    base_url: str
    key: str = field(default="", repr=False)
    key_source: str = ""
    bill_to: str = ""

    @property
    def id(self) -> str:
        """The full id, with its provider."""
        return f"{self.provider.id}/{self.model}"

    @property
    def host(self) -> str:
        """The host, with the port where the address names one."""
        return urlsplit(self.base_url).netloc

    @property
    def loopback(self) -> bool:
        """Whether the server runs on this machine."""
        return is_loopback(urlsplit(self.base_url).hostname or "")


def resolve(model_id: str, base_url: str = "", environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint that `provider/model[:route]`, or a bare `org/name` of the Hub, means.

    With a base URL a bare `org/name` is what the server there calls its model: the Hub's token goes to no one else.

    Raises:
        BadSettings: no such provider, no address, no key, or one of them is malformed.
    """
    provider, model = _split(model_id.strip(), base_url)
    address = base_url or _address(provider, environ)
    if not address and (provider.base_variables or provider.wire != "adapted"):
        raise BadSettings(
            f"{provider.id}/{model} names no address.",
            f"Add --base-url http://HOST:PORT/v1, or set {provider.base_variables[0]}.",
        )
    url = _base_url(address, provider) if address else ""
    key = find_key(provider.keys, environ)
    wants = (provider.base_url or provider.wire == "adapted") and not (provider.local or provider.keyless)
    if key is None and wants and not is_loopback(urlsplit(url).hostname or ""):
        login = "run `hf auth login`" if provider.id == "hf" else f"run `ml-intern login {provider.id}`"
        raise BadSettings(
            f"{provider.title} wants a key, and none is set.",
            f"Set {provider.keys[0]} or {login}, or choose another model with --model.",
        )
    return Endpoint(provider, model, url, key.value if key else "", key.source if key else "")


def describe(model_id: str, base_url: str = "", price: str = "", environ: Mapping[str, str] = os.environ) -> ModelInfo:
    """What is known of the model before it is asked. `price` (IN/OUT, USD per million tokens) goes before the list.

    Raises:
        BadSettings: as `resolve`, or `price` is malformed.
    """
    return described(resolve(model_id, base_url, environ), price)


def described(endpoint: Endpoint, price: str = "") -> ModelInfo:
    """What the price file and the address say of the model.

    Raises:
        BadSettings: `price` is malformed.
    """
    listed = None if endpoint.loopback else _listed(endpoint)
    prices = listed.prices if listed else None
    if price:
        prices = prices_from(price)
    elif endpoint.loopback:
        prices = FREE
    payer = payer_of(endpoint, is_free=endpoint.loopback and not price)
    return ModelInfo(endpoint.id, listed.window if listed else None, None, prices, payer)


def billed(endpoint: Endpoint, bill_to: str) -> Endpoint:
    """The endpoint with an organisation that pays, where its provider takes one: the Hub's router."""
    return replace(endpoint, bill_to=bill_to) if bill_to and endpoint.provider.id == "hf" else endpoint


def payer_of(endpoint: Endpoint, *, is_free: bool = False) -> str:
    """Who pays, as a person reads it: this machine, an organisation of the Hub, or who owns the key."""
    if is_free:
        return "this machine"
    if endpoint.bill_to:
        return f"{endpoint.provider.id} ({endpoint.bill_to})"
    title = endpoint.provider.title
    title = title[0].lower() + title[1:] if title.startswith("The ") else title
    return f"{title} ({endpoint.key_source})" if endpoint.key_source else title


def find_provider(name: str) -> Provider:
    """The provider that goes by this name.

    Raises:
        BadSettings: none does; the remedy names the nearest, or all.
    """
    provider = PROVIDERS.get(_ALIASES.get(name.lower(), name.lower()))
    if provider is None:
        near = get_close_matches(name.lower(), [*PROVIDERS, *_ALIASES], 1, 0.6)
        meant = f"Did you mean {_ALIASES.get(near[0], near[0])}? " if near else ""
        raise BadSettings(f"{name!r} names no provider that is known.", f"{meant}Known: {', '.join(PROVIDERS)}.")
    return provider


def base_url_of(provider: Provider, environ: Mapping[str, str]) -> str:
    """Where the provider is asked where no address is named.

    Raises:
        BadSettings: a variable names what is no address.
    """
    return _base_url(_address(provider, environ), provider)


def _address(provider: Provider, environ: Mapping[str, str]) -> str:
    return next(filter(None, map(environ.get, provider.base_variables)), provider.base_url)


def is_loopback(host: str) -> bool:
    """Whether the host name is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _split(model_id: str, base_url: str) -> tuple[Provider, str]:
    name, slash, model = model_id.partition("/")
    provider = PROVIDERS.get(_ALIASES.get(name.lower(), name.lower()))
    # `google/gemma-…` is a model of the Hub; `gemini/gemma-…` is Google's own.
    if slash and model and provider:
        is_hubs = name.lower() == "google" and not model.lower().startswith("gemini")
        return (PROVIDERS["hf"], model_id) if is_hubs else (provider, model)
    if base_url and model_id:
        return PROVIDERS["openai-compatible"], model_id
    if provider and not model:
        what = f"{model_id!r} names no model of {provider.title}."
        raise BadSettings(what, f"Write {provider.id}/MODEL: `ml-intern models {provider.id}` lists them.")
    near = get_close_matches(name.lower(), [*PROVIDERS, *_ALIASES], 1, 0.6 if model.count("/") else 0.8)
    # `deepseek-ai/…` is an organisation of the Hub; `depseek/…` is a slip.
    if name and slash and model and "/" not in model and not (near and len(name) <= len(near[0]) + 1):
        return PROVIDERS["hf"], model_id
    meant = _ALIASES.get(near[0], near[0]) if near else "openai"
    raise BadSettings(
        f"{model_id!r} names no provider that is known." if slash and model else f"{model_id!r} is not provider/model.",
        f"Did you mean {meant}/{model or model_id or 'MODEL'}? Known: {', '.join(PROVIDERS)}; or ORG/NAME of the Hub.",
    )


def _base_url(address: str, provider: Provider) -> str:
    """`address` with a scheme, and with /v1 where it names no path. `OLLAMA_HOST` may be `:11434` or `0.0.0.0`."""
    text = address.strip()
    if "://" not in text:
        text = f"//127.0.0.1{text}" if text.startswith(":") else f"//{text}"
    wrong = BadSettings(f"{address!r} is not a base URL.", "Write one such as http://127.0.0.1:8000/v1.")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in {"", "http", "https"} or not host or parts.query or parts.fragment or len(text.split()) > 1:
        raise wrong
    if parts.username or parts.password:
        raise BadSettings("A base URL may hold no password.", f"Set {provider.keys[0]} instead.")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what a server listens on, read as where to find it
    if not port and provider.local and not parts.scheme:
        port = urlsplit(provider.base_url).port
    scheme = parts.scheme or ("http" if provider.local or is_loopback(host) else "https")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    if provider.wire == "messages":
        # ANTHROPIC_BASE_URL names no version, as the official client wants it: a gateway's is http://host/anthropic.
        path = f"{path.removesuffix('/messages').removesuffix('/v1')}/v1"
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return f"{scheme}://{netloc}{path or ('' if provider.wire == 'adapted' else '/v1')}"


def _listed(endpoint: Endpoint) -> pricelist.Listed | None:
    provider, model = endpoint.provider, endpoint.model
    if not provider.prices or urlsplit(endpoint.base_url).hostname != urlsplit(provider.base_url).hostname:
        return None
    if provider.id != "hf":
        return pricelist.find(provider.prices, model)
    name, _, route = model.partition(":")
    if route in {"", "fastest", "cheapest", "preferred"}:
        return pricelist.find_dearest(f"{provider.prices}_", name)
    return pricelist.find(f"{provider.prices}_{route}", name)
