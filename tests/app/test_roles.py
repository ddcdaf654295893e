"""The models of every role, as a session begins and as it goes on."""

import asyncio
from pathlib import Path

import pytest

from ml_intern.app.roles import Late, cast
from ml_intern.app.settings import Launch
from ml_intern.base.errors import BadSettings
from ml_intern.model.port import Request
from tests.agent.stage import PlayedModel, says
from tests.doubles.local_servers import ollama, serve

WINDOWS = {"a": 32_768, "b": 20_000, "c": 16_384}


def launch(url: str, **more) -> Launch:
    return Launch(Path(), environ={"OLLAMA_BASE_URL": url}, **more)


def server():
    return serve(ollama({name: {} for name in WINDOWS}, WINDOWS))


async def made(url: str, recorded=None, **more):
    return await cast(launch(url, **more), recorded or (), None, {})


def ids(chain) -> list[str]:
    return [choice.event.model for choice in chain]


async def test_fallbacks_follow_the_model_and_each_knows_the_whole_chain():
    async with server() as local:
        found = await made(local.url, model="ollama/a", fallback=("ollama/b", "ollama/a", "ollama/c"))
    names = ["ollama/a", "ollama/b", "ollama/c"]
    assert ids(found.chains["main"]) == names
    assert {choice.event.chain for choice in found.chains["main"]} == {tuple(names)}
    assert [choice.event.window for choice in found.chains["main"]] == [32_768, 20_000, 16_384]
    assert found.main.event.model == "ollama/a"
    assert list(found.chains) == ["main"]


async def test_a_single_model_is_no_chain():
    async with server() as local:
        found = await made(local.url, model="ollama/a")
    assert found.main.event.chain == ()


async def test_a_role_has_its_own_chain_and_effort():
    async with server() as local:
        found = await made(
            local.url,
            model="ollama/a",
            effort="high",
            roles={"research": ("ollama/b", "ollama/c")},
            efforts={"research": "low"},
        )
    assert ids(found.chains["research"]) == ["ollama/b", "ollama/c"]
    assert {(choice.event.role, choice.event.effort) for choice in found.chains["research"]} == {("research", "low")}
    assert found.main.event.effort == "high"


async def test_a_session_goes_on_with_its_chain_its_effort_and_who_answered_last():
    async with server() as local:
        first = await made(local.url, model="ollama/a", fallback=("ollama/b",), effort="low")
        moved = first.chains["main"][1].event
        again = await made(local.url, (moved,))
        other = await made(local.url, (moved,), model="ollama/c")
    assert ids(again.chains["main"]) == ["ollama/a", "ollama/b"]
    assert again.main.event == moved
    assert {choice.event.effort for choice in again.chains["main"]} == {"low"}
    assert (ids(other.chains["main"]), other.main.event.chain) == (["ollama/c"], ())


async def test_a_fallback_that_is_wrong_ends_a_new_session_and_is_left_out_of_one_that_goes_on():
    async with server() as local:
        with pytest.raises(BadSettings, match=r"ollama/zz \(main\): Ollama does not serve zz"):
            await made(local.url, model="ollama/a", fallback=("ollama/zz",))
        with pytest.raises(BadSettings, match=r"depseek/x \(title\)"):
            await made(local.url, model="ollama/a", roles={"title": ("depseek/x",)})
        first = await made(local.url, model="ollama/a", fallback=("ollama/b",))
    async with serve(ollama({"a": {}}, {"a": 32_768})) as smaller:
        again = await made(smaller.url, (first.main.event,))
    assert ids(again.chains["main"]) == ["ollama/a"]
    assert again.note.startswith("ollama/b is left out of the models of main: Ollama does not serve b")


async def test_an_address_and_a_price_hold_for_fallbacks_of_the_same_server_only():
    async with server() as local:
        found = await made(
            local.url,
            model="openai-compatible/x",
            fallback=("openai-compatible/y", "ollama/b"),
            base_url="http://127.0.0.1:9/v1",
            price="1/4",
        )
    x, y, b = (choice.event for choice in found.chains["main"])
    assert x.prices is not None
    assert y.prices == x.prices
    assert b.prices is not None
    assert (b.prices.input, b.base_url) == (0, "")
    assert y.base_url == x.base_url == "http://127.0.0.1:9/v1"


async def test_a_price_holds_for_a_fallback_whose_address_stands_in_a_variable():
    environ = {"OPENAI_COMPATIBLE_BASE_URL": "http://models.example:9/v1"}
    names = ("openai-compatible/x", "openai-compatible/y")
    said = Launch(Path(), environ=environ, model=names[0], fallback=names[1:], price="1/4")
    x, y = (choice.event for choice in (await cast(said, (), None, {})).chains["main"])
    assert y.prices == x.prices is not None
    again = await cast(Launch(Path(), environ=environ), (x,), None, {})
    assert [choice.event for choice in again.chains["main"]] == [x, y]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://models.example:9/v1"])
@pytest.mark.parametrize("price", ["1/4", None])
async def test_a_chain_goes_on_with_its_address_and_price_whoever_of_it_has_answered(address, price):
    if price is None and "127" not in address:
        price = "0/0"
    flags = {"base_url": address, "price": price, "effort": "low"}
    names = [f"openai-compatible/{name}" for name in "abc"]
    first = await made("", model=names[0], fallback=tuple(names[1:]), roles={"research": tuple(names[::-1])}, **flags)
    chain, reads = ([choice.event for choice in first.chains[role]] for role in ("main", "research"))
    for recorded in ((chain[0],), (chain[0], chain[2]), (chain[0], chain[1], chain[2], chain[0])):
        again = await made("", (reads[0], *recorded))
        assert [choice.event for choice in again.chains["main"]] == chain
        assert [choice.event for choice in again.chains["research"]] == reads
        assert (again.main.event, again.now["research"].event) == (recorded[-1], reads[0])
        assert again.note == ""


async def test_an_address_that_is_recorded_is_that_of_its_own_provider_only():
    async with server() as local:
        flags = {"base_url": "http://127.0.0.1:9/v1", "price": "1/4"}
        first = await made(
            local.url, model="openai-compatible/x", fallback=("ollama/b", "openai-compatible/y"), **flags
        )
        again = await made(local.url, (first.main.event,))
    assert [choice.event for choice in again.chains["main"]] == [choice.event for choice in first.chains["main"]]
    assert again.chains["main"][1].event.base_url == ""


async def test_whoever_changes_the_model_is_told_that_somebody_else_pays_and_says_where_it_is():
    said = {"base_url": "http://models.example:9/v1", "price": "1/4"}
    first = await made("", model="openai-compatible/x", **said)
    with pytest.raises(BadSettings, match="names no address"):
        await made("", (first.main.event,), model="openai-compatible/z")
    there = await made("", model="openai-compatible/x", base_url="http://127.0.0.1:9/v1")
    moved = (there.main.event, first.main.event)
    async with server() as local:
        again = await made(local.url, moved, model="ollama/a")
    assert again.note.startswith("From here on this machine pays; until now it was")


async def test_a_model_that_is_made_when_it_is_asked_is_made_once_for_all_lanes_and_closed():
    made_ones, closed = [], []

    class Played(PlayedModel):
        async def aclose(self) -> None:
            closed.append(self)

    async def make() -> Played:
        await asyncio.sleep(0.01)
        made_ones.append(Played([says("one"), says("two")]))
        return made_ones[-1]

    async def ask() -> None:
        async for _ in late.ask(Request("", (), [], 10, "s", 0)):
            pass

    late = Late(make)
    await asyncio.gather(ask(), ask())
    await late.aclose()
    assert len(made_ones) == 1
    assert closed == made_ones
