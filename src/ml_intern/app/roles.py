"""The models of every role, each role's in their order: as the launch says, else as the record does. Knows no wire."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.app.choices import Choice, Played, Players, choose, chosen
from ml_intern.app.options import ROLES
from ml_intern.app.settings import Launch
from ml_intern.base.errors import BadSettings
from ml_intern.model.catalog import resolve
from ml_intern.model.port import Delta, Finished, Model, Request
from ml_intern.record.events import ModelChosen, Role


class Cast(Struct, frozen=True):
    """Who may answer: the chain of each role, never empty, `main` among them, and who of it answers now. `note` is for
    a person.
    """

    chains: Mapping[Role, tuple[Choice, ...]]
    now: Mapping[Role, Choice]
    note: str

    @property
    def main(self) -> Choice:
        """Who answers as `main` now."""
        return self.now["main"]

    @property
    def all(self) -> list[Choice]:
        """Every one of them."""
        return [choice for chain in self.chains.values() for choice in chain]

    def told(self) -> list[str]:
        """What was found that their servers do not take, a line each."""
        return list(dict.fromkeys(line for choice in self.all for line in choice.lesson.told()))


class Late:
    """A model that is made when it is first asked: most sessions never need their second one. Implements
    `port.Model`.
    """

    def __init__(self, make: Callable[[], Awaitable[Model]]) -> None:
        self._make = make
        self._model: Model | None = None

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        if self._model is None:
            made = await self._make()
            # Another lane may have been faster.
            self._model = self._model or made
        async with aclosing(self._model.ask(request)) as stream:
            async for item in stream:
                yield item

    async def aclose(self) -> None:
        """Close the connections, where there are any."""
        if self._model is not None:
            await self._model.aclose()


async def cast(launch: Launch, recorded: Mapping[Role, ModelChosen], played: Played | None, players: Players) -> Cast:
    """The models of all roles.

    Raises:
        BadSettings: as `choose`; of a fallback or another role only where the session is new.
    """
    main = recorded.get("main")
    if played is not None:
        first = await choose(launch, main, played, players)
        return Cast({"main": (first,)}, {"main": first}, first.note)
    ids = _ids(launch, main)
    own = replace(launch, model=ids[0] if ids else None, effort=launch.effort or (main and main.effort))
    first = await choose(own, main if launch.model else _of(main, ids[:1]), None, players)
    chains: dict[Role, tuple[Choice, ...]] = {}
    notes = [first.note]
    chains["main"] = (first, *await _others(launch, "main", ids[1:], (main, first), players, notes))
    for role in ROLES[1:]:
        own = recorded.get(role)
        wanted = launch.roles.get(role) or (own.chain or (own.model,) if own is not None else ())
        chains[role] = await _others(launch, role, wanted, (own, first), players, notes)
    now: dict[Role, Choice] = {}
    for role in ROLES:
        if chain := _named(role, chains.pop(role)):
            chains[role], now[role] = chain, _answering(recorded.get(role), chain)
    return Cast(chains, now, "\n".join(dict.fromkeys(filter(None, notes))))


def _ids(launch: Launch, recorded: ModelChosen | None) -> tuple[str, ...]:
    """The main chain by name; empty: nobody said anything."""
    kept = (recorded.chain or (recorded.model,)) if recorded is not None else ()
    first = (launch.model,) if launch.model else kept[:1]
    rest = kept[1:] if launch.fallback is None and not launch.model else launch.fallback or ()
    return tuple(dict.fromkeys((*first, *rest)))


def _of(recorded: ModelChosen | None, ids: Sequence[str]) -> ModelChosen | None:
    """What is recorded of a role, where it is about one of these."""
    return recorded if recorded is not None and recorded.model in ids else None


async def _others(
    launch: Launch,
    role: Role,
    ids: Sequence[str],
    known: tuple[ModelChosen | None, Choice],
    players: Players,
    notes: list[str],
) -> tuple[Choice, ...]:
    """The models of these names. One that cannot be had ends a new session before it begins; one that goes on does
    without it, and says so in `notes`.
    """
    recorded, first = known
    launch = replace(launch, effort=launch.efforts.get(role) or launch.effort or (recorded and recorded.effort))
    made: list[Choice] = []
    tasks = (_other(launch, model, _of(recorded, [model]), first, players) for model in ids)
    for model, found in zip(ids, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        match found:
            case BadSettings() if recorded is not None:
                notes.append(f"{model} is left out of the models of {role}: {found.what} {found.remedy}")
            case BadSettings():
                raise BadSettings(f"{model} ({role}): {found.what}", found.remedy) from found
            case BaseException():
                raise found
            case Choice():
                made.append(found)
                notes.append(found.note)
    return tuple(made)


async def _other(launch: Launch, model: str, recorded: ModelChosen | None, first: Choice, players: Players) -> Choice:
    """One more model. The address that was said for the first holds where it is of the same provider; so does the
    price, where no other is known.
    """
    if model in players or first.endpoint is None:
        return await chosen(replace(launch, base_url=None, price=None), model, recorded, players)
    same = launch.base_url is not None and _is_of(model, first, launch)
    plain = replace(launch, base_url=launch.base_url if same else None, price=None)
    if same and launch.price and first.endpoint.loopback:
        # Of this machine no list knows a price: who says one means the server.
        return await chosen(replace(plain, price=launch.price), model, recorded, players)
    try:
        return await chosen(plain, model, recorded, players)
    except BadSettings:
        if not (same and launch.price):
            raise
        return await chosen(replace(plain, price=launch.price), model, recorded, players)


def _is_of(model: str, first: Choice, launch: Launch) -> bool:
    try:
        found = resolve(model, launch.base_url or "", launch.environ)
    except BadSettings:
        return False
    return first.endpoint is not None and found.provider.id == first.endpoint.provider.id


def _named(role: Role, chain: Sequence[Choice]) -> tuple[Choice, ...]:
    """The chain with what its members are recorded as; each model once, whatever it was called."""
    once: dict[str, Choice] = {}
    for choice in chain:
        once.setdefault(choice.event.model, choice)
    ids = tuple(once) if len(once) > 1 else ()
    return tuple(replace(choice, event=replace(choice.event, role=role, chain=ids)) for choice in once.values())


def _answering(recorded: ModelChosen | None, chain: Sequence[Choice]) -> Choice:
    """Who answered when the session was left, else the first."""
    was = recorded.model if recorded is not None else ""
    return next((choice for choice in chain if choice.event.model == was), chain[0])
