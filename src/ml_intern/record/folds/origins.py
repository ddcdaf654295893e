"""Where each place that something could be sent to was named first: by the person, the model, or untrusted text.

What was read is never undone. Bounded: beyond `MOST` places of one kind only a filter of fixed size is kept, which may
take a place for seen, never for unseen. Knows no rule.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.base.firsts import Firsts
from ml_intern.record.credentials import ELSEWHERE
from ml_intern.record.destinations import named
from ml_intern.record.effects import Effect, Executes
from ml_intern.record.events import (
    BriefSet,
    Entry,
    Event,
    Granted,
    ModelChosen,
    ModelReplied,
    RuleGiven,
    RulesSet,
    SessionStarted,
    ToolAnswered,
    ToolFinished,
    ToolHeld,
    ToolStarted,
    UserSaid,
)
from ml_intern.record.ground import GroundSet
from ml_intern.record.outgoing import outgoing
from ml_intern.record.remotes import Remote, remotes_of

MOST = 20_000
_BITS = 1 << 20
_HASHES = 5
_MOST_REMOTES = 64
_PERSONS_LANE = "main"


class Origins(Struct, frozen=True):
    """Keys of places and the entry that named each first. `said`: a person did, at any time; `made`: the model before
    any untrusted text; `found`: untrusted text before the model; `beyond`: a filter of what was found later than fits.

    `remotes` are the places that commands made known to git; `held`: what waits for a person's yes, by call. Up to
    entry `foreign` all of it comes from a file: whoever says something there is nobody we know.
    """

    said: Mapping[str, int] = field(default_factory=dict[str, int])
    made: Firsts = field(default_factory=Firsts)
    found: Firsts = field(default_factory=Firsts)
    beyond: bytes = b""
    remotes: tuple[Remote, ...] = ()
    held: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    foreign: int = 0

    def first(self, key: str) -> int | None:
        """The entry of the untrusted text that named this place before anybody else; 0: one that is no longer known.
        None where a person named it at any time, or the model did first.
        """
        if key in self.said or key in self.made:
            return None
        found = self.found.get(key)
        return 0 if found is None and self.beyond and _held_in(self.beyond, key) else found

    def knows(self, key: str) -> bool:
        """Whether untrusted text has named exactly this."""
        return key in self.found or (bool(self.beyond) and _held_in(self.beyond, key))


def fold_origins(origins: Origins, entry: Entry) -> Origins:
    """The origins after `entry`."""
    if entry.seq <= origins.foreign:
        return found(origins, "\n".join(map(_words, _texts(msgspec.to_builtins(entry.event)))), entry.seq)
    return _folded(origins, entry)


def _folded(origins: Origins, entry: Entry) -> Origins:
    seq, event = entry.seq, entry.event
    match event:
        case ModelReplied(reply=reply):
            return _made(origins, "\n".join([reply.text, *(_words(call.arguments) for call in reply.calls)]), seq)
        case ToolFinished(frame=frame, outcome=outcome, text=text):
            return found(origins, text, seq) if frame or outcome in {"failed", "lost"} else origins
        case ToolStarted(effects=effects):
            return _started(origins, effects)
        case ToolHeld() | ToolAnswered():
            return _called(origins, event, seq)
        case UserSaid(text=text):
            return said(origins, named(text), seq) if entry.lane == _PERSONS_LANE else _made(origins, text, seq)
        case GroundSet(joined=joined):
            return found(origins, "\n".join(each.text for each in joined), seq) if joined else origins
        case SessionStarted(foreign_upto=upto):
            return replace(origins, foreign=upto)
        case _:
            return _chosen(origins, event, seq)


def _chosen(origins: Origins, event: Event, seq: int) -> Origins:
    """What a person set up names places, too."""
    match event:
        case BriefSet(append=text):
            return said(origins, named(text), seq)
        case ModelChosen(base_url=url, bill_to=payer):
            return said(origins, named(f"{url} {payer}/x"), seq)
        case RulesSet(rules=rules) | Granted(rules=rules):
            return said(origins, named(_allowed(rules)), seq) if rules else origins
        case _:
            return origins


def said(origins: Origins, keys: Iterable[str], seq: int) -> Origins:
    """A person named these. What fits no longer is asked for again."""
    fresh = dict.fromkeys(sorted({*keys} - {ELSEWHERE} - origins.said.keys()), seq)
    if not fresh:
        return origins
    known = {**origins.said, **fresh}
    return replace(origins, said=dict(list(known.items())[-MOST:]))


def found(origins: Origins, text: str, seq: int) -> Origins:
    """Untrusted text named what is in `text`."""
    fresh = sorted(each for each in named(text) if each not in origins.made and each not in origins.found)
    if not fresh:
        return origins
    room = max(0, MOST - len(origins.found))
    kept = origins.found.plus(fresh[:room], seq)
    return replace(origins, found=kept, beyond=_with(origins.beyond, fresh[room:]))


def _made(origins: Origins, text: str, seq: int) -> Origins:
    keys = named(text) - {ELSEWHERE}
    fresh = sorted(each for each in keys if each not in origins.made and not origins.knows(each))
    fresh = fresh[: max(0, MOST - len(origins.made))]
    return replace(origins, made=origins.made.plus(fresh, seq)) if fresh else origins


def _started(origins: Origins, effects: Iterable[Effect]) -> Origins:
    """What a command made known to git."""
    commands = [effect for effect in effects if isinstance(effect, Executes)]
    known = [each for effect in commands for each in remotes_of(effect.command, effect.folder)]
    fresh = [each for each in known if each not in origins.remotes]
    return replace(origins, remotes=(*origins.remotes, *fresh)[-_MOST_REMOTES:]) if fresh else origins


def _called(origins: Origins, event: ToolHeld | ToolAnswered, seq: int) -> Origins:
    """A person who agrees to a call has seen where it goes."""
    match event:
        case ToolHeld(call=call, effects=effects):
            keys = tuple(each.key for effect in effects for each in outgoing(effect, origins.remotes))
            return replace(origins, held={**origins.held, call: keys}) if keys else origins
        case ToolAnswered(call=call, approve=approve, text=text):
            seen = origins.held.get(call, ()) if approve else ()
            left = {other: keys for other, keys in origins.held.items() if other != call}
            return replace(said(origins, {*named(text), *seen}, seq), held=left)


def _allowed(rules: Iterable[RuleGiven]) -> str:
    """What rules allow, so that `hub:me/*` names its owner, too."""
    return "\n".join(rule.text.replace("/*", "/-all-") for rule in rules if rule.decision == "allow").replace(
        "-all-", "x"
    )


def _words(arguments: str) -> str:
    """The texts among a call's arguments; all of it where that is no JSON."""
    try:
        return "\n".join(_texts(msgspec.json.decode(arguments)))
    except (msgspec.DecodeError, RecursionError):
        return arguments


def _texts(value: object) -> Iterable[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in cast("dict[str, object]", value).values():
                yield from _texts(inner)
        case list():
            for inner in cast("list[object]", value):
                yield from _texts(inner)
        case _:
            pass


def _places(key: str) -> list[int]:
    digest = hashlib.sha256(key.encode(errors="replace")).digest()
    return [int.from_bytes(digest[4 * at : 4 * at + 4]) % _BITS for at in range(_HASHES)]


def _with(beyond: bytes, keys: list[str]) -> bytes:
    if not keys:
        return beyond
    bits = bytearray(beyond or bytes(_BITS // 8))
    for place in (place for key in keys for place in _places(key)):
        bits[place // 8] |= 1 << (place % 8)
    return bytes(bits)


def _held_in(beyond: bytes, key: str) -> bool:
    return all(beyond[place // 8] & (1 << (place % 8)) for place in _places(key))
