"""Runs the real command line in this process and ends it by SIGKILL at the one moment that FAULTS_DEATH names.

This is no mock: every line of the product runs as it is. What is wrapped here gets the same arguments and returns the
same result; the only thing added is the moment of death, which no signal from outside could meet so exactly.
"""

import functools
import importlib
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

from ml_intern.cli.main import main
from ml_intern.store.sqlite import SqliteJournal

VARIABLE = "FAULTS_DEATH"
OWNERS_THAT_DIE = 3
"""A chain dies after this many resumes at once, too; dying at every one it would never get on."""


def die() -> NoReturn:
    """SIGKILL to the whole process group: what the command line started itself goes with it, the supervisor stays."""
    os.killpg(os.getpgrp(), signal.SIGKILL)
    signal.pause()
    raise SystemExit


def die_in(seconds: float) -> None:
    if not seconds:
        die()
    timer = threading.Timer(seconds, die)
    timer.daemon = True
    timer.start()


class Places:
    """Names what an entry is about, the same in every run: `tool_started:call_3_0`, `model_asked:3`."""

    def __init__(self) -> None:
        self._calls: dict[str, str] = {}
        self._steps = 0
        self._owners = 0

    def of(self, line: bytes) -> str:
        event = json.loads(line)["event"]
        kind = event["type"]
        if kind.startswith("tool_"):
            return f"{kind}:{self._calls[event['call']]}"
        if kind.startswith("model_") and kind != "model_chosen":
            return f"{kind}:{self._steps}:{event.get('kind', '')}"
        if kind == "owner_took":
            return f"{kind}:{self._owners + 1}"
        return kind

    def note(self, line: bytes) -> None:
        event = json.loads(line)["event"]
        if event["type"] == "model_replied":
            self._steps += 1
            self._calls |= {part["id"]: part["wire_id"] for part in event["reply"]["parts"] if part["kind"] == "call"}
        self._owners += event["type"] == "owner_took"


class Death:
    """Counts the moments that fit and dies at the one that is meant.

    `armed_by` is a place: nothing counts before its entry is stored. `holds` must stand in what the moment is about.
    """

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.phase: str = wanted.get("phase", "after")
        self._armed = "armed_by" not in wanted
        self._left: int = wanted.get("nth", 1)

    def stored(self, place: str) -> None:
        self._armed = self._armed or place.startswith(self.wanted["armed_by"])

    def meet(self, about: str) -> bool:
        if not self._armed or self.wanted.get("holds", "") not in about:
            return False
        self._left -= 1
        return self._left == 0

    def strike(self) -> None:
        die_in(self.wanted.get("delay_s", 0))


class Chain:
    """Dies at every place once: the file that is shared by the links says where others died before."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.phase: str = wanted["phase"]
        self._file = Path(wanted["file"])

    def stored(self, place: str) -> None:
        """Nothing arms a chain."""

    def meet(self, place: str) -> bool:
        kind, _, number = place.partition(":")
        if kind == "owner_took" and int(number) > OWNERS_THAT_DIE:
            return False
        known = self._file.read_text().splitlines() if self._file.exists() else []
        if place in known:
            return False
        with self._file.open("a") as file:
            file.write(f"{place}\n")
        return True

    def strike(self) -> None:
        die()


class Appends:
    """Stands in the journal's way: before an append, in its transaction (`staged`), between commit and return
    (`committed`), after it.
    """

    def __init__(self, death: Death | Chain, *, counts: bool) -> None:
        """`counts`: the death is meant for an append, which otherwise only arms it."""
        self._death = death
        self._counts = counts
        self._places: Places | None = None
        self._now = ""

    def watch(self) -> None:
        append, write, set_result = SqliteJournal.append, SqliteJournal._append, Future.set_result

        async def watched(journal: SqliteJournal, seq: int, line: bytes, *, flush: bool) -> None:
            self._places = self._places or await _places_of(journal)
            place = self._places.of(line)
            meant = self._counts and self._death.meet(place)
            self._at("before", meant=meant)
            self._now = self._death.phase if meant else ""
            await append(journal, seq, line, flush=flush)
            self._now = ""
            self._places.note(line)
            self._at("after", meant=meant)
            self._death.stored(place)

        def staged(journal: SqliteJournal, *given: Any, **named: Any) -> None:
            write(journal, *given, **named)
            self._at("staged", meant=self._now == "staged")

        def committed(future: Future[Any], result: Any) -> None:
            if threading.current_thread().name == "store-writer":
                self._at("committed", meant=self._now == "committed")
            set_result(future, result)

        _stand_in(SqliteJournal, "append", watched)
        _stand_in(SqliteJournal, "_append", staged)
        _stand_in(Future, "set_result", committed)

    def _at(self, phase: str, *, meant: bool) -> None:
        if meant and self._death.phase == phase:
            self._death.strike()


def _stand_in(holder: object, name: str, watched: Callable[..., Any]) -> None:
    setattr(holder, name, watched)


async def _places_of(journal: SqliteJournal) -> Places:
    """The places as the record so far left them."""
    places = Places()
    for line in await journal.lines():
        places.note(line)
    return places


def at_function(death: Death, target: str) -> None:
    """Before or after a function of the product, `module:Class.name` or `module:name`."""
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    holder = functools.reduce(getattr, outer, importlib.import_module(module))
    function = getattr(holder, name)

    def met(given: object) -> bool:
        hit = death.meet(repr(given))
        if hit and death.phase == "before":
            death.strike()
        return hit

    @functools.wraps(function)
    def plain(*given: Any, **named: Any) -> Any:
        hit = met(given)
        result = function(*given, **named)
        if hit:
            death.strike()
        return result

    @functools.wraps(function)
    async def awaited(*given: Any, **named: Any) -> Any:
        hit = met(given)
        result = await function(*given, **named)
        if hit:
            death.strike()
        return result

    _stand_in(holder, name, awaited if inspect.iscoroutinefunction(function) else plain)


def at_audit(death: Death, event: str) -> None:
    """Just before the interpreter does what it reports as `event` (https://docs.python.org/3/library/audit_events.html)."""

    def hook(name: str, given: tuple[object, ...]) -> None:
        if name == event and death.meet(repr(given)):
            death.strike()

    sys.addaudithook(hook)


def plan(wanted: dict[str, Any]) -> None:
    """Let the death happen that `wanted` describes."""
    match wanted["at"]:
        case "chain":
            Appends(Chain(wanted), counts=True).watch()
        case "append":
            Appends(Death(wanted), counts=True).watch()
        case "function":
            death = Death(wanted)
            Appends(death, counts=False).watch()
            at_function(death, wanted["target"])
        case "audit":
            death = Death(wanted)
            Appends(death, counts=False).watch()
            at_audit(death, wanted["event"])
        case other:
            raise ValueError(other)


if __name__ == "__main__":
    plan(json.loads(os.environ.pop(VARIABLE)))
    sys.argv[0] = "ml-intern"
    main()
