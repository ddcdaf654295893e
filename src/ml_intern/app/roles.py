"""The models of every role, each role's in their order: as the launch says, else as the record does. Knows no wire."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.app.choices import Choice, Played, Players, choose, chosen, pays_now
from ml_intern.app.options import ROLES
from ml_intern.app.settings import Launch
from ml_intern.base.errors import BadSettings
from ml_intern.model.catalog import resolve
from ml_intern.model.port import Delta, Finished, Model, Request
from ml_intern.model.prices import SAID
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
        self._making = asyncio.Lock()

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the attempt failed, before or in mid-stream.
        """
        model = await self._made()
        async with aclosing(model.ask(request)) as stream:
            async for item in stream:
                yield item

    async def _made(self) -> Model:
        """Lanes may ask at once: it is made for all of them by one."""
        async with self._making:
            if self._model is None:
                self._model = await self._make()
            return self._model

    async def aclose(self) -> None:
        """Close the connections, where there are any."""
        if self._model is not None:
            await self._model.aclose()


async def cast(launch: Launch, recorded: Sequence[ModelChosen], played: Played | None, players: Players) -> Cast:
    """The models of all roles; `recorded` is what is known of each model of a role, who answers now last.

    Raises:
        BadSettings: as `choose`; of a fallback or another role only where the session is new.
    """
    now_recorded: dict[Role, ModelChosen] = {each.role: each for each in recorded}
    main = now_recorded.get("main")
    if played is not None:
        first = await choose(launch, main, played, players)
        return Cast({"main": (first,)}, {"main": first}, first.note)
    ids = _ids(launch, main)
    own = replace(launch, model=ids[0] if ids else None, effort=launch.effort or (main and main.effort))
    known = _of(recorded, "main", ids[0]) if ids else None
    # Whoever names another model says where it is, too.
    first = await choose(own, main if launch.model and known not in recorded else known, None, players)
    chains: dict[Role, tuple[Choice, ...]] = {}
    notes = [first.note]
    if launch.model and (paid := pays_now(main, first.event)) not in first.note:
        notes.append(paid)
    chains["main"] = (first, *await _others(launch, "main", ids[1:], (recorded, first), players, notes))
    for role in ROLES[1:]:
        last = now_recorded.get(role)
        wanted = launch.roles.get(role) or (last.chain or (last.model,) if last is not None else ())
        chains[role] = await _others(launch, role, wanted, (recorded, first), players, notes)
    now: dict[Role, Choice] = {}
    for role in ROLES:
        if chain := _named(role, chains.pop(role)):
            chains[role], now[role] = chain, _answering(now_recorded.get(role), chain)
    return Cast(chains, now, "\n".join(dict.fromkeys(filter(None, notes))))


def _ids(launch: Launch, recorded: ModelChosen | None) -> tuple[str, ...]:
    """The main chain by name; empty: nobody said anything."""
    kept = (recorded.chain or (recorded.model,)) if recorded is not None else ()
    first = (launch.model,) if launch.model else kept[:1]
    rest = kept[1:] if launch.fallback is None and not launch.model else launch.fallback or ()
    return tuple(dict.fromkeys((*first, *rest)))


def _of(recorded: Sequence[ModelChosen], role: Role, model: str) -> ModelChosen | None:
    """What is recorded of a role's model, or of its own provider's others what holds for it, too: the address and who
    pays there. A chain's later members are recorded when they answer, and some never do.
    """
    if own := next((each for each in recorded if (each.role, each.model) == (role, model)), None):
        return own
    beside = _beside(recorded, role, model)
    return None if beside is None else replace(beside, model=model, window=None, max_output=None, prices=None)


def _beside(recorded: Sequence[ModelChosen], role: Role, model: str) -> ModelChosen | None:
    """The newest other model of the same provider, one of the same role before all others."""
    provider = model.partition("/")[0]
    found = [each for each in recorded if each.model.partition("/")[0] == provider]
    return max(enumerate(found), key=lambda at: (at[1].role == role, at[0]))[1] if found else None


async def _others(
    launch: Launch,
    role: Role,
    ids: Sequence[str],
    known: tuple[Sequence[ModelChosen], Choice],
    players: Players,
    notes: list[str],
) -> tuple[Choice, ...]:
    """The models of these names. One that cannot be had ends a new session before it begins; one that goes on does
    without it, and says so in `notes`.
    """
    recorded, _ = known
    last = next((each for each in reversed(recorded) if each.role == role), None)
    launch = replace(launch, effort=launch.efforts.get(role) or launch.effort or (last and last.effort))
    made: list[Choice] = []
    tasks = (_other(launch, role, model, known, players) for model in ids)
    for model, found in zip(ids, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
        match found:
            case BadSettings() if last is not None:
                notes.append(f"{model} is left out of the models of {role}: {found.what} {found.remedy}")
            case BadSettings():
                raise BadSettings(f"{model} ({role}): {found.what}", found.remedy) from found
            case BaseException():
                raise found
            case Choice():
                made.append(found)
                notes.append(found.note)
    return tuple(made)


async def _other(
    launch: Launch, role: Role, model: str, known: tuple[Sequence[ModelChosen], Choice], players: Players
) -> Choice:
    """One more model. The address that was said for the first holds where it is of the same provider; so does the
    price, where no other is known.
    """
    recorded, first = known
    own = _of(recorded, role, model)
    if model in players or first.endpoint is None:
        return await chosen(replace(launch, base_url=None, price=None), model, own, players)
    is_same = _is_of(model, first, launch)
    plain = replace(launch, base_url=launch.base_url if is_same else None, price=None)
    price = (launch.price if is_same else None) or _said_price(recorded, role, model)
    try:
        found = await chosen(plain, model, own, players)
        # Of this machine no list knows a price: who says one means the server.
        if not (price and found.endpoint is not None and found.endpoint.loopback):
            return found
    except BadSettings:
        if not price:
            raise
    return await chosen(replace(plain, price=price), model, own, players)


def _said_price(recorded: Sequence[ModelChosen], role: Role, model: str) -> str | None:
    """The price that a person said for the others of this model's provider, where nothing is recorded of itself."""
    own, beside = _of(recorded, role, model), _beside(recorded, role, model)
    prices = beside.prices if beside is not None and own not in recorded else None
    if prices is None or prices.source != SAID:
        return None
    return "/".join(str(Decimal(each) / 1_000_000) for each in (prices.input, prices.output))


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
