"""Which models there are: what local servers serve, what the Hub's router lists, what the price file knows.

Keys are named, never shown. Knows no session and no terminal.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Literal

from msgspec import Struct

from ml_intern.app.places import find_places
from ml_intern.base.errors import BadSettings
from ml_intern.model import local, pricelist, router
from ml_intern.model.catalog import PROVIDERS, Provider, base_url_of
from ml_intern.model.keys import find_key
from ml_intern.model.kinds import Served
from ml_intern.model.local import Server
from ml_intern.model.pricelist import Listed
from ml_intern.model.router import Look, Route, Routed
from ml_intern.model.served import age, route_price

_HUB = "huggingface_"


class Offer(Struct, frozen=True):
    """A model. Prices in micro-dollars per million tokens; None is unknown, never zero. `key` is where its provider's
    key lies, or the variable that is missing; `routes` are the live providers of a router's model.
    """

    id: str
    provider: str
    window: int | None
    input: int | None
    output: int | None
    tools: bool | None
    images: bool | None
    thinking: bool | None
    source: Literal["local", "router", "price file"]
    where: str
    key: str
    has_key: bool
    routes: tuple[Route, ...] = ()


class Offers(Struct, frozen=True):
    """The models, those of this machine first, then those whose key is there; and how old each list is. Where there are
    none, `nothing` says what was looked for and `remedy` what is near.
    """

    rows: tuple[Offer, ...]
    notes: tuple[str, ...] = ()
    nothing: str = ""
    remedy: str = ""


class Wanted(Struct, frozen=True):
    """Which of them: words that all stand in id or provider, one provider, only local servers."""

    words: tuple[str, ...] = ()
    provider: Provider | None = None
    local: bool = False
    offline: bool = False


async def offers(wanted: Wanted, environ: Mapping[str, str] = os.environ) -> Offers:
    """What there is. Servers are asked side by side; what does not answer is left out and told.

    Raises:
        BadSettings: HF_BASE_URL names no address.
    """
    found = Offers(())
    if wanted.provider is None or wanted.provider.local or wanted.local:
        found = await _local(environ)
    if not wanted.local and (wanted.provider is None or not wanted.provider.local):
        hosted = await _hosted(wanted, environ)
        found = Offers((*found.rows, *hosted.rows), (*found.notes, *hosted.notes))
    rows = [row for row in found.rows if wanted.provider is None or row.provider == wanted.provider.id]
    kept = [row for row in rows if _fits(row, wanted.words)]
    if not kept:
        return Offers((), found.notes, *_nothing(wanted, rows))
    order = {name: number for number, name in enumerate(PROVIDERS)}
    kept.sort(key=lambda row: (row.source != "local", not row.has_key, order[row.provider], row.id.lower()))
    return Offers(tuple(kept), found.notes)


def _fits(row: Offer, words: Sequence[str]) -> bool:
    among = " ".join((row.id, PROVIDERS[row.provider].title, *(route.provider for route in row.routes))).lower()
    return all(word.lower() in among for word in words)


def _nothing(wanted: Wanted, rows: Sequence[Offer]) -> tuple[str, str]:
    provider = wanted.provider
    if not rows and provider is not None and provider.local:
        return f"No model of {provider.title} is served on this machine.", f"Start it: {provider.start}."
    if not rows and (wanted.local or provider is None):
        none = f"No local server serves a model ({local.ports()})."
        return none, "Start one, for example `ollama serve`, then `ollama pull qwen3`."
    if not rows and provider is not None:
        remedy = f"Any will do: --model {provider.id}/MODEL, with --price IN/OUT where its price is not known."
        return f"No list here names the models of {provider.id}.", remedy
    said = " ".join(wanted.words)
    ids = {row.id.lower(): row.id for row in rows}
    short = {each.rpartition("/")[2]: each for each in ids}
    near = get_close_matches(said.lower(), ids, 3, 0.5)
    near += [short[each] for each in get_close_matches(said.lower().replace(" ", "-"), short, 3, 0.5)]
    nearest = ", ".join(ids[each] for each in list(dict.fromkeys(near))[:3])
    return f"No model matches {said!r}.", f"Nearest: {nearest}." if nearest else "Take fewer or shorter words."


async def _local(environ: Mapping[str, str]) -> Offers:
    servers = await local.servers(environ)
    served = await asyncio.gather(*(local.serving(server.endpoint) for server in servers))
    rows = [
        _of_server(server, each)
        for server, found in zip(servers, served, strict=True)
        for each in found or tuple(Served(name) for name in server.names)
    ]
    empty = [server for server, found in zip(servers, served, strict=True) if not (found or server.names)]
    return Offers(tuple(rows), tuple(f"{each.endpoint.provider.title} answers and has no model." for each in empty))


def _of_server(server: Server, model: Served) -> Offer:
    endpoint = server.endpoint
    state = {True: ", loaded", False: ", not loaded", None: ""}[model.is_loaded]
    return Offer(
        f"{server.kind}/{model.name}",
        server.kind,
        model.window,
        0,
        0,
        model.tools,
        model.images,
        model.thinking,
        "local",
        f"{endpoint.host}{state}",
        endpoint.key_source or "none needed",
        has_key=True,
    )


async def _hosted(wanted: Wanted, environ: Mapping[str, str]) -> Offers:
    hub = PROVIDERS["hf"]
    look = Look(None)
    if wanted.provider in {None, hub}:
        cache = find_places(environ).cache
        look = await router.look(base_url_of(hub, environ), cache, offline=wanted.offline)
    listed = await asyncio.to_thread(pricelist.names)
    keys = {provider.id: _key(provider, environ) for provider in PROVIDERS.values()}
    rows = [row for provider in PROVIDERS.values() for row in _of_file(provider, listed.get(provider.prices, {}), keys)]
    if look.listing is not None:
        rows += [_of_router(model, look, keys["hf"]) for model in look.listing.models if model.live]
    else:
        rows += _of_file(hub, _merged(listed), keys)
    return Offers(tuple(rows), _notes(look) if wanted.provider in {None, hub} else (_of_day(),))


def _notes(look: Look) -> tuple[str, ...]:
    why = f" cannot be had ({look.why})" if look.why else " cannot be had (no router answers there)"
    if look.listing is None:
        return f"The router's list{why}: its models come from the price file, in lower case.", _of_day()
    old = f"; a newer one{why}" if look.why else ""
    return f"The router's list is {age(look.age_s)} old{old}.", _of_day()


def _of_day() -> str:
    return f"Other providers' models are those of the price file of {pricelist.day()}; any other id does, with --price."


def _of_router(model: Routed, look: Look, key: tuple[str, bool]) -> Offer:
    routes = model.live
    prices = [route_price(route, model.id, look) for route in routes]
    rows = [price for price in prices if price]
    dearest = (pricelist.dearest(rows) if len(rows) > 1 else rows[0]) if rows and len(rows) == len(prices) else None
    tools = {route.tools for route in routes}
    return Offer(
        f"hf/{model.id}",
        "hf",
        min((route.window for route in routes if route.window), default=None),
        dearest.input if dearest else None,
        dearest.output if dearest else None,
        next(iter(tools)) if len(tools) == 1 else None,
        model.images,
        None,
        "router",
        f"live: {', '.join(route.provider for route in routes)}",
        *key,
        routes,
    )


def _of_file(provider: Provider, listed: Mapping[str, Listed], keys: Mapping[str, tuple[str, bool]]) -> Iterator[Offer]:
    for name, row in listed.items():
        yield Offer(
            f"{provider.id}/{name}",
            provider.id,
            row.window,
            row.prices.input,
            row.prices.output,
            None,
            None,
            None,
            "price file",
            "price file",
            *keys[provider.id],
        )


def _merged(listed: Mapping[str, Mapping[str, Listed]]) -> Mapping[str, Listed]:
    """What the price file knows of the router's models, the dearest of each."""
    found: dict[str, list[Listed]] = {}
    for provider, rows in listed.items():
        for name, row in rows.items() if provider.startswith(_HUB) else ():
            found.setdefault(name, []).append(row)
    return {name: pricelist.dearest_of(rows) for name, rows in found.items()}


def _key(provider: Provider, environ: Mapping[str, str]) -> tuple[str, bool]:
    """Where the provider's key lies, or what is missing, in words."""
    try:
        key = find_key(provider.keys, environ)
    except BadSettings as error:
        return error.what.rstrip("."), False
    if key is not None:
        return key.source, True
    return (f"no {provider.keys[0]}", False) if provider.keys else ("none needed", True)
