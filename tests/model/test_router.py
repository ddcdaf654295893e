"""The router's list: read leniently, kept for an hour, and used older where it cannot be had."""

import json
import os
import time

import pytest

from ml_intern.base.errors import BadSettings
from ml_intern.model import router
from ml_intern.model.catalog import billed, resolve
from ml_intern.model.router import Route, look, nearest, parsed, routes_of
from ml_intern.model.wire.errors import from_response
from tests.doubles.local_servers import listed, serve
from tests.doubles.router_server import Router, model, provider

QWEN = model("Qwen/Qwen3-32B", provider("novita", "0.1/0.45", 40_960), provider("groq", "0.29/0.59"))
KIMI = model(
    "moonshotai/Kimi-K2.6",
    provider("together", "1/4", 262_144),
    provider("broken", status="error"),
    modalities=("text", "image"),
)


def body(*rows) -> bytes:
    return json.dumps({"object": "list", "data": rows}).encode()


def grow_old(folder, seconds: float) -> None:
    (path,) = folder.glob("router-*.json")
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "at": kept["at"] - seconds}))


def test_a_list_is_read():
    qwen, kimi = parsed(body(QWEN, KIMI))
    assert qwen.id == "Qwen/Qwen3-32B"
    assert qwen.routes == (
        Route("novita", True, 40_960, 100_000, 450_000, True),
        Route("groq", True, 131_072, 290_000, 590_000, True),
    )
    assert (qwen.images, kimi.images) == (False, True)
    assert [route.provider for route in kimi.live] == ["together"]


def test_what_is_missing_is_unknown_and_never_zero():
    bare = {"id": "a/b", "providers": [{"provider": "x", "status": "live"}]}
    (found,) = parsed(body(bare))
    assert found.images is None
    assert found.routes == (Route("x", True),)


@pytest.mark.parametrize(
    "price",
    [None, "free", -1, True, 1e12, [], {}],
)
def test_a_price_that_is_none_is_unknown(price):
    row = {"provider": "x", "status": "live", "pricing": {"input": price, "output": 1}}
    (found,) = parsed(body({"id": "a/b", "providers": [row]}))
    assert (found.routes[0].input, found.routes[0].output) == (None, 1_000_000)


def test_a_price_below_a_micro_dollar_is_rounded_up():
    (found,) = parsed(body(model("a/b", provider("x", "0.0000001/0.1"))))
    assert (found.routes[0].input, found.routes[0].output) == (1, 100_000)


@pytest.mark.parametrize(
    "row",
    [
        {},
        None,
        7,
        {"id": 7, "providers": []},
        {"id": "", "providers": []},
        {"id": "a/b"},
        {"id": "a/b", "providers": {}},
    ],
)
def test_a_model_that_is_malformed_is_left_out(row):
    assert [each.id for each in parsed(body(row, QWEN))] == ["Qwen/Qwen3-32B"]


def test_a_provider_that_is_malformed_is_left_out():
    (found,) = parsed(body({"id": "a/b", "providers": [{}, None, {"provider": 1, "status": "live"}, provider("x")]}))
    assert [route.provider for route in found.routes] == ["x"]


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b'{"models": []}', b'{"data": 7}', b"null"])
def test_what_is_no_list_is_told(data):
    with pytest.raises(ValueError, match="no list of models"):
        parsed(data)


async def test_a_list_is_asked_for_once_an_hour(tmp_path):
    async with Router([QWEN]) as double:
        first = await look(double.url, tmp_path)
        second = await look(double.url, tmp_path)
        assert len(double.lists) == 1
        grow_old(tmp_path, 3700)
        third = await look(double.url, tmp_path)
        assert len(double.lists) == 2
    assert first.listing is not None
    assert second.listing == first.listing
    assert (first.why, second.why, third.why) == ("", "", "")
    assert second.age_s < 10
    assert third.age_s == 0


async def test_no_key_goes_with_the_question(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    async with Router([QWEN]) as double:
        await look(double.url, tmp_path)
    assert "authorization" not in double.lists[0]


async def test_an_old_list_is_used_where_a_new_one_cannot_be_had_and_it_is_said_so(tmp_path):
    async with Router([QWEN]) as double:
        url = double.url
        await look(url, tmp_path)
        grow_old(tmp_path, 7200)
        double.broken = 503
        old = await look(url, tmp_path)
    gone = await look(url, tmp_path)
    assert old.listing is not None
    assert gone.listing == old.listing
    assert 7200 <= old.age_s < 7300
    assert old.why == "it answered 503"
    assert gone.why


async def test_offline_nothing_is_asked(tmp_path):
    async with Router([QWEN]) as double:
        nothing = await look(double.url, tmp_path, offline=True)
        await look(double.url, tmp_path)
        fresh = await look(double.url, tmp_path, offline=True)
        grow_old(tmp_path, 7200)
        old = await look(double.url, tmp_path, offline=True)
        assert len(double.lists) == 1
    assert (nothing.listing, nothing.why) == (None, "offline")
    assert fresh.listing is not None
    assert (fresh.why, old.why) == ("", "offline")
    assert old.listing == (fresh.listing and router.Listing(fresh.listing.at - 7200, fresh.listing.models))


async def test_a_server_that_is_slow_is_not_waited_for(tmp_path):
    async with serve({"/v1/models": listed("a/b")}, delay_s=4.0) as slow:
        begun = time.monotonic()
        found = await look(f"{slow.url}/v1", tmp_path)
        assert time.monotonic() - begun < 3.8
    assert (found.listing, found.why) == (None, "no answer within 3 s")


async def test_a_server_without_such_a_list_is_no_router(tmp_path):
    async with serve({"/v1/models": listed("a/b")}) as plain, serve({}) as bare:
        for server in (plain, bare):
            found = await look(f"{server.url}/v1", tmp_path)
            assert (found.listing, found.why) == (None, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"at": "x", "models": []}'])
async def test_a_kept_list_that_is_damaged_is_asked_for_anew(tmp_path, damage):
    async with Router([QWEN]) as double:
        await look(double.url, tmp_path)
        (path,) = tmp_path.iterdir()
        path.write_bytes(damage)
        assert (await look(double.url, tmp_path)).listing is not None
        assert len(double.lists) == 2


async def test_a_folder_that_cannot_be_written_costs_only_the_next_question(tmp_path):
    (tmp_path / "file").write_text("")
    async with Router([QWEN]) as double:
        for _ in range(2):
            assert (await look(double.url, tmp_path / "file")).listing is not None
        assert len(double.lists) == 2


async def test_two_routers_keep_a_list_each(tmp_path):
    async with Router([QWEN]) as one, Router([KIMI]) as other:
        await look(one.url, tmp_path)
        found = await look(other.url, tmp_path)
    assert found.listing is not None
    assert [each.id for each in found.listing.models] == ["moonshotai/Kimi-K2.6"]
    assert len(os.listdir(tmp_path)) == 2


MODELS = parsed(body(QWEN, KIMI, model("a/dead", provider("x", status="error"))))


@pytest.mark.parametrize("route", ["", "fastest", "cheapest", "preferred"])
def test_without_a_provider_every_live_one_may_answer(route):
    found, routes = routes_of("Qwen/Qwen3-32B", route, MODELS)
    assert found.id == "Qwen/Qwen3-32B"
    assert [each.provider for each in routes] == ["novita", "groq"]


def test_a_provider_that_is_named_answers_alone():
    assert [each.provider for each in routes_of("Qwen/Qwen3-32B", "groq", MODELS)[1]] == ["groq"]


@pytest.mark.parametrize(
    ("name", "route", "what", "remedy"),
    [
        ("Qwen/Qwen3-32b", "", "does not list Qwen/Qwen3-32b", "--model hf/Qwen/Qwen3-32B"),
        ("moonshot/Kimi-K2.6", "", "does not list", "--model hf/moonshotai/Kimi-K2.6"),
        ("a/nothing-like-it", "", "does not list", "`ml-intern models WORD --provider hf`"),
        ("a/dead", "", "No provider serves a/dead now.", "ml-intern models"),
        ("Qwen/Qwen3-32B", "together", "together does not serve", "Qwen/Qwen3-32B:novita, Qwen/Qwen3-32B:groq"),
        ("moonshotai/Kimi-K2.6", "broken", "broken does not serve", "moonshotai/Kimi-K2.6:together"),
    ],
)
def test_what_is_not_served_is_refused_with_the_nearest_that_is(name, route, what, remedy):
    with pytest.raises(BadSettings) as caught:
        routes_of(name, route, MODELS)
    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_a_dead_model_is_nobodys_nearest():
    assert nearest("a/deat", MODELS) == []


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (402, "Add credit to acme (huggingface.co/organizations/acme/settings/billing), or name another payer"),
        (403, "Check HF_TOKEN: the key, and that it may bill acme; or name another payer with --bill-to."),
        (404, "`ml-intern models WORD --provider hf` lists what is served."),
    ],
)
def test_what_the_router_refuses_names_who_was_to_pay_and_where_to_look(status, remedy):
    endpoint = billed(resolve("hf/a/b", "", {"HF_TOKEN": "hf_x"}), "acme")
    assert remedy in from_response(endpoint, status, {}, b"{}").remedy
