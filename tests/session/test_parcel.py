import base64
import io
import json
from typing import Any

import pytest

from ml_intern.base.clock import TestClock
from ml_intern.base.errors import BadSettings, MlInternError
from ml_intern.record.codec import decode
from ml_intern.record.events import RulesSet
from ml_intern.record.log import replay
from ml_intern.record.secrets import Secrets
from ml_intern.record.view import MAIN
from ml_intern.session.house import House
from ml_intern.store.sessions import summaries
from ml_intern.store.sqlite import SqliteStore
from tests.session.yard import FIRST, TEXT, kept_output, record

TOKEN = "hf_" + "aB3" * 12
KNOWN = "a known value that has no shape"


@pytest.fixture
async def store(tmp_path):
    store = await SqliteStore.open(tmp_path / "data")
    yield store
    await store.close()


@pytest.fixture
def house(store):
    return House(store, Secrets({"MY_KEY": KNOWN}), TestClock())


async def exported(house, session=FIRST):
    sink = io.BytesIO()
    await house.export(session, sink)
    return sink.getvalue()


async def imported(house, data, folder="/here"):
    return await house.bring_in(io.BytesIO(data), folder)


async def view_of(store, session):
    return replay([decode(line) for line in await store.lines(session)])


def started_of(view):
    assert view.started is not None
    return view.started


def messages(view) -> list[Any]:
    return [line.message for line in view.lane(MAIN).transcript.lines]


async def test_what_is_exported_comes_back_as_a_new_session_with_its_outputs(house, store):
    await record(store)
    before = await view_of(store, FIRST)
    made = await imported(house, await exported(house))
    view = await view_of(store, made.session)
    assert messages(view) == messages(before)
    started = started_of(view)
    assert (started.forked_from, started.workspace, made.original) == (FIRST, "/here", FIRST)
    assert TEXT.encode() in (await kept_output(store, made.session))[1]
    assert {each.id for each in await summaries(store)} == {FIRST, made.session}


async def test_no_permission_money_or_address_comes_in_with_a_file(house, store):
    await record(store)
    view = await view_of(store, (await imported(house, await exported(house))).session)
    assert (view.settings.mode, view.purse.cap, view.purse.spent) == (None, None, 0)
    assert view.settings.rules == RulesSet(())
    assert view.settings.models["main"].base_url == ""
    assert view.settings.models["main"].prices is None


async def test_no_secret_leaves_in_an_entry_or_in_a_kept_output(house, store):
    output = f"one {TOKEN} two {KNOWN} {TEXT}".encode()
    await record(store, output=output, said=f"use {TOKEN} and {KNOWN} and\n-----BEGIN PRIVATE KEY-----\nMII=\n")
    data = await exported(house)
    plain = data + b"".join(base64.b64decode(json.loads(line).get("data", "")) for line in data.splitlines())
    for secret in (TOKEN, KNOWN, "MII="):
        assert secret.encode() not in plain
    assert TEXT.encode() in plain
    made = await imported(house, data)
    answer, kept = await kept_output(store, made.session)
    assert kept == f"one [secret] two [secret:MY_KEY] {TEXT}".encode()
    assert f"blob:{answer.blob}" in answer.text
    assert any(b"MII=" in line for line in await store.lines(FIRST)), "the record itself stays"


async def test_an_export_is_the_same_every_time_and_of_an_import_too(house, store):
    await record(store)
    assert await exported(house) == await exported(house)
    first = await imported(house, await exported(house))
    again = await imported(house, await exported(house, first.session))
    assert messages(await view_of(store, again.session)) == messages(await view_of(store, FIRST))


async def test_a_file_that_was_cut_or_changed_makes_no_session(house, store):
    await record(store)
    data = await exported(house)
    lines = data.splitlines(keepends=True)
    broken = [b"".join(lines[:number]) for number in range(1, len(lines))]
    broken += [
        data[: len(data) // 2],
        data.replace(b"and again", b"or again!"),
        data + b"{}\n",
        b"",
        b"[]",
        b"{}",
        b"\xff",
    ]
    broken += [b"".join([lines[0], *lines[2:]]), b"".join([lines[0], lines[2], lines[1], *lines[3:]])]
    broken += [
        data.replace(b'"entries": 13', b'"entries": 12'),
        data.replace(b'"ml_intern_session": 1', b'"ml_intern_session": 2'),
    ]
    for each in broken:
        with pytest.raises(MlInternError) as caught:
            await imported(house, each)
        assert caught.value.remedy
    assert [each.id for each in await summaries(store)] == [FIRST]
    assert [path.name for path in (store.data / "sessions").iterdir()] == [FIRST]


async def test_a_log_of_the_reference_becomes_a_readable_session(house, store):
    log = {
        "session_id": "6f1c8a7e-0000-4000-8000-000000000000",
        "session_start_time": "2026-05-04T10:00:00.250000",
        "model_name": "moonshotai/Kimi-K2.6:novita",
        "total_cost_usd": 0.5,
        "messages": [
            {"role": "system", "content": "You are ..."},
            {"role": "user", "content": "Please fine-tune a small model."},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [call("c1", "bash", '{"command": "ls"}'), call("c2", "read")],
            },
            {"role": "tool", "content": "a.py", "tool_call_id": "c1", "name": "bash"},
            {"role": "user", "content": "[SYSTEM: DOOM LOOP] stop that"},
            {"role": "assistant", "content": [{"type": "text", "text": "There is a.py."}], "tool_calls": None},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "content": "Welcome."},
            "nonsense",
        ],
        "events": [{"event_type": "assistant_chunk"}],
    }
    made = await imported(house, json.dumps(log, indent=2).encode())
    view = await view_of(store, made.session)
    assert (made.original, started_of(view).product) == (log["session_id"], "huggingface/ml-intern (imported)")
    asked, reply, answer, lost, note, *rest = messages(view)
    assert asked.text == "Please fine-tune a small model."
    assert [(each.tool, each.arguments) for each in reply.calls] == [("bash", '{"command": "ls"}'), ("read", "{}")]
    assert (answer.text, lost.ok, note.by) == ("a.py", False, "product")
    assert [each.text for each in rest] == ["There is a.py.", "Thanks", "Welcome."]
    (listed,) = await summaries(store)
    assert (listed.title, listed.model, listed.state) == ("fine-tune a small model", log["model_name"], "done")
    assert listed.created == 1_777_888_800_250


def call(key, name, arguments="{}"):
    return {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "log",
    [
        {"messages": []},
        {"messages": "x"},
        {"messages": [{"role": "system", "content": "x"}]},
        {"message": []},
        [1],
        "x",
    ],
)
async def test_another_kind_of_json_is_told(house, store, log):
    with pytest.raises(BadSettings):
        await imported(house, json.dumps(log).encode())
    assert await summaries(store) == []
