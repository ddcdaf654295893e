"""What a guard may say. Knows no guard."""

from msgspec import Struct


class Nudge(Struct, frozen=True):
    """A sentence to the model, recorded, once per occasion."""

    text: str


class EndTurn(Struct, frozen=True):
    """The turn ends with `limit`; one sentence and a remedy for the person."""

    what: str
    remedy: str


class Pause(Struct, frozen=True):
    """A person should look before the turn goes on: it waits for one, or ends with `limit` where nobody is there."""

    what: str
    remedy: str


Verdict = Nudge | EndTurn | Pause
