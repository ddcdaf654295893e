"""Prints what the doctor found, or how the attempts to break out went. Knows no sandbox."""

import asyncio
import json

from msgspec.structs import asdict

from ml_intern.app import doctor
from ml_intern.app.attacks import Level, attack_all
from ml_intern.base.errors import MlInternError
from ml_intern.base.text import one_line, visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain

_SHOWN_CHARS = 100


def examine(as_json: bool) -> Exit:
    """A line for each thing looked at; 1 if one of them fails."""
    lines = asyncio.run(doctor.examine())
    width = max(len(line.topic) for line in lines)
    for line in lines:
        if as_json:
            print(json.dumps(asdict(line)))
            continue
        print(f"{line.state:<4}  {line.topic:<{width}}  {visible_line(line.said)}")
        if line.remedy:
            print(f"{'':<4}  {'':<{width}}  -> {visible_line(line.remedy)}")
    return Exit.FAILED if any(line.state == "fail" for line in lines) else Exit.DONE


def attack(as_json: bool) -> Exit:
    """A line for each attempt at each level of this machine; 1 if one got through, or there are no walls to try."""
    try:
        return asyncio.run(_attack(as_json))
    except MlInternError as error:
        complain(error)
        return Exit.FAILED


async def _attack(as_json: bool) -> Exit:
    tried: dict[str, int] = {}
    out: dict[str, int] = {}
    async for found in attack_all():
        if isinstance(found, Level):
            reason = f"level {found.name}: not on this machine. {found.why}"
            print(json.dumps({"level": found.name, "skipped": found.why}) if as_json else reason)
            continue
        tried[found.level] = tried.get(found.level, 0) + 1
        out[found.level] = out.get(found.level, 0) + (not found.held)
        told = one_line(visible_line(found.told), _SHOWN_CHARS)
        mark = "held" if found.held else "OUT "
        print(json.dumps(asdict(found)) if as_json else f"{mark}  {found.level:<5}  {found.name}: {told}", flush=True)
    for level in () if as_json else tried:
        print(f"level {level}: {tried[level]} attempts, {out[level]} got through")
    return Exit.FAILED if sum(out.values()) or not tried else Exit.DONE
