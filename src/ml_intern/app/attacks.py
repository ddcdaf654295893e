"""The attempts to break out, at every level that this machine has. Knows no terminal."""

import asyncio
from collections.abc import AsyncGenerator

from msgspec import Struct

from ml_intern.sandbox import levels
from ml_intern.sandbox.attacks import Row, attack
from ml_intern.sandbox.levels import Level as Walls


class Level(Struct, frozen=True):
    """A level that cannot be tried here, and why."""

    name: str
    why: str


async def attack_all() -> AsyncGenerator[Row | Level]:
    """Each attempt's row at full and at walls, and each level that is missing."""
    for level, look in ((Walls.FULL, levels.probe), (Walls.WALLS, levels.probe_walls)):
        found = await asyncio.to_thread(look)
        if found.level < level:
            yield Level(level.name.lower(), " ".join((*found.reasons, *found.remedies)))
            continue
        async for row in attack(level, found.bwrap):
            yield row
