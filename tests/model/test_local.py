"""Which local servers answer; and without a model the way on is told, in three lines, quickly."""

import time

from ml_intern.model.local import local_models, no_model, servers
from tests.doubles.local_servers import listed, llamacpp, lm_studio, ollama, serve, tgi, vllm

NOWHERE = {f"{name}_BASE_URL": "http://127.0.0.1:1" for name in ("OLLAMA", "VLLM", "LM_STUDIO", "LLAMACPP", "TGI")}
LIST = {"/v1/models": listed("qwen3:4b", "other")}


async def test_no_server_is_told_as_such():
    error = await no_model(NOWHERE)
    key, local, demo = error.remedy.split("\n")
    assert "hf auth login" in key
    for name in ("HF_TOKEN", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        assert name in key
    assert "none answers (ollama 11434, vllm 8000, lm_studio 1234, llamacpp 8080, tgi 8080)" in local
    assert "ml-intern demo" in demo


async def test_a_server_that_answers_is_named_so_that_it_can_be_typed():
    async with serve(LIST) as server:
        environ = {**NOWHERE, "OLLAMA_BASE_URL": server.url, "OLLAMA_API_KEY": "k"}
        assert await local_models(environ) == ("ollama/qwen3:4b",)
        assert "--model ollama/qwen3:4b" in (await no_model(environ)).remedy
    assert server.asked[0].startswith("GET /v1/models HTTP/1.0\r\n")
    assert "Authorization: Bearer k" in server.asked[0]


async def test_servers_that_answer_otherwise_are_passed_over():
    async with (
        serve({"/v1/models": {}}) as empty,
        serve({"/v1/models": "<html>"}) as page,
        serve({}) as lost,
        serve(LIST, delay_s=2.0) as slow,
        serve({"/v1/models": {"data": [7]}}) as odd,
    ):
        urls = [each.url for each in (empty, page, lost, slow, odd)]
        begun = time.perf_counter()
        assert await local_models(dict(zip(NOWHERE, urls, strict=True))) == ()
        assert time.perf_counter() - begun < 0.8


async def test_a_server_without_a_model_answers_all_the_same():
    async with serve({"/v1/models": {"data": None}}) as server:
        environ = {**NOWHERE, "OLLAMA_BASE_URL": server.url}
        assert [each.names for each in await servers(environ)] == [()]
        assert await local_models(environ) == ()


async def test_servers_that_share_an_address_are_told_apart_by_what_only_one_of_them_answers():
    kinds = {
        "ollama": ollama({"m": {}}),
        "lm_studio": lm_studio({"id": "m"}),
        "tgi": tgi("m"),
        "llamacpp": llamacpp("m"),
        "vllm": vllm("m"),
    }
    for kind, pages in kinds.items():
        async with serve(pages) as server:
            assert await local_models({"LOCAL_LLM_BASE_URL": server.url}) == (f"{kind}/m",)


async def test_a_server_elsewhere_is_not_probed():
    assert await local_models({**NOWHERE, "OLLAMA_BASE_URL": "http://gpu.example:11434"}) == ()


async def test_a_variable_that_names_no_address_is_no_reason_to_fail():
    assert await local_models({**NOWHERE, "OLLAMA_BASE_URL": "ftp://x"}) == ()
