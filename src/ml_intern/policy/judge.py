"""Judges what a call would do: allow, ask or deny; the strictest effect wins. Pure; knows no tool and no door."""

from typing import assert_never

from msgspec import Struct

from ml_intern.base.money import Micro, show
from ml_intern.record.effects import (
    Destroys,
    Effect,
    Executes,
    Notifies,
    Publishes,
    Reaches,
    Reads,
    Spends,
    Writes,
)
from ml_intern.record.events import Mode


class Allow(Struct, frozen=True):
    """The call may start."""


class Ask(Struct, frozen=True):
    """A person decides. `floor`: only a person, each time, in every mode; no rule can allow it."""

    reason: str
    floor: bool = False


class Deny(Struct, frozen=True):
    """The call does not start; `reason` says why, `remedy` what would allow it."""

    reason: str
    remedy: str


Verdict = Allow | Ask | Deny


def judge(effects: tuple[Effect, ...], mode: Mode) -> Verdict:
    """The verdict on a call with these effects: the floor first, then the first thing that must be asked."""
    asks = [verdict for effect in effects if isinstance(verdict := _judge_one(effect, mode), Ask)]
    on_floor = [ask for ask in asks if ask.floor]
    return (on_floor or asks or [Allow()])[0]


def _judge_one(effect: Effect, mode: Mode) -> Verdict:
    match effect:
        case Reads(target=target, within=within):
            return Allow() if within else Ask(f"reads {target}, outside the workspace")
        case Writes(target=target, within=within):
            return Allow() if within else Ask(f"writes {target}, outside the workspace")
        case Executes(walled=walled):
            return Allow() if walled else Ask("runs a command outside the sandbox", floor=True)
        case Reaches(host=host, known=known):
            return Allow() if known else Ask(f"connects to {host}, which is not on the allow-list")
        case Notifies(recipient=recipient):
            return Ask(f"sends a message to {recipient}")
        case Spends():
            return _judge_spending(effect, mode)
        case Publishes(target=target, public=public):
            return Ask(f"makes {target} public", floor=True) if public else Ask(f"publishes to {target}")
        case Destroys(target=target, remote=remote):
            return Ask(f"deletes {target} for good", floor=remote)
        case _ as never:
            assert_never(never)


def _judge_spending(effect: Spends, mode: Mode) -> Verdict:
    """In `auto` spending on the session's own payer is free up to the cap,
    which the purse holds when the call starts.
    """
    if not effect.own:
        return Ask(f"spends up to {show(Micro(effect.amount))} of {effect.payer}, another payer", floor=True)
    if mode == "auto":
        return Allow()
    return Ask(f"spends up to {show(Micro(effect.amount))} of {effect.payer} on {effect.what}")
