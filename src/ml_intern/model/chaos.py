"""A model that goes wrong on purpose: any other model, which fails as a plan says, in the ways in which providers fail.

    Chaos(model, planned({0: [Strike("rate limit")], 2: [Strike("cut", "call"), Strike("cut", "text")]}))
    Chaos(model, at_random(0.1, seed=7))

Knows no wire: it raises what a wire would have made of the fault. What it strikes at the start never reaches the model.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.base.errors import (
    BadRequest,
    ModelError,
    NotFound,
    OutOfCredit,
    Overflow,
    RateLimited,
    Refused,
    Unauthorised,
    Unreachable,
)
from ml_intern.model.port import CallDelta, Delta, Finished, Model, Request, TextDelta
from ml_intern.record.messages import Call, Reply

Fault = Literal[
    "rate limit", "server error", "overloaded", "cut", "malformed", "silence", "truncated call", "empty",
    "overflow", "bad request", "stale signature", "wrong key", "out of credit", "refused", "no such model",
]  # fmt: skip
"""What may go wrong; the first line passes by itself or is the model's to mend, the second one lasts."""

Moment = Literal["start", "text", "call"]
"""When: before a byte, once text has come, once a call's arguments have begun; at the end of a reply without any."""

_AGAIN = "Try again in a moment, or choose another model with --model."
_ERRORS: Mapping[Fault, tuple[type[ModelError], str, str]] = {
    "rate limit": (RateLimited, "The server wants fewer requests (HTTP 429).", _AGAIN),
    "server error": (Unreachable, "The server failed (HTTP 500).", _AGAIN),
    "overloaded": (Unreachable, "The server failed (HTTP 529): Overloaded.", _AGAIN),
    "cut": (Unreachable, "The server broke off its reply: the connection was closed before its end.", _AGAIN),
    "malformed": (Unreachable, "The server broke off its reply: an event is no JSON.", _AGAIN),
    "silence": (Unreachable, "The server broke off its reply: it was silent for too long.", _AGAIN),
    "overflow": (
        Overflow,
        "The server has no room for a request of this length (HTTP 400).",
        "Start a new session, or choose a model with a larger window with --model.",
    ),
    "bad request": (
        BadRequest,
        "The server rejects the form of the request (HTTP 400).",
        "Choose another model with --model, or update the server: it must take chats with tools.",
    ),
    "stale signature": (
        BadRequest,
        "The server rejects the form of the request (HTTP 400): Invalid `signature` in `thinking` block.",
        "Choose another model with --model.",
    ),
    "wrong key": (Unauthorised, "The server refuses the key (HTTP 401).", "Check the key."),
    "out of credit": (OutOfCredit, "The server wants money (HTTP 402).", "Add credit, or choose another model."),
    "refused": (Refused, "The server refuses the request by its policy.", "Say it in other words."),
    "no such model": (NotFound, "The server does not serve this model (HTTP 404).", "Check the name."),
}
_BROKEN_OFF: frozenset[Fault] = frozenset({"cut", "malformed", "silence"})
"""The request was taken: it may be billed whenever they strike."""


class Strike(Struct, frozen=True):
    """One fault. `after_s` is how long the server is silent first; `retry_after_s` is the wait that it asks for."""

    fault: Fault
    moment: Moment = "start"
    retry_after_s: float | None = None
    after_s: float = 0.0


class Ask(Struct, frozen=True):
    """What a plan is told: which step of the conversation is asked for (the model's replies so far), and how often it
    was asked for before.
    """

    step: int
    again: int


Plan = Callable[[Ask], Strike | None]
"""What goes wrong with an attempt; None: nothing."""


def planned(strikes: Mapping[int, Sequence[Strike]]) -> Plan:
    """At each of these steps one strike after the other, then the reply."""

    def plan(ask: Ask) -> Strike | None:
        faults = strikes.get(ask.step, ())
        return faults[ask.again] if ask.again < len(faults) else None

    return plan


PASSING: tuple[Strike, ...] = (
    Strike("rate limit", retry_after_s=0.0),
    Strike("server error"),
    Strike("overloaded", "text"),
    Strike("cut"),
    Strike("cut", "text"),
    Strike("cut", "call"),
    Strike("malformed", "text"),
    Strike("silence", "call"),
)


def at_random(share: float, seed: int, strikes: Sequence[Strike] = PASSING) -> Plan:
    """A share (0 to 1) of all attempts fails, each in one of these ways; the same ones for the same seed, whoever asks
    for them and in whichever order.
    """

    def plan(ask: Ask) -> Strike | None:
        dice = random.Random(f"{seed} {ask.step} {ask.again}")  # noqa: S311 - chosen to come again, not to be secret
        return dice.choice(strikes) if dice.random() < share else None

    return plan


class Chaos:
    """`model`, but for what the plan strikes. Implements `port.Model`."""

    def __init__(self, model: Model, plan: Plan) -> None:
        self._model = model
        self._plan = plan
        self._asked: dict[int, int] = {}

    async def ask(self, request: Request) -> AsyncGenerator[Delta | Finished]:
        """Stream one attempt (see `port.Model.ask`).

        Raises:
            ModelError: the plan's, or the model's own.
        """
        step = sum(isinstance(message, Reply) for message in request.messages)
        again = self._asked.get(step, 0)
        self._asked[step] = again + 1
        strike = self._plan(Ask(step, again))
        if strike is not None and strike.fault in _ERRORS and strike.moment == "start":
            await asyncio.sleep(strike.after_s)
            raise _error(strike)
        async with aclosing(self._model.ask(request)) as stream:
            async for item in stream:
                for each in [item] if strike is None else _struck(strike, item):
                    yield each
                if strike is not None and _falls(strike, item):
                    await asyncio.sleep(strike.after_s)
                    raise _error(strike)

    async def aclose(self) -> None:
        """Close the model's connections."""
        await self._model.aclose()


def _falls(strike: Strike, item: Delta | Finished) -> bool:
    """Whether the strike falls after this item."""
    if strike.fault not in _ERRORS:
        return False
    return isinstance(item, (Finished, TextDelta if strike.moment == "text" else CallDelta))


def _struck(strike: Strike, item: Delta | Finished) -> list[Delta | Finished]:
    """What is left of an item."""
    if not isinstance(item, Finished):
        return [] if strike.fault == "empty" else [item]
    match strike.fault:
        case "empty":
            return [replace(item, reply=Reply(()), finish="stop")]
        case "truncated call":
            return [_truncated(item)]
        case _:
            return []


def _truncated(finished: Finished) -> Finished:
    """The last call ends in mid-argument, as at the limit of a reply; a reply without calls stays whole."""
    *before, last = finished.reply.parts or (None,)
    if not isinstance(last, Call):
        return finished
    half = replace(last, arguments=last.arguments[: len(last.arguments) // 2])
    return replace(finished, reply=Reply((*(each for each in before if each), half)), finish="length")


def _error(strike: Strike) -> ModelError:
    kind, what, remedy = _ERRORS[strike.fault]
    was_taken = strike.fault in _BROKEN_OFF or strike.moment != "start"
    return kind(what, remedy, retry_after_s=strike.retry_after_s, may_be_billed=was_taken)
