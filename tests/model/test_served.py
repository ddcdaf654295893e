"""What a chosen model is served with now: the router's list, the local server, the price file, in this order."""

import json
import subprocess
import sys

import pytest

from ml_intern.base.errors import BadSettings
from ml_intern.model.catalog import billed, resolve
from ml_intern.model.prices import FREE
from ml_intern.model.served import age, known
from ml_intern.record.messages import Prices
from tests.doubles.local_servers import listed, llamacpp, lm_studio, ollama, serve, tgi, vllm
from tests.doubles.router_server import Router, model, provider

KEY = {"HF_TOKEN": "hf_" + "x" * 30}
QWEN = model("Qwen/Qwen3-32B", provider("novita", "0.1/0.6", 40_960), provider("groq", "0.29/0.59"))
SEES = model("a/sees", provider("x", "1/4"), modalities=("text", "image"))
MIXED = model("a/mixed", provider("x", "1/4"), provider("y", "", None, supports_tools=False))


def at(double: Router, name: str):
    return resolve(name, double.url, KEY)


async def test_without_a_provider_the_dearest_price_and_the_smallest_window_hold(tmp_path):
    async with Router([QWEN]) as double:
        for name in ("hf/Qwen/Qwen3-32B", "hf/Qwen/Qwen3-32B:cheapest", "hf/Qwen/Qwen3-32B:fastest"):
            found = (await known(at(double, name), tmp_path)).info
            assert found.prices is not None
            assert (found.window, found.prices.input, found.prices.output) == (40_960, 290_000, 600_000)
            assert "the dearest of 2" in found.prices.source
            assert (found.images, found.tools) == (False, True)
            assert found.payer == "Hugging Face (HF_TOKEN)"


async def test_with_a_provider_its_own_price_and_window_hold(tmp_path):
    async with Router([QWEN]) as double:
        found = await known(at(double, "hf/Qwen/Qwen3-32B:groq"), tmp_path)
    assert found.info.prices is not None
    assert (found.info.window, found.info.prices.input, found.info.prices.output) == (131_072, 290_000, 590_000)
    assert "list, 20" in found.info.prices.source
    assert found.note == ""


async def test_a_price_of_the_command_line_goes_before_the_list(tmp_path):
    async with Router([QWEN]) as double:
        found = (await known(at(double, "hf/Qwen/Qwen3-32B"), tmp_path, "2/8")).info
    assert found.prices == Prices(2_000_000, 8_000_000, source="--price")
    assert found.window == 40_960


async def test_what_can_see_is_known(tmp_path):
    async with Router([SEES]) as double:
        assert (await known(at(double, "hf/a/sees"), tmp_path)).info.images is True


async def test_a_provider_without_a_price_leaves_it_unknown_and_says_whom_to_name(tmp_path):
    async with Router([MIXED]) as double:
        found = await known(at(double, "hf/a/mixed"), tmp_path)
        named = await known(at(double, "hf/a/mixed:x"), tmp_path)
        nobody = await known(at(double, "hf/a/mixed:y"), tmp_path)
    assert (found.info.prices, found.info.window, found.info.tools) == (None, 131_072, None)
    assert found.remedy == "No price is listed for y. Name one that has a price: --model hf/a/mixed:x."
    assert named.info.prices is not None
    assert (nobody.info.prices, nobody.info.tools, nobody.remedy) == (None, False, "No price is listed for y. ")


async def test_where_the_list_names_no_price_the_price_file_may(tmp_path):
    async with Router([model("Qwen/Qwen3-32B", provider("groq", ""))]) as double:
        found = (await known(at(double, "hf/Qwen/Qwen3-32B:groq"), tmp_path)).info
    assert found.prices is not None
    assert found.prices.source.startswith("genai-prices")


async def test_what_is_not_served_is_refused(tmp_path):
    async with Router([QWEN]) as double:
        with pytest.raises(BadSettings, match=r"does not list Qwen/Qwen3-33B"):
            await known(at(double, "hf/Qwen/Qwen3-33B"), tmp_path)
        with pytest.raises(BadSettings, match="together does not serve"):
            await known(at(double, "hf/Qwen/Qwen3-32B:together"), tmp_path)


async def test_a_model_that_came_within_the_hour_is_found(tmp_path):
    async with Router([QWEN]) as double:
        await known(at(double, "hf/Qwen/Qwen3-32B"), tmp_path)
        double.listed.append(SEES)
        assert (await known(at(double, "hf/a/sees"), tmp_path)).info.window == 131_072
        assert len(double.lists) == 2


async def test_an_old_list_refuses_nobody(tmp_path):
    async with Router([QWEN, model("a/dead", provider("x", status="error"))]) as double:
        await known(at(double, "hf/Qwen/Qwen3-32B"), tmp_path)
        (path,) = tmp_path.iterdir()
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "at": kept["at"] - 3 * 3600}))
        double.broken = 500
        listed_, dead, new = [
            await known(at(double, name), tmp_path) for name in ("hf/Qwen/Qwen3-32B", "hf/a/dead", "hf/a/new")
        ]
    assert listed_.info.window == 40_960
    assert listed_.note == "The router's list cannot be had (it answered 500): the one of 3 h ago holds."
    assert dead.info.prices is not None
    assert "It does not name a/new" in new.note


async def test_offline_the_price_file_holds_and_it_is_said_so(tmp_path):
    found = await known(resolve("Qwen/Qwen3-32B", "", KEY), tmp_path, offline=True)
    assert found.info.prices is not None
    assert found.note == "The router's list cannot be had (offline): the price file holds."
    unknown = await known(resolve("a/b", "", KEY), tmp_path, offline=True)
    assert unknown.info.prices is None
    assert "does not know this model" in unknown.note


async def test_offline_a_list_that_is_kept_prices_what_it_names_and_refuses_nobody(tmp_path):
    async with Router([QWEN]) as double:
        await known(at(double, "hf/Qwen/Qwen3-32B"), tmp_path)
        named = await known(at(double, "hf/Qwen/Qwen3-32B:groq"), tmp_path, offline=True)
        new = await known(at(double, "hf/a/new"), tmp_path, offline=True)
        assert len(double.lists) == 1
    assert (named.info.window, named.note) == (131_072, "")
    assert "offline" in new.note
    assert "It does not name a/new" in new.note


async def test_an_organisation_pays_on_the_router_only(tmp_path):
    async with Router([QWEN]) as double:
        paid = billed(at(double, "hf/Qwen/Qwen3-32B"), "acme")
        assert (await known(paid, tmp_path)).info.payer == "hf (acme)"
    assert billed(resolve("openai/gpt-5", "", {"OPENAI_API_KEY": "k"}), "acme").bill_to == ""


async def test_other_providers_are_asked_nothing(tmp_path):
    async with serve({}) as server:
        found = await known(resolve("openai-compatible/m", server.url, {}), tmp_path)
        await known(resolve("openai/gpt-5", server.url, {}), tmp_path)
        assert server.asked == []
    assert (found.info.prices, found.note) == (FREE, "")


WINDOWS = [
    (vllm("m", window=20_480), "vllm/m", 20_480),
    (llamacpp("some.gguf", 65_536), "llamacpp/any", 65_536),
    (lm_studio({"id": "m", "state": "loaded", "loaded_context_length": 32_000}), "lm_studio/m", 32_000),
    (tgi("org/m", 30_000), "tgi/whatever", 30_000),
    (ollama({"m:latest": {}}, {"m:latest": 24_576}), "ollama/m", 24_576),
    (ollama({"m:4b": {"parameters": "stop    x\nnum_ctx                        17000"}}), "ollama/m:4b", 17_000),
    (ollama({"m:cloud": {"remote_host": "https://ollama.com"}}), "ollama/m:cloud", 40_960),
]


@pytest.mark.parametrize(("pages", "name", "window"), WINDOWS, ids=[name for _, name, _ in WINDOWS])
async def test_a_local_servers_own_window_holds(tmp_path, pages, name, window):
    async with serve(pages) as server:
        found = await known(resolve(name, server.url, {}), tmp_path)
    assert (found.info.window, found.info.prices, found.info.payer) == (window, FREE, "this machine")
    assert found.note == ""


LITTLE = [
    (ollama({"m": {}}), "ollama/m", 4096, "has not loaded m and then gives it 4,096 tokens", "OLLAMA_CONTEXT_LENGTH="),
    (ollama({"m": {}}, {"m": 4096}), "ollama/m", 4096, "serves m with a window of 4,096", "OLLAMA_CONTEXT_LENGTH="),
    (llamacpp("m", 2048), "llamacpp/m", 2048, "serves m with a window of 2,048", "-c 32768"),
    (vllm("m", window=8192), "vllm/m", 8192, "window of 8,192", "--max-model-len"),
    (lm_studio({"id": "m"}), "lm_studio/m", None, "has not loaded m", "--context-length"),
]


@pytest.mark.parametrize(("pages", "name", "window", "said", "remedy"), LITTLE)
async def test_a_window_that_is_little_or_assumed_is_told_with_the_remedy(tmp_path, pages, name, window, said, remedy):
    async with serve(pages) as server:
        found = await known(resolve(name, server.url, {}), tmp_path)
    assert found.info.window == window
    assert said in found.note
    assert remedy in found.note


async def test_no_model_gets_more_than_it_was_made_for(tmp_path):
    small = {"model_info": {"bert.context_length": 512}, "parameters": "num_ctx 8192"}
    async with serve(ollama({"m": small})) as server:
        assert (await known(resolve("ollama/m", server.url, {}), tmp_path)).info.window == 512


ABILITIES = [
    (ollama({"m": {"capabilities": ["completion", "vision"]}}), "ollama/m", (True, False)),
    (ollama({"m": {"capabilities": ["completion", "tools", "thinking"]}}), "ollama/m", (False, True)),
    (ollama({"m": {"capabilities": None}}), "ollama/m", (None, None)),
    (lm_studio({"id": "m", "type": "vlm", "capabilities": ["tool_use"]}), "lm_studio/m", (True, True)),
    (lm_studio({"id": "m"}), "lm_studio/m", (False, None)),
    (llamacpp("m", vision=True), "llamacpp/m", (True, None)),
    (llamacpp("m"), "llamacpp/m", (None, None)),
    ({**llamacpp("m"), "/props": {"chat_template_caps": {"supports_tools": True}}}, "llamacpp/m", (None, None)),
    ({**llamacpp("m"), "/props": {"chat_template_caps": {"supports_tools": False}}}, "llamacpp/m", (None, False)),
    (vllm("m"), "vllm/m", (None, None)),
]


@pytest.mark.parametrize(("pages", "name", "abilities"), ABILITIES)
async def test_what_a_local_model_can_is_what_its_server_says(tmp_path, pages, name, abilities):
    async with serve(pages) as server:
        info = (await known(resolve(name, server.url, {}), tmp_path)).info
    assert (info.images, info.tools) == abilities


@pytest.mark.parametrize(
    ("pages", "name", "nearest"),
    [
        (
            ollama({"qwen3:4b": {}, "llama3.2:1b": {}}),
            "ollama/qwen3",
            "Nearest: --model ollama/qwen3:4b. Or fetch it: `ollama pull qwen3`.",
        ),
        (vllm("Qwen/Qwen3-8B"), "vllm/Qwen3-8B", "Nearest: --model vllm/Qwen/Qwen3-8B."),
        (
            lm_studio({"id": "a"}, {"id": "embed", "type": "embeddings"}),
            "lm_studio/zzz",
            "Nearest: --model lm_studio/a.",
        ),
    ],
)
async def test_a_local_model_that_is_not_served_is_refused_with_the_nearest(tmp_path, pages, name, nearest):
    async with serve(pages) as server:
        with pytest.raises(BadSettings) as caught:
            await known(resolve(name, server.url, {}), tmp_path)
    assert "does not serve" in caught.value.what
    assert caught.value.remedy == nearest


@pytest.mark.parametrize(
    "pages",
    [{}, {"/v1/models": []}, {"/v1/models": {"data": 7}}, {"/v1/models": {"data": [7, {}]}}, {"/v1/models": "x"}],
)
@pytest.mark.parametrize("kind", ["ollama", "vllm", "lm_studio", "llamacpp", "tgi"])
async def test_a_server_that_says_nothing_of_itself_leaves_it_unknown(tmp_path, pages, kind):
    async with serve(pages) as server:
        found = await known(resolve(f"{kind}/m", server.url, {}), tmp_path)
    assert (found.info.window, found.info.images, found.note) == (None, None, "")


async def test_a_server_that_is_not_there_is_left_to_the_first_request(tmp_path):
    assert (await known(resolve("ollama/m", "http://127.0.0.1:1", {}), tmp_path)).info.window is None


async def test_a_key_that_a_local_server_wants_goes_along(tmp_path):
    async with serve(vllm("m")) as server:
        await known(resolve("vllm/m", server.url, {"VLLM_API_KEY": "sesame"}), tmp_path)
    assert "Authorization: Bearer sesame" in server.asked[0]


async def test_a_list_that_is_plain_names_no_window(tmp_path):
    async with serve({"/v1/models": listed("m")}) as server:
        assert (await known(resolve("vllm/m", server.url, {}), tmp_path)).info.window is None


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 min"), (3599, "59 min"), (7200, "2 h"), (47 * 3600, "47 h"), (4 * 86400, "4 days")]
)
def test_an_age_is_said_in_the_unit_that_fits(seconds, said):
    assert age(seconds) == said


QUICK = """
import asyncio, sys, time
from pathlib import Path
from ml_intern.model.catalog import resolve
from ml_intern.model.served import known

begun = time.perf_counter()
found = asyncio.run(known(resolve("hf/Qwen/Qwen3-32B", sys.argv[1], {}), Path(sys.argv[2])))
print(found.info.window, time.perf_counter() - begun, "httpx2" in sys.modules)
"""


async def test_a_list_that_is_kept_costs_a_start_neither_a_question_nor_a_client(tmp_path):
    many = [model(f"org/Model-{n}", *(provider(f"p{k}") for k in range(8))) for n in range(200)]
    async with Router([QWEN, *many]) as double:
        await known(at(double, "hf/Qwen/Qwen3-32B"), tmp_path)
        command = [sys.executable, "-c", QUICK, double.url, str(tmp_path)]
        window, seconds, has_client = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert len(double.lists) == 1
    assert (window, has_client) == ("40960", "False")
    assert float(seconds) < 0.1  # 3 ms on a machine with nothing else to do


@pytest.mark.watch_loop
async def test_reading_a_list_does_not_hold_the_event_loop(tmp_path):
    many = [model(f"org/Model-{n}", *(provider(f"p{k}") for k in range(8))) for n in range(400)]
    async with Router([QWEN, *many]) as double:
        for anew in range(2):
            assert (await known(at(double, "hf/Qwen/Qwen3-32B"), tmp_path / str(anew))).info.window == 40_960
