"""Which model of a role's chain answers: the next one where one fails for good, the first one where a turn begins.

Pure: looks at the view, asks nobody. Knows no provider and no price (docs/decisions/0012).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.model.port import Model
from ml_intern.policy.purse import LEAST_OUTPUT
from ml_intern.record.asides import ASIDES, COMPACTION, TITLE
from ml_intern.record.events import ModelChosen, Role
from ml_intern.record.folds.turn import Turn
from ml_intern.record.view import MAIN, View


class Link(Struct, frozen=True):
    """One model of a chain: what is recorded when it answers, and its access."""

    chosen: ModelChosen
    model: Model


Chains = Mapping[Role, Sequence[Link]]
"""The models of each role in their order; a role that is not there follows `main`."""

_WHAT: Mapping[Role, str] = {COMPACTION: "summary", TITLE: "title"}

Size = Callable[[], int]
"""About how many tokens the next request of the lane holds."""


def followed(view: View, role: Role) -> Role:
    """The role whose models answer `role`."""
    return role if role in view.settings.models else "main"


def goes_on(view: View, lane: str, chains: Chains) -> bool:
    """Whether somebody else could be asked if the attempt that runs in the lane failed for good."""
    asked = view.lane(lane).turn.attempt
    if asked is None:
        return False
    chain = chains.get(followed(view, asked.role), ())
    tried = view.lane(lane).turn.tried
    return any(_is_free(link, view, tried) for link in _after(chain, asked.model))


def next_link(view: View, lane: str, chains: Chains, size: Size) -> ModelChosen | None:
    """Who answers after the lane's last attempt failed for good; None: nobody is left, or it is no matter of who.

    In the order of the chain, then from its beginning; who failed since the last reply, and who is down, is passed
    over. Where nobody is left, whoever gave the turn's last reply is asked once more, then who is down: credit may
    have been added meanwhile.
    """
    turn = view.lane(lane).turn
    failed, asked = turn.failed, turn.failed_at
    if failed is None or asked is None:
        return None
    chain = chains.get(followed(view, asked.role), ())
    if len(chain) < 2:
        return None
    left, small = f"{asked.model} failed: {failed.what}", list[str]()
    now = view.settings.model_of(asked.role).model
    for link in _moved(chain, asked.model, now):
        if not _is_free(link, view, turn.tried):
            continue
        if (tokens := _lacks(link, size)) is not None:
            small.append(_too_small(link.chosen, tokens))
            continue
        return replace(link.chosen, why=" ".join((left, *small)))
    left = " ".join((left, *small))
    return _once_more(turn, chain, asked.model, left) or _in_spite(view, turn, _after(chain, asked.model), size, left)


def next_aside(view: View, lane: str, chains: Chains, role: Role) -> ModelChosen | None:
    """Who is asked for a summary's prose, or for a title, after another one failed; None: nobody is left, or the role
    has no models of its own. The main ones are not moved for something aside, and what it is told is cut to any window.
    """
    missed = view.lane(lane).memory.missed
    if missed is None or role not in view.settings.models:
        return None
    now = view.settings.models[role].model
    free = (link for link in _moved(chains.get(role, ()), missed.model, now) if link.chosen.model not in view.down)
    why = f"{missed.model} failed: {missed.what}"
    return next((replace(link.chosen, why=why) for link in free), None)


def first_link(view: View, lane: str, chains: Chains, role: Role, size: Size) -> ModelChosen | None:
    """Who answers as a turn of the main lane, or something aside of it, begins, where that is another one than before;
    None: the same.
    """
    role = followed(view, role)
    if lane != MAIN or not _begins(view, role):
        return None
    now = view.settings.model_of(role).model
    for link in chains.get(role, ()):
        if link.chosen.model == now:
            return None
        if link.chosen.model not in view.down and _lacks(link, size) is None:
            return replace(link.chosen, why=f"A new {_WHAT.get(role, 'turn')} begins with the first model.")
    return None


def _begins(view: View, role: Role) -> bool:
    turn = view.lane(MAIN).turn
    if role in ASIDES:
        memory = view.lane(MAIN).memory
        return (memory.tried if role == COMPACTION else memory.titled) == 0
    return not (turn.steps or turn.failures or turn.tried) and turn.failed is None


def _moved(chain: Sequence[Link], failed: str, now: str) -> Iterator[Link]:
    """Whom another lane went on with meanwhile, then the others in their order."""
    if now != failed:
        yield from (link for link in chain if link.chosen.model == now)
    yield from _after(chain, failed)


def _after(chain: Sequence[Link], model: str) -> Iterator[Link]:
    """The others, from the one after `model` on and round."""
    at = next((at for at, link in enumerate(chain) if link.chosen.model == model), -1)
    yield from (*chain[at + 1 :], *chain[: max(at, 0)])


def _is_free(link: Link, view: View, tried: Mapping[str, tuple[str, ...]]) -> bool:
    return link.chosen.model not in tried and link.chosen.model not in view.down


def _lacks(link: Link, size: Size) -> int | None:
    """The tokens for which its window has no room; None: it has."""
    window = link.chosen.window
    if window is None:
        return None
    tokens = size()
    return tokens if tokens + LEAST_OUTPUT > window else None


def _too_small(chosen: ModelChosen, tokens: int) -> str:
    return f"{chosen.model} is passed over: about {tokens:,} tokens do not fit its window of {chosen.window:,}."


def _once_more(turn: Turn, chain: Sequence[Link], failed: str, left: str) -> ModelChosen | None:
    """The chain is at its end: who has answered in this turn may well do so again."""
    times = len(turn.tried.get(turn.answered_by, ())) + (failed == turn.answered_by)
    for link in chain:
        if link.chosen.model == turn.answered_by and times == 1:
            return replace(link.chosen, why=f"{left} Nobody else is left, so it is asked once more.")
    return None


def _in_spite(view: View, turn: Turn, others: Iterator[Link], size: Size, left: str) -> ModelChosen | None:
    """Who failed for good some time ago, and was not asked since the last reply."""
    for link in others:
        if link.chosen.model in view.down and link.chosen.model not in turn.tried and _lacks(link, size) is None:
            return replace(
                link.chosen, why=f"{left} Nobody else is left, so it is asked in spite of its failure before."
            )
    return None
