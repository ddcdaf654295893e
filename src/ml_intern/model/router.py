"""The list of the Hub's router: which models it serves, through whom, at which price and window; kept for a while.

Knows no session and no key: the list is public.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, encode
from msgspec.json import decode as loads

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import usd
from ml_intern.base.text import one_line
from ml_intern.model.catalog import is_loopback

FRESH_S = 3600.0
TIMEOUT_S = 3.0
POLICIES = frozenset({"fastest", "cheapest", "preferred"})
"""Routes that leave the choice of a provider to the router, as no route at all does."""

_MOST_BYTES = 16 << 20


class Route(Struct, frozen=True):
    """A provider that serves a model. Prices in micro-dollars per million tokens; None is unknown, never zero."""

    provider: str
    is_live: bool
    window: int | None = None
    input: int | None = None
    output: int | None = None
    tools: bool | None = None


class Routed(Struct, frozen=True):
    """A model of the router."""

    id: str
    images: bool | None
    routes: tuple[Route, ...]

    @property
    def live(self) -> tuple[Route, ...]:
        """Those of its providers that answer now."""
        return tuple(route for route in self.routes if route.is_live)


class Listing(Struct, frozen=True):
    """The list as it was at `at` (seconds since 1970)."""

    at: float
    models: tuple[Routed, ...]


class Look(Struct, frozen=True):
    """What is known of the list. `why` says why it is not of now; empty where it is fresh. None: there is none."""

    listing: Listing | None
    age_s: float = 0.0
    why: str = ""


async def look(base_url: str, folder: Path, *, offline: bool = False, anew: bool = False) -> Look:
    """The list of the router at `base_url`: the one kept in `folder` while it is fresh, else asked for, at most 3 s.

    `offline`: what is kept, however old. `anew`: what is kept does not do.
    """
    kept = await asyncio.to_thread(_kept, _file(base_url, folder))
    age_s = max(0.0, time.time() - kept.at) if kept else 0.0
    if kept and age_s < FRESH_S and not anew:
        return Look(kept, age_s)
    why = "offline"
    if not offline:
        try:
            models = await _fetched(base_url)
        except (OSError, ValueError, TimeoutError) as error:
            why = one_line(str(error), 100) or f"no answer within {TIMEOUT_S:g} s"
        else:
            listing = Listing(time.time(), models)
            if models:
                await asyncio.to_thread(_keep, listing, _file(base_url, folder))
            return Look(listing if models else None)
    return Look(kept, age_s, why)


def parsed(body: bytes) -> tuple[Routed, ...]:
    """The models of an answer to `GET /v1/models`. What is malformed is left out; none where the server is no router.

    https://huggingface.co/docs/inference-providers/tasks/chat-completion: `data[]` of `id`,
    `architecture.input_modalities`, `providers[]` of `provider`, `status` ("live"), `context_length`, `pricing.input`
    and `pricing.output` (USD per million tokens), `supports_tools`.

    Raises:
        ValueError: it is no JSON object with `data`.
    """
    try:
        rows: Any = loads(body)["data"]
        return tuple(model for row in rows if (model := _routed(row)) is not None)
    except (DecodeError, LookupError, TypeError) as error:
        raise ValueError("what it answered is no list of models") from error


def find(name: str, models: Sequence[Routed]) -> Routed | None:
    """The model of this name."""
    return next((model for model in models if model.id == name), None)


def nearest(name: str, models: Sequence[Routed], most: int = 3) -> list[str]:
    """Ids of live models that `name` may have meant, the nearest first; those of the same last word before others."""
    ids = {model.id.lower(): model.id for model in models if model.live}
    short = {each.rpartition("/")[2]: each for each in ids}
    near = get_close_matches(name.lower(), ids, most, 0.6)
    near += [short[each] for each in get_close_matches(name.lower().rpartition("/")[2], short, most, 0.6)]
    return [ids[each] for each in dict.fromkeys(near)][:most]


def routes_of(name: str, route: str, models: Sequence[Routed]) -> tuple[Routed, tuple[Route, ...]]:
    """The model, and whom the router may ask for it: all that are live, or the one that is named.

    Raises:
        BadSettings: the router does not serve it, or not there.
    """
    model = find(name, models)
    if model is None:
        raise BadSettings(f"The router does not list {name}.", _meant(name, models))
    if not model.live:
        raise BadSettings(f"No provider serves {name} now.", _meant(name, models))
    if not route or route in POLICIES:
        return model, model.live
    chosen = tuple(each for each in model.live if each.provider == route)
    if not chosen:
        live = ", ".join(f"{name}:{each.provider}" for each in model.live)
        raise BadSettings(f"{route} does not serve {name} now.", f"Live: {live}; or {name} without a provider.")
    return model, chosen


def _meant(name: str, models: Sequence[Routed]) -> str:
    near = nearest(name, [each for each in models if each.id != name])
    said = f"Nearest: {', '.join(f'--model hf/{each}' for each in near)}. " if near else ""
    return f"{said}`ml-intern models WORD --provider hf` lists what it serves."


def _routed(row: Any) -> Routed | None:  # noqa: ANN401 - JSON of a server
    match row:
        case {"id": str(name), "providers": [*providers]} if name:
            routes = tuple(route for each in providers if (route := _route(each)) is not None)
        case _:
            return None
    kinds: Any = row.get("architecture")
    modalities: Any = cast("dict[str, Any]", kinds).get("input_modalities") if isinstance(kinds, dict) else None
    return Routed(name, "image" in modalities if isinstance(modalities, list) else None, routes)


def _route(row: Any) -> Route | None:  # noqa: ANN401 - JSON of a server
    match row:
        case {"provider": str(provider), "status": str(status)}:
            fields = cast("dict[str, Any]", row)
        case _:
            return None
    price: Any = fields.get("pricing")
    rates = cast("dict[str, Any]", price) if isinstance(price, dict) else {}
    window, tools = fields.get("context_length"), fields.get("supports_tools")
    return Route(
        provider,
        status == "live",
        window if isinstance(window, int) and window > 0 else None,
        _rate(rates.get("input")),
        _rate(rates.get("output")),
        tools if isinstance(tools, bool) else None,
    )


def _rate(price: Any) -> int | None:  # noqa: ANN401 - JSON of a server
    if isinstance(price, bool) or not isinstance(price, int | float | str):
        return None
    with suppress(BadSettings):
        return usd(price)
    return None


async def _fetched(base_url: str) -> tuple[Routed, ...]:
    """The list as it is now; none where the server has no such list.

    Raises:
        OSError, ValueError, TimeoutError: it cannot be had.
    """
    async with asyncio.timeout(TIMEOUT_S):
        # A quarter of a second, in which the event loop would stand still; the model's wire needs it anyway.
        await asyncio.to_thread(import_module, "ml_intern.model.wire.exchange")
        status, body = await _get(f"{base_url}/models")
    if status in {404, 405}:
        return ()
    if status != 200:
        raise ValueError(f"it answered {status}")
    return parsed(body)


async def _get(url: str) -> tuple[int, bytes]:
    import httpx2  # noqa: PLC0415 - imported in a thread by then

    client = httpx2.AsyncClient(
        timeout=TIMEOUT_S,
        # No key: the list is public, and who reads it is nobody's business.
        headers={"accept": "application/json", "user-agent": "ml-intern"},
        trust_env=not is_loopback(httpx2.URL(url).host),
        verify=url.startswith("https:"),
    )
    try:
        async with client, client.stream("GET", url) as response:
            return response.status_code, await _whole(response.aiter_bytes())
    except httpx2.HTTPError as error:
        raise OSError(str(error) or type(error).__name__) from error


async def _whole(pieces: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > _MOST_BYTES:
            raise ValueError("its list is too long")
    return bytes(body)


def _file(base_url: str, folder: Path) -> Path:
    return folder / f"router-{sha256(base_url.encode()).hexdigest()[:16]}.json"


def _kept(path: Path) -> Listing | None:
    """What was kept; a file that is damaged, or of another version, is none."""
    try:
        return Decoder(Listing).decode(path.read_bytes())
    except (OSError, DecodeError):
        return None


def _keep(listing: Listing, path: Path) -> None:
    """Keep it. Where it cannot be kept it is asked for again next time."""
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(encode(listing))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
