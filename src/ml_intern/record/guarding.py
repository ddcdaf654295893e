"""Events of the guards: how patient they are, and a turn that waits until a person has looked. Knows no guard."""

from msgspec import Struct


class GuardsSet(Struct, frozen=True, tag_field="type", tag="guards_set"):
    """How patient the guards are from here on: so many equal calls or rounds of calls, so many steps in which nothing
    changes (None: not looked at), and whether open items of the plan are named at a turn's end.
    """

    repeats: int | None = 3
    stall: int | None = 30
    plan: bool = True


class Paused(Struct, frozen=True, tag_field="type", tag="paused"):
    """A guard stops the turn until a person has looked: `what` it noticed, in one sentence, and what to do."""

    guard: str
    what: str
    remedy: str


class Lifted(Struct, frozen=True, tag_field="type", tag="lifted"):
    """A person lets the paused turn go on."""

    command: str
