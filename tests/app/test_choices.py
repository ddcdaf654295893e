"""What a session's model is, as it begins and as it goes on."""

from pathlib import Path

import pytest

from ml_intern.app.choices import choose
from ml_intern.app.settings import Launch
from ml_intern.base.errors import BadSettings
from ml_intern.record.events import ModelChosen
from tests.doubles.local_servers import llamacpp, ollama, serve
from tests.doubles.router_server import Router, model, provider

QWEN = model("Qwen/Qwen3-32B", provider("novita", "0.1/0.6", 40_960), provider("groq", "0.29/0.59"))
SEES = model("a/sees", provider("x", "1/4"), modalities=("text", "image"))


def launch(url: str, **more) -> Launch:
    return Launch(Path(), environ={"HF_BASE_URL": url, "OLLAMA_BASE_URL": url, "HF_TOKEN": "hf_x"}, **more)


async def chosen(url: str, recorded: ModelChosen | None = None, **more):
    return await choose(launch(url, **more), recorded, None, {})


async def test_a_session_goes_on_with_the_price_it_began_with_and_asks_no_list():
    async with Router([QWEN]) as router:
        first = (await chosen(router.url, model="hf/Qwen/Qwen3-32B")).event
        router.listed = [model("Qwen/Qwen3-32B", provider("novita", "9/9", 1000))]
        again = await chosen(router.url, first)
        anew = await chosen(router.url, first, price="2/2")
        assert len(router.lists) == 1
    assert again.event == first
    assert again.note == ""
    assert anew.event.prices is not None
    assert anew.event.prices.input == 2_000_000


async def test_the_organisation_that_pays_stays_until_another_is_named():
    async with Router([QWEN]) as router:
        first = (await chosen(router.url, model="hf/Qwen/Qwen3-32B", bill_to="acme")).event
        kept = await chosen(router.url, first)
        other = await chosen(router.url, first, bill_to="globex")
        own = await chosen(router.url, first, bill_to="")
        elsewhere = await chosen(router.url, first, model="hf/Qwen/Qwen3-32B:groq")
    assert (first.bill_to, first.payer) == ("acme", "hf (acme)")
    assert (kept.event, kept.note) == (first, "")
    assert (other.event.bill_to, own.event.bill_to, elsewhere.event.bill_to) == ("globex", "", "")
    assert other.note == "From here on hf (globex) pays; until now it was hf (acme)."
    assert own.note == "From here on Hugging Face (HF_TOKEN) pays; until now it was hf (acme)."
    assert elsewhere.note == own.note


async def test_an_imported_session_had_no_payer_that_could_change():
    async with Router([QWEN]) as router:
        imported = ModelChosen("main", "hf/Qwen/Qwen3-32B", None, None, None, "unknown")
        found = await chosen(router.url, imported)
    assert found.note == ""
    assert found.event.prices is not None


@pytest.mark.parametrize(("name", "sees"), [("hf/a/sees", True), ("hf/Qwen/Qwen3-32B", False)])
async def test_whether_it_sees_is_what_the_router_says(name, sees):
    async with Router([QWEN, SEES]) as router:
        first = await chosen(router.url, model=name)
        assert (first.sees, (await chosen(router.url, first.event)).sees) == (sees, sees)


async def test_whether_it_sees_is_what_a_local_server_says_and_unknown_counts_as_able():
    async with serve(ollama({"m": {"capabilities": ["completion"]}}, {"m": 32_768})) as blind:
        assert not (await chosen(blind.url, model="ollama/m")).sees
    async with serve(llamacpp("m", 32_768)) as silent:
        assert (await chosen(silent.url, model="llamacpp/m", base_url=silent.url)).sees


async def test_the_window_of_a_local_server_follows_the_server_and_a_lost_answer_changes_nothing():
    async with serve(ollama({"m": {}}, {"m": 32_768})) as large, serve(ollama({"m": {}}, {"m": 20_000})) as small:
        first = (await chosen(large.url, model="ollama/m")).event
        now = await chosen(small.url, first)
        lost = await chosen("http://127.0.0.1:1", first)
    assert (first.window, now.event.window, lost.event.window) == (32_768, 20_000, 32_768)
    assert now.event.payer == "this machine"


async def test_a_price_that_nobody_knows_is_told_with_why():
    async with Router([model("a/b", provider("x", ""))]) as router:
        with pytest.raises(BadSettings, match="The price of hf/a/b is not known") as caught:
            await chosen(router.url, model="hf/a/b")
    assert caught.value.remedy.startswith("No price is listed for x. ")
    with pytest.raises(BadSettings) as offline:
        await choose(Launch(Path(), model="hf/no/such", offline=True, environ={"HF_TOKEN": "hf_x"}), None, None, {})
    assert "The router's list cannot be had (offline)" in offline.value.remedy
    assert "--price IN/OUT" in offline.value.remedy
