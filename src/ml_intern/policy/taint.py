"""Which places of a call nobody but an untrusted text has named: those ask. Pure; knows no tool.

What is read is never tainted; what a person named, allowed or agreed to never is again.
"""

from collections.abc import Iterable

from msgspec import Struct

from ml_intern.record.effects import Effect
from ml_intern.record.folds.origins import Origins
from ml_intern.record.outgoing import Destination, outgoing


class Taint(Struct, frozen=True):
    """`effect` goes to `place`, which entry `seq` of the record named first (0: one that is no longer known)."""

    effect: Effect
    place: str
    seq: int

    @property
    def words(self) -> str:
        """For a sentence that says what a call does."""
        where = f"entry {self.seq} of the record" if self.seq else "an earlier answer"
        return f"{self.place} was named by untrusted text ({where}) and by no person"


def taints(effects: Iterable[Effect], origins: Origins) -> tuple[Taint, ...]:
    """The effects that go where only untrusted text has pointed, each with the first such place."""
    if not origins.found:
        return ()  # Untrusted text has named nothing so far.
    found = (_taint(effect, origins) for effect in effects)
    return tuple(each for each in found if each is not None)


def _taint(effect: Effect, origins: Origins) -> Taint | None:
    for place in outgoing(effect, origins.remotes):
        seq = _first(place, origins)
        if seq is not None:
            return Taint(effect, place.shown, seq)
    return None


def _first(place: Destination, origins: Origins) -> int | None:
    # A link exactly as the text held it tells nobody anything: it is read.
    return None if place.page and origins.knows(place.page) else origins.first(place.key)
