import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_intern.base.errors import StoreFailed
from ml_intern.record.codec import decode, encode
from ml_intern.record.events import Entry, StopAsked
from ml_intern.record.upcast import upcast
from tests.record.legal import EVENT_TYPES, any_entry, of

GOLDEN = Path(__file__).parents[1] / "golden" / "events-v1.jsonl"


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_event_comes_back_as_it_was(kind, data):
    entry = Entry(1, 2, "main", data.draw(of(kind)))
    line = encode(entry)
    assert b"\n" not in line
    assert decode(line) == entry
    assert decode(json.dumps({"v": 1, **json.loads(line)}).encode()) == entry


def test_the_golden_file_holds_every_event():
    kinds = {json.loads(line)["event"]["type"] for line in GOLDEN.read_text().splitlines()}
    assert kinds >= {kind.__struct_config__.tag for kind in EVENT_TYPES}


@pytest.mark.parametrize("line", GOLDEN.read_bytes().splitlines(), ids=lambda line: json.loads(line)["event"]["type"])
def test_a_line_of_the_first_version_is_always_read(line):
    entry = decode(line)
    assert encode(decode(encode(entry))) == encode(entry)
    kept = json.loads(line)
    assert (entry.seq, entry.at, entry.lane, type(entry.event).__struct_config__.tag) == (
        *(kept[k] for k in ("seq", "at", "lane")),
        kept["event"]["type"],
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"x"',
        b'{"v":"1"}',
        b'{"v":null}',
        b'{"v":0}',
        b"\xff",
        b'{"seq":1,"v":1}',
        b"[" * 9999,
    ],
)
def test_a_damaged_line_is_told(line):
    with pytest.raises(StoreFailed, match="cannot be read"):
        decode(line)


@settings(deadline=None)
@given(any_entry(), st.data())
def test_a_line_that_was_cut_is_told(entry, data):
    line = encode(entry)
    with pytest.raises(StoreFailed):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


def test_a_newer_version_is_refused_by_name():
    line = encode(Entry(1, 1, "main", StopAsked("c"))).replace(b'"v":1', b'"v":7')
    with pytest.raises(StoreFailed, match=r"newer version .record version 7"):
        decode(line)


def test_old_entries_go_up_step_by_step():
    steps = {1: lambda raw: {**raw, "one": True}, 2: lambda raw: {**raw, "two": raw["one"]}}
    assert upcast({"v": 1}, steps) == {"v": 3, "one": True, "two": True}
    assert upcast({"v": 2, "one": False}, steps) == {"v": 3, "one": False, "two": False}
    assert upcast({"v": 3}, steps) == {"v": 3}
    with pytest.raises(ValueError, match="newer"):
        upcast({"v": 4}, steps)
