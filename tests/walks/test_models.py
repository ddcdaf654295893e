"""Models through the real command line: what is served is what is recorded, who pays is told, and all are listed."""

import json

import pytest

from ml_intern.record.events import ModelChosen
from tests.doubles.local_servers import Chatting, llamacpp, lm_studio, ollama, serve, vllm
from tests.doubles.router_server import Router, model, provider
from tests.walks.walk import Walk, everything_in

TOKEN = "hf_" + "t" * 34
QWEN = model("Qwen/Qwen3-32B", provider("novita", "0.1/0.6", 40_960), provider("groq", "0.29/0.59"))
SEES = model("moonshotai/Kimi-K2.6", provider("together", "1/4", 262_144), modalities=("text", "image"))
DEAD = model("a/dead", provider("x", status="error"))
NOWHERE = {f"{name}_BASE_URL": "http://127.0.0.1:1" for name in ("OLLAMA", "VLLM", "LM_STUDIO", "LLAMACPP", "TGI")}


def at(router: Router, **more: str) -> dict[str, str]:
    return {**NOWHERE, "HF_BASE_URL": router.url, "HF_TOKEN": TOKEN, **more}


def words(line: str) -> str:
    return " ".join(line.split())


async def chosen(walk: Walk) -> list[ModelChosen]:
    return [entry.event for entry in await walk.entries() if isinstance(entry.event, ModelChosen)]


async def test_the_routers_price_and_window_are_recorded_and_booked(walk: Walk):
    async with Router([QWEN], prices="0.29/0.59") as router:
        done = await walk.run("hi", "--model", "hf/Qwen/Qwen3-32B:groq", env=at(router))
        owed = router.ledger.total()
        again = await walk.run("hi", "--model", "hf/Qwen/Qwen3-32B:groq", env=at(router))
        assert len(router.lists) == 1, "the list is kept for an hour"
    assert done.code == again.code == 0, done.said
    assert "hf/Qwen/Qwen3-32B:groq, paid by Hugging Face (HF_TOKEN)" in done.err
    (event,) = await chosen(walk)
    assert event.prices is not None
    assert (event.window, event.prices.input, event.prices.output) == (131_072, 290_000, 590_000)
    assert (await walk.view()).purse.spent == owed > 0
    assert router.headers[0]["authorization"] == f"Bearer {TOKEN}"
    assert "authorization" not in router.lists[0]
    assert "x-hf-bill-to" not in router.headers[0]


@pytest.mark.parametrize(
    ("name", "what", "remedy"),
    [
        ("hf/Qwen/Qwen3-31B", "The router does not list Qwen/Qwen3-31B.", "--model hf/Qwen/Qwen3-32B"),
        ("hf/Qwen/Qwen3-32B:together", "together does not serve Qwen/Qwen3-32B now.", "Qwen/Qwen3-32B:groq"),
        ("hf/a/dead", "No provider serves a/dead now.", "ml-intern models WORD"),
    ],
)
async def test_what_the_router_does_not_serve_makes_no_session(walk: Walk, name, what, remedy):
    async with Router([QWEN, DEAD]) as router:
        done = await walk.run("hi", "--model", name, env=at(router))
        assert router.headers == []
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"ml-intern: {what}\n")
    assert remedy in done.err
    assert "No session yet." in (await walk.run("sessions")).out


async def test_without_a_list_and_without_a_price_no_session_is_made(walk: Walk):
    done = await walk.run("hi", "--model", "hf/no/such", "--offline", env={"HF_TOKEN": TOKEN})
    assert done.code == 2
    assert "The price of hf/no/such is not known, so no budget could hold." in done.err


async def test_a_provider_without_a_price_is_told_with_one_that_has_one(walk: Walk):
    async with Router([model("a/b", provider("x", "1/4"), provider("y", ""))]) as router:
        done = await walk.run("hi", "--model", "hf/a/b", env=at(router))
        named = await walk.run("hi", "--model", "hf/a/b:x", env=at(router))
    assert (done.code, named.code) == (2, 0), (done.said, named.said)
    assert "The price of hf/a/b is not known" in done.err
    assert "No price is listed for y. Name one that has a price: --model hf/a/b:x. Say it with --price" in done.err


async def test_an_organisation_that_pays_is_in_the_header_and_in_the_record_and_stays_on_resume(walk: Walk):
    async with Router([QWEN]) as router:
        named = ("--model", "Qwen/Qwen3-32B")
        first = await walk.run("hi", *named, env=at(router, HF_BILL_TO="ignored", ML_INTERN_BILL_TO="acme"))
        kept = await walk.run("resume", "last", "on", env=at(router))
        changed = await walk.run("resume", "last", "on", "--bill-to", "globex", env=at(router))
        own = await walk.run("resume", "last", "on", "--bill-to", "", env=at(router))
    assert [done.code for done in (first, kept, changed, own)] == [0] * 4, (first.said, own.said)
    assert [headers.get("x-hf-bill-to") for headers in router.headers] == ["acme", "acme", "globex", None]
    assert "paid by hf (acme)" in first.err
    assert "From here on" not in kept.err
    assert "From here on hf (globex) pays; until now it was hf (acme)." in changed.err
    assert "From here on Hugging Face (HF_TOKEN) pays; until now it was hf (globex)." in own.err
    assert [(event.payer, event.bill_to) for event in await chosen(walk)] == [
        ("hf (acme)", "acme"),
        ("hf (globex)", "globex"),
        ("Hugging Face (HF_TOKEN)", ""),
    ]


async def test_a_workspace_that_nobody_trusts_names_no_payer(walk: Walk):
    (walk.workspace / ".ml-intern").mkdir()
    (walk.workspace / ".ml-intern" / "settings.toml").write_text("bill_to = 'evil'\n")
    async with Router([QWEN]) as router:
        done = await walk.run("hi", "--model", "Qwen/Qwen3-32B", env=at(router))
        trusted = await walk.run("trust", "--yes")
        then = await walk.run("hi", "--model", "Qwen/Qwen3-32B", env=at(router))
    assert (done.code, trusted.code, then.code) == (0, 0, 0), (done.said, trusted.said)
    assert "ignored: bill_to" in done.err
    assert [headers.get("x-hf-bill-to") for headers in router.headers] == [None, "evil"]


@pytest.mark.parametrize("name", ["no one", "a/b", "-x", "x" * 200, "a\nb"])
async def test_a_payer_that_is_no_name_is_refused(walk: Walk, name):
    done = await walk.run("hi", "--model", "openai-compatible/m", "--bill-to", name)
    assert done.code == 2
    assert "is no name of an organisation" in done.err


async def test_an_organisation_pays_for_nothing_elsewhere(walk: Walk):
    async with Router([], prices="1/4") as router:
        env = {"HF_BILL_TO": "acme"}
        done = await walk.say(router, "hi", "--price", "1/4", env=env)
    assert done.code == 0, done.said
    assert "paid by the server" in done.err
    assert "x-hf-bill-to" not in router.headers[0]


async def test_a_local_servers_window_is_recorded_and_follows_the_server(walk: Walk):
    async with Chatting(ollama({"m": {}}, {"m": 4096})) as server:
        little = await walk.run("hi", "--model", "ollama/m", env={"OLLAMA_BASE_URL": server.url})
        server.pages = ollama({"m": {}}, {"m": 32_768})
        enough = await walk.run("resume", "last", "on", env={"OLLAMA_BASE_URL": server.url})
        same = await walk.run("resume", "last", "on", env={"OLLAMA_BASE_URL": server.url})
    assert (little.code, enough.code, same.code) == (0, 0, 0), (little.said, enough.said)
    assert "Ollama serves m with a window of 4,096 tokens, which is little for an agent." in little.err
    assert "`OLLAMA_CONTEXT_LENGTH=32768 ollama serve`" in little.err
    assert "OLLAMA_CONTEXT_LENGTH" not in enough.err + same.err
    assert [event.window for event in await chosen(walk)] == [4096, 32_768]


async def test_a_local_model_that_is_not_served_makes_no_session(walk: Walk):
    async with serve(ollama({"qwen3:4b": {}})) as server:
        done = await walk.run("hi", "--model", "ollama/qwen3:8b", env={"OLLAMA_BASE_URL": server.url})
    assert done.code == 2
    assert "Ollama does not serve qwen3:8b at 127.0.0.1" in done.err
    assert "--model ollama/qwen3:4b. Or fetch it: `ollama pull qwen3:8b`." in done.err
    assert "No session yet." in (await walk.run("sessions")).out


async def test_models_are_listed_local_ones_first_then_those_with_a_key(walk: Walk):
    async with (
        Router([QWEN, SEES, DEAD]) as router,
        serve(ollama({"qwen3:4b": {"capabilities": ["tools", "thinking"]}}, {"qwen3:4b": 4096})) as one,
        serve(llamacpp("qwen.gguf", 8192, vision=True)) as two,
    ):
        env = at(router, OLLAMA_BASE_URL=one.url, LLAMACPP_BASE_URL=two.url)
        done = await walk.run("models", "qwen3", env=env)
        everything = await walk.run("models", "--limit", "3", env=env)
        asked = len(router.lists)
    assert done.code == everything.code == 0, done.said
    head, first, second, *_ = done.out.splitlines()
    assert words(head) == "model window in/out per M abilities served key"
    assert words(first) == f"ollama/qwen3:4b 4,096 free tools thinking {one.url[7:]}, loaded none needed"
    assert words(second) == "hf/Qwen/Qwen3-32B 40,960 0.29/0.6 tools live: novita, groq HF_TOKEN"
    assert "dead" not in done.out
    assert "The router's list is 0 min old." in done.err
    ids = [line.split()[0] for line in everything.out.splitlines()[1:]]
    assert ids == ["ollama/qwen3:4b", "llamacpp/qwen.gguf", "hf/moonshotai/Kimi-K2.6"]
    assert "more: add words, or --limit" in everything.err
    assert asked == 1
    assert TOKEN not in done.out + done.err + everything.out + everything.err
    assert TOKEN.encode() not in everything_in(walk.home)


async def test_models_as_json_are_one_object_a_line_with_unknown_as_null(walk: Walk):
    async with Router([SEES, model("a/b", provider("x", "", None))]) as router:
        done = await walk.run("models", "--provider", "hf", "--json", env=at(router))
    first, second = [json.loads(line) for line in done.out.splitlines()]
    assert (first["id"], first["input_usd_per_mtok"], first["window"], first["images"]) == ("hf/a/b", None, None, False)
    assert (second["id"], second["output_usd_per_mtok"], second["images"]) == ("hf/moonshotai/Kimi-K2.6", 4.0, True)
    assert second["routes"] == [
        {
            "provider": "together",
            "window": 262_144,
            "tools": True,
            "input_usd_per_mtok": 1.0,
            "output_usd_per_mtok": 4.0,
        }
    ]
    assert (second["key"], second["has_key"], second["source"]) == ("HF_TOKEN", True, "router")


async def test_models_are_filtered_by_words_provider_and_place(walk: Walk):
    async with Router([QWEN, SEES]) as router, serve(lm_studio({"id": "a", "type": "vlm"})) as server:
        env = at(router, LM_STUDIO_BASE_URL=server.url)
        by_route = await walk.run("models", "GROQ qwen", "--provider", "huggingface", env=env)
        local = await walk.run("models", "--local", env=env)
        own = await walk.run("models", "--provider", "lmstudio", env=env)
        assert len(router.lists) == 1, "local models need no list"
    assert [line.split()[0] for line in by_route.out.splitlines()[1:]] == ["hf/Qwen/Qwen3-32B"]
    assert local.out == own.out
    assert words(local.out.splitlines()[1]) == f"lm_studio/a ? free images {server.url[7:]}, not loaded none needed"
    assert local.err == ""


async def test_models_work_without_a_network(walk: Walk):
    async with Router([QWEN]) as router:
        env = at(router)
        nothing = await walk.run("models", "qwen3-32b", "--provider", "hf", "--offline", env=env)
        assert router.lists == []
        await walk.run("models", env=env)
    kept = await walk.run("models", "qwen3-32b", "--provider", "hf", env=env)
    for path in walk.home.rglob("router-*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "at": 1_700_000_000.0}))
    old = await walk.run("models", "qwen3-32b", "--provider", "hf", env=env)
    assert "hf/qwen/qwen3-32b" in nothing.out
    assert "The router's list cannot be had (offline): its models come from the price file" in nothing.err
    assert "live: novita, groq" in kept.out
    assert "live: novita, groq" in old.out
    assert " days old; a newer one cannot be had (" in old.err
    assert (nothing.code, kept.code, old.code) == (0, 0, 0)


@pytest.mark.parametrize(
    ("asked", "code", "what", "remedy"),
    [
        (("qwen3-32c", "--provider", "hf"), 1, "No model matches 'qwen3-32c'.", "Nearest: hf/Qwen/Qwen3-32B"),
        (("zzzzzzzz",), 1, "No model matches 'zzzzzzzz'.", "Take fewer or shorter words."),
        (("--local",), 1, "No local server serves a model (ollama 11434,", "`ollama serve`"),
        (("--provider", "vllm"), 1, "No model of vLLM is served on this machine.", "Start it: `vllm serve"),
        (("--provider", "openai-compatible"), 1, "No list here names the models of openai-compatible.", "--price"),
        (("--provider", "olama"), 2, "'olama' names no provider that is known.", "Did you mean ollama?"),
        (("--provider", "\x1b[31m"), 2, "'\\x1b[31m' names no provider that is known.", "Known: openai,"),
    ],
)
async def test_where_no_model_fits_it_is_said_what_is_near(walk: Walk, asked, code, what, remedy):
    async with Router([QWEN]) as router:
        done = await walk.run("models", *asked, env=at(router))
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(f"ml-intern: {what}")
    assert remedy in done.err


async def test_a_server_that_serves_nothing_is_told(walk: Walk):
    async with Router([QWEN]) as router, serve(ollama({})) as empty, serve(vllm("m\x1b[2J")) as forged:
        env = at(router, OLLAMA_BASE_URL=empty.url, VLLM_BASE_URL=forged.url)
        done = await walk.run("models", "--local", env=env)
    assert "Ollama answers and has no model." in done.err
    assert "vllm/m\\x1b[2J" in done.out
    assert "\x1b" not in done.out


async def test_without_a_model_all_ways_on_are_named(walk: Walk):
    async with serve(vllm("Qwen/Qwen3-8B")) as server:
        done = await walk.run("hi", env={**NOWHERE, "VLLM_BASE_URL": server.url})
    assert done.code == 2
    ways = ("HF_TOKEN", "ANTHROPIC_API_KEY", "`ml-intern models`", "--model vllm/Qwen/Qwen3-8B", "ml-intern demo")
    assert [way for way in ways if way not in done.err] == []
