"""Keeping sessions in order without working in them: the store of this user and what is done to whole sessions."""

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from ml_intern.app.places import find_places
from ml_intern.base.clock import SystemClock
from ml_intern.model.keys import known_secrets
from ml_intern.record.secrets import Secrets
from ml_intern.session.house import House
from ml_intern.store.sqlite import SqliteStore
from ml_intern.store.sweep import Sweep


@asynccontextmanager
async def open_house(environ: Mapping[str, str] = os.environ) -> AsyncGenerator[House]:
    """The sessions of this user, for as long as the block lasts.

    Raises:
        StoreFailed: they cannot be read and written.
    """
    store = await SqliteStore.open(find_places(environ).data)
    try:
        yield House(store, Secrets(known_secrets(environ)), SystemClock())
    finally:
        await store.close()


def sweep_of(house: House, unused_days: float, environ: Mapping[str, str] = os.environ) -> Sweep:
    """A look at what of this user's sessions and environments may go."""
    clock = house.clock.now_ms() / 1000
    return Sweep(house.store, find_places(environ).environments, clock, unused_days)
