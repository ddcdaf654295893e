"""What a model that was chosen is served with right now: the router's list or the local server itself, before the price
file. Knows no session, no settings and no wire.
"""

import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.errors import BadSettings
from ml_intern.model import kinds, local, pricelist, router
from ml_intern.model.catalog import Endpoint, described, payer_of
from ml_intern.model.kinds import Served
from ml_intern.model.port import ModelInfo
from ml_intern.model.router import Look, Route, Routed
from ml_intern.record.messages import Prices

LITTLE_WINDOW = 16_384
"""Tokens below which an agent has hardly room for its own prompt and one file."""


class Known(Struct, frozen=True):
    """A model as it is served now. `note` is for a person: what is assumed, old or too little. `remedy` says how to get
    a price where none is known.
    """

    info: ModelInfo
    note: str = ""
    remedy: str = ""


async def known(endpoint: Endpoint, cache: Path, price: str = "", *, offline: bool = False) -> Known:
    """What is known of the model; `cache` is the folder where the router's list is kept, `price` goes before any list.

    Raises:
        BadSettings: `price` is malformed, or the server says that it does not serve this model.
    """
    info = described(endpoint, price)
    if endpoint.provider.id == "hf":
        return await _routed(endpoint, info, cache, price, offline=offline)
    return await _local(endpoint, info) if endpoint.provider.local else Known(info)


async def _local(endpoint: Endpoint, info: ModelInfo) -> Known:
    kind, name = endpoint.provider.id, endpoint.model
    listed = await local.serving(endpoint, name)
    found = next((each for each in listed if kinds.is_same(kind, name, each.name)), None)
    if found is None and listed and kinds.answers_any(kind):
        found = listed[0]
    if found is None and listed:
        raise _not_served(endpoint, [each.name for each in listed])
    if found is None:
        return Known(info)
    info = replace(info, window=found.window, images=found.images, tools=found.tools)
    return Known(info, _about_window(endpoint, found))


def _not_served(endpoint: Endpoint, names: Sequence[str]) -> BadSettings:
    kind, model = endpoint.provider.id, endpoint.model
    near = get_close_matches(model, names, 3, 0.5) or names[:5]
    pull = f" Or fetch it: `ollama pull {model}`." if kind == "ollama" else ""
    said = ", ".join(f"--model {kind}/{name}" for name in near)
    return BadSettings(
        f"{endpoint.provider.title} does not serve {model} at {endpoint.host}.", f"Nearest: {said}.{pull}"
    )


def _about_window(endpoint: Endpoint, found: Served) -> str:
    title, more = endpoint.provider.title, kinds.MORE[endpoint.provider.id]
    if found.window is None and found.is_loaded is False:
        return f"{title} has not loaded {found.name}, so its window is not known. Load it with enough: `{more}`."
    if found.window is None or found.window >= LITTLE_WINDOW:
        return ""
    if found.is_default:
        what = f"{title} has not loaded {found.name} and then gives it {found.window:,} tokens, unless told otherwise"
    else:
        what = f"{title} serves {found.name} with a window of {found.window:,} tokens"
    return f"{what}, which is little for an agent. Serve it with more: `{more}`."


async def _routed(endpoint: Endpoint, info: ModelInfo, cache: Path, price: str, *, offline: bool) -> Known:
    name, _, route = endpoint.model.partition(":")
    look = await router.look(endpoint.base_url, cache, offline=offline)
    if look.listing and look.age_s and not (look.why or offline or _has(look, name, route)):
        # It may have come since the list was read.
        look = await router.look(endpoint.base_url, cache, anew=True)
    if look.listing is None:
        return Known(info, "" if endpoint.loopback else _without_list(look, info))
    if (look.why or offline) and not _has(look, name, route):
        return Known(info, f"{_old(look)} It does not name {endpoint.model}: what the price file says holds.")
    models = _as_live(look) if look.why else look.listing.models
    model, routes = router.routes_of(name, route, models)
    return _of_routes(endpoint, replace(info, images=model.images), routes, look, price)


def _has(look: Look, name: str, route: str) -> bool:
    model = router.find(name, look.listing.models) if look.listing else None
    named = route and route not in router.POLICIES
    return model is not None and any(each.provider == route or not named for each in _usable(look, model))


def _usable(look: Look, model: Routed) -> tuple[Route, ...]:
    return model.routes if look.why else model.live


def _as_live(look: Look) -> tuple[Routed, ...]:
    """Whether a provider answers now, an old list does not know: each may."""
    assert look.listing is not None
    return tuple(
        replace(model, routes=tuple(replace(route, is_live=True) for route in model.routes))
        for model in look.listing.models
    )


def _of_routes(endpoint: Endpoint, info: ModelInfo, routes: Sequence[Route], look: Look, price: str) -> Known:
    windows = [route.window for route in routes if route.window]
    tools = {route.tools for route in routes}
    info = replace(
        info,
        window=min(windows, default=info.window),
        # Where only some can, it is asked natively, and learned if the one that answers cannot.
        tools=next(iter(tools)) if len(tools) == 1 else None,
    )
    note = _old(look) if look.why else ""
    if price:
        return Known(info, note)
    name = endpoint.model.partition(":")[0]
    priced = {route.provider: route_price(route, name, look, endpoint.host) for route in routes}
    rows = [row for row in priced.values() if row]
    if len(rows) < len(priced):
        return Known(replace(info, prices=None), note, _name_one(endpoint, priced))
    prices = rows[0] if len(rows) == 1 else pricelist.dearest(rows)
    return Known(replace(info, prices=prices, payer=payer_of(endpoint)), note)


def route_price(route: Route, model: str, look: Look, host: str = "router") -> Prices | None:
    """What the list says, else what the price file knows of this provider's `model`; None: nobody says."""
    if route.input is None or route.output is None:
        listed = pricelist.find(f"huggingface_{route.provider}", model)
        return listed.prices if listed else None
    assert look.listing is not None
    day = time.strftime("%Y-%m-%d", time.gmtime(look.listing.at))
    return Prices(route.input, route.output, source=f"{host} list, {day}")


def _name_one(endpoint: Endpoint, priced: dict[str, Prices | None]) -> str:
    name = endpoint.id.partition(":")[0]
    known = ", ".join(f"--model {name}:{provider}" for provider, row in priced.items() if row)
    without = ", ".join(provider for provider, row in priced.items() if not row)
    return f"No price is listed for {without}. " + (f"Name one that has a price: {known}." if known else "")


def _without_list(look: Look, info: ModelInfo) -> str:
    if not look.why:
        return ""  # the server answers and has no such list: it is no router
    held = "the price file holds" if info.prices else "the price file does not know this model"
    return f"The router's list cannot be had ({look.why}): {held}."


def _old(look: Look) -> str:
    return f"The router's list cannot be had ({look.why or 'offline'}): the one of {age(look.age_s)} ago holds."


def age(seconds: float) -> str:
    """A length of time for a person: `12 min`, `5 h`, `3 days`."""
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"
