"""What a guard may say. Knows no guard."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Nudge:
    """A sentence to the model, recorded, once per occasion."""

    text: str


@dataclass(frozen=True, slots=True)
class EndTurn:
    """The turn ends with `limit`; one sentence and a remedy for the person."""

    what: str
    remedy: str
