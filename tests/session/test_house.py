import asyncio

import pytest

from ml_intern.base.clock import TestClock
from ml_intern.base.errors import BadSettings, SessionBusy, SessionNotFound, StaleOwner
from ml_intern.record.codec import decode
from ml_intern.record.events import UserSaid
from ml_intern.record.log import Log, replay
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import MAIN
from ml_intern.session.house import House
from ml_intern.store.folder import DATABASE, session_folder
from ml_intern.store.lock import take
from ml_intern.store.removal import remove
from ml_intern.store.sessions import summaries
from ml_intern.store.sqlite import SqliteStore
from tests.session.yard import TEXT, kept_output, record


@pytest.fixture
async def store(tmp_path):
    store = await SqliteStore.open(tmp_path / "data")
    yield store
    await store.close()


@pytest.fixture
def house(store):
    return House(store, Secrets({}), TestClock())


@pytest.fixture
async def session(store):
    return await record(store)


async def view_of(store, session):
    return replay([decode(line) for line in await store.lines(session)])


async def test_a_new_title_is_listed_and_stays(house, store, session):
    assert (await summaries(store))[0].title == f"train it: {TEXT}"
    assert await house.rename(session, "  Digits,\nfirst try ") == "Digits, first try"
    assert (await summaries(store))[0].title == "Digits, first try"


async def test_an_undo_is_recorded_and_costs_stay(house, store, session):
    before = await view_of(store, session)
    view = await house.undo(session, 1)
    kept = [line.message.text for line in view.lane(MAIN).transcript.lines]
    assert len(kept) == 3
    assert kept[0].startswith("train it")
    assert view.purse == before.purse
    with pytest.raises(BadSettings, match="only 1"):
        await house.undo(session, 2)


async def test_a_fork_lives_on_without_its_parent(house, store, session):
    parent = await store.lines(session)
    fork = await house.fork(session, None, 2_000_000)
    assert fork.upto == len(parent)
    view = await view_of(store, fork.session)
    assert (view.purse.cap, view.purse.spent) == (2_000_000, 0)
    assert await store.lines(session) == parent
    await house.delete(session)
    assert TEXT.encode() in (await kept_output(store, fork.session))[1]
    assert [each.spent for each in await summaries(store)] == [0]
    owner = await take(store, fork.session, "test")
    log = await Log.open(owner.journal, TestClock(), Secrets({}))
    await log.add(UserSaid("c9", "go on"))
    owner.release()


async def test_a_fork_ends_where_it_was_asked_to_or_at_the_last_rest_before(house, store, session):
    fork = await house.fork(session, 7, 1)
    assert fork.upto == 5
    for wrong in (0, -1, 14):
        with pytest.raises(BadSettings, match="has entries 1 to 13"):
            await house.fork(session, wrong, 1)
    assert len(await summaries(store)) == 2


async def test_two_forks_at_once_are_two_sessions(house, store, session):
    forks = await asyncio.gather(*(house.fork(session, None, 1) for _ in range(5)))
    assert len({fork.session for fork in forks}) == 5
    assert len(await summaries(store)) == 6


async def test_a_deleted_session_leaves_no_row_no_file_and_no_text(house, store, session):
    await house.delete(session)
    assert await summaries(store) == []
    assert list((store.data / "sessions").iterdir()) == []
    with pytest.raises(SessionNotFound):
        await take(store, session, "test")
    await store.close()
    left = b"".join(path.read_bytes() for path in store.data.rglob("*") if path.is_file())
    assert (store.data / DATABASE).exists()
    assert TEXT.encode() not in left


async def test_what_is_open_elsewhere_is_neither_renamed_undone_nor_deleted(house, store, session):
    owner = await take(store, session, "another door")
    before = await store.lines(session)
    for change in (house.rename(session, "x"), house.undo(session, 1), house.delete(session)):
        with pytest.raises(SessionBusy, match="another door") as caught:
            await change
        assert "Nothing was changed" in caught.value.remedy
    assert await store.lines(session) == before
    await house.fork(session, None, 1)
    owner.release()
    await house.delete(session)


async def test_who_lost_the_session_cannot_write_to_it_or_delete_it(house, store, session):
    slow = await take(store, session, "slow")
    fast = await take(store, session, "fast", force=True)
    fast.release()
    await house.rename(session, "taken")
    with pytest.raises(StaleOwner):
        await slow.journal.append(99, b"{}", flush=False)
    await house.delete(session)
    with pytest.raises(StaleOwner):
        await fast.journal.append(99, b"{}", flush=False)
    slow.release()


async def test_a_deletion_by_who_lost_the_session_removes_nothing(store, session):
    slow = await take(store, session, "slow")
    fast = await take(store, session, "fast", force=True)
    before = await store.lines(session)
    with pytest.raises(StaleOwner):
        await asyncio.to_thread(remove, store, session, slow)
    assert await store.lines(session) == before
    assert session_folder(store.data, session).is_dir()
    slow.release()
    fast.release()
