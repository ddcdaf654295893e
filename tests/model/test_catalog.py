"""Which endpoint an id means, and what is known of its model."""

import pytest

from ml_intern.base.errors import BadSettings
from ml_intern.model.catalog import (
    PROVIDERS,
    base_url_of,
    billed,
    describe,
    described,
    find_provider,
    is_loopback,
    resolve,
)
from ml_intern.model.prices import FREE
from ml_intern.record.messages import Prices

KEYS = {name: f"key-of-{name}" for provider in PROVIDERS.values() for name in provider.keys}


@pytest.mark.parametrize(
    ("model_id", "full", "url"),
    [
        ("openai/gpt-5", "openai/gpt-5", "https://api.openai.com/v1"),
        ("OpenAI/gpt-5", "openai/gpt-5", "https://api.openai.com/v1"),
        ("hf/Qwen/Qwen3-32B:groq", "hf/Qwen/Qwen3-32B:groq", "https://router.huggingface.co/v1"),
        ("huggingface/Qwen/Qwen3-32B", "hf/Qwen/Qwen3-32B", "https://router.huggingface.co/v1"),
        ("Qwen/Qwen3-32B", "hf/Qwen/Qwen3-32B", "https://router.huggingface.co/v1"),
        (
            "moonshotai/Kimi-K2-Instruct:novita",
            "hf/moonshotai/Kimi-K2-Instruct:novita",
            "https://router.huggingface.co/v1",
        ),
        ("deepseek-ai/DeepSeek-V3", "hf/deepseek-ai/DeepSeek-V3", "https://router.huggingface.co/v1"),
        ("mistralai/Mistral-Small", "hf/mistralai/Mistral-Small", "https://router.huggingface.co/v1"),
        ("google/gemma-3-27b-it", "hf/google/gemma-3-27b-it", "https://router.huggingface.co/v1"),
        (
            "meta-llama/Llama-3.3-70B-Instruct",
            "hf/meta-llama/Llama-3.3-70B-Instruct",
            "https://router.huggingface.co/v1",
        ),
        (
            "openrouter/anthropic/claude-sonnet-4.5",
            "openrouter/anthropic/claude-sonnet-4.5",
            "https://openrouter.ai/api/v1",
        ),
        ("anthropic/claude-sonnet-4-5", "anthropic/claude-sonnet-4-5", "https://api.anthropic.com/v1"),
        ("deepseek/deepseek-chat", "deepseek/deepseek-chat", "https://api.deepseek.com/v1"),
        ("kimi/kimi-k2", "moonshot/kimi-k2", "https://api.moonshot.ai/v1"),
        ("ollama/qwen3:4b", "ollama/qwen3:4b", "http://127.0.0.1:11434/v1"),
        ("vllm/Qwen/Qwen3-8B", "vllm/Qwen/Qwen3-8B", "http://127.0.0.1:8000/v1"),
        ("lm_studio/qwen", "lm_studio/qwen", "http://127.0.0.1:1234/v1"),
        ("lmstudio/qwen", "lm_studio/qwen", "http://127.0.0.1:1234/v1"),
        ("llamacpp/any", "llamacpp/any", "http://127.0.0.1:8080/v1"),
        ("llama.cpp/any", "llamacpp/any", "http://127.0.0.1:8080/v1"),
    ],
)
def test_an_id_means_an_endpoint(model_id, full, url):
    endpoint = resolve(model_id, "", KEYS)
    assert (endpoint.id, endpoint.base_url) == (full, url)
    assert resolve(endpoint.id, "", KEYS) == endpoint


@pytest.mark.parametrize(
    ("model_id", "meant"),
    [
        ("opnai/gpt-5", "openai/gpt-5"),
        ("olama/qwen3", "ollama/qwen3"),
        ("vlm/x", "vllm/x"),
        ("openruter/a/b", "openrouter/a/b"),
        ("depseek/deepseek-chat", "deepseek/deepseek-chat"),
        ("gpt-5", "openai/gpt-5"),
        ("a/b/c", ""),
        ("", ""),
        ("/x", ""),
    ],
)
def test_an_id_that_means_nothing_is_refused_with_the_nearest(model_id, meant):
    with pytest.raises(BadSettings) as caught:
        resolve(model_id, "", KEYS)
    assert meant in caught.value.remedy
    assert "Known: openai, anthropic, hf," in caught.value.remedy


@pytest.mark.parametrize(
    ("model_id", "full"),
    [
        ("gemini/gemini-3-pro", "google/gemini-3-pro"),
        ("google/gemini-3-pro", "google/gemini-3-pro"),
        ("google/gemma-3-27b-it", "hf/google/gemma-3-27b-it"),
        ("gemini/gemma-3-27b-it", "google/gemma-3-27b-it"),
        ("cohere/command-a", "cohere/command-a"),
        ("bedrock/us.amazon.nova-pro-v1:0", "bedrock/us.amazon.nova-pro-v1:0"),
        ("vertex/gemini-3-pro", "google-vertex/gemini-3-pro"),
    ],
)
def test_a_provider_of_another_wire_goes_to_the_adapter(model_id, full):
    found = resolve(model_id, "", {**KEYS, "GOOGLE_API_KEY": "AIzakey", "CO_API_KEY": "cokey"})
    assert found.id == full
    assert found.provider.wire == ("chat" if full.startswith("hf/") else "adapted")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/v1"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/v1"),
        ("http://127.0.0.1:9000/v1", "http://127.0.0.1:9000/v1"),
        ("http://127.0.0.1:9000/v1/", "http://127.0.0.1:9000/v1"),
        ("http://127.0.0.1:9000/v1/chat/completions", "http://127.0.0.1:9000/v1"),
        ("https://gpu.example/llm/api", "https://gpu.example/llm/api"),
        ("gpu.example", "https://gpu.example/v1"),
        ("localhost:9000", "http://localhost:9000/v1"),
        (":9000", "http://127.0.0.1:9000/v1"),
        ("0.0.0.0:9000", "http://127.0.0.1:9000/v1"),
        ("http://[::1]:9000", "http://[::1]:9000/v1"),
    ],
)
def test_a_base_url_is_completed(given, url):
    assert resolve("openai-compatible/m", given, {}).base_url == url


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1"),
        ("https://gateway.example/anthropic", "https://gateway.example/anthropic/v1"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/v1"),
    ],
)
def test_the_address_of_a_messages_api_is_the_one_that_the_official_client_takes(given, url):
    environ = {"ANTHROPIC_BASE_URL": given, "ANTHROPIC_API_KEY": "k"}
    assert resolve("anthropic/claude-x", "", environ).base_url == url
    assert resolve("anthropic-compatible/x", given, {}).base_url == url


@pytest.mark.parametrize(
    "given", ["ftp://x/v1", "http://", "http://x:99999/v1", "http://x/v1?key=1", "http://x/v1#a", "://"]
)
def test_a_base_url_that_is_none_is_refused(given):
    with pytest.raises(BadSettings, match="not a base URL"):
        resolve("openai-compatible/m", given, {})


def test_a_password_in_a_base_url_is_refused_and_not_repeated():
    with pytest.raises(BadSettings) as caught:
        resolve("openai-compatible/m", "https://me:hunter2-hunter2@x.example/v1", {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("model_id", "environ", "url"),
    [
        ("openai/x", {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}, "http://127.0.0.1:1/v1"),
        ("ollama/x", {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434/v1"),
        ("ollama/x", {"OLLAMA_HOST": ":1234"}, "http://127.0.0.1:1234/v1"),
        ("ollama/x", {"OLLAMA_HOST": "gpu-box"}, "http://gpu-box:11434/v1"),
        ("ollama/x", {"OLLAMA_HOST": "https://gpu-box"}, "https://gpu-box/v1"),
        ("vllm/x", {"VLLM_BASE_URL": "http://gpu-box:8000"}, "http://gpu-box:8000/v1"),
        ("llamacpp/x", {"LOCAL_LLM_BASE_URL": "http://gpu-box:8000"}, "http://gpu-box:8000/v1"),
        ("openai-compatible/x", {"OPENAI_COMPATIBLE_BASE_URL": "http://gpu-box:8000"}, "http://gpu-box:8000/v1"),
    ],
)
def test_the_environment_may_name_the_address(model_id, environ, url):
    assert resolve(model_id, "", environ).base_url == url
    assert resolve(model_id, "http://127.0.0.1:7", environ).base_url == "http://127.0.0.1:7/v1"


def test_a_compatible_server_without_an_address_is_refused():
    with pytest.raises(BadSettings, match="no address") as caught:
        resolve("openai-compatible/m", "", {})
    assert "--base-url" in caught.value.remedy


def test_a_bare_id_with_a_base_url_does_not_take_the_hubs_token_there():
    endpoint = resolve("Qwen/Qwen3-8B", "http://gpu.example:8000", {"HF_TOKEN": "hf_xxxxxxxxxxxxxxxx"})
    assert (endpoint.id, endpoint.key) == ("openai-compatible/Qwen/Qwen3-8B", "")
    assert resolve("gpt-oss", "http://127.0.0.1:8000", {}).id == "openai-compatible/gpt-oss"


@pytest.mark.parametrize("model_id", ["openai/gpt-5", "openrouter/a/b", "Qwen/Qwen3-8B", "deepseek/x"])
def test_a_provider_that_wants_a_key_is_not_asked_without_one(model_id, tmp_path):
    with pytest.raises(BadSettings, match="wants a key") as caught:
        resolve(model_id, "", {"HOME": str(tmp_path)})
    assert "_API_KEY" in caught.value.remedy or "HF_TOKEN" in caught.value.remedy


def test_a_server_of_ones_own_needs_no_key():
    assert resolve("vllm/x", "http://gpu-box:8000", {}).key == ""
    assert resolve("openai-compatible/x", "http://gpu-box:8000", {}).key == ""
    assert resolve("openai/x", "http://127.0.0.1:8000", {}).key == ""


@pytest.mark.parametrize(("model_id", "words"), [("ollama", "ollama/MODEL"), ("openai/", "openai/MODEL")])
def test_a_provider_without_a_model_is_told_where_they_are_listed(model_id, words):
    with pytest.raises(BadSettings, match="names no model of") as caught:
        resolve(model_id, "", KEYS)
    assert caught.value.remedy == f"Write {words}: `ml-intern models {words.partition('/')[0]}` lists them."


def test_an_endpoint_does_not_show_its_key():
    assert "key-of" not in repr(resolve("openai/gpt-5", "", KEYS)).replace("key_source='OPENAI_API_KEY'", "")


def test_a_listed_model_is_described():
    info = describe("openai/gpt-5", "", "", KEYS)
    assert (info.id, info.window, info.max_output, info.payer) == (
        "openai/gpt-5",
        400_000,
        None,
        "OpenAI (OPENAI_API_KEY)",
    )
    assert info.prices is not None
    assert info.prices.input == 1_250_000


def test_unknown_is_not_free():
    info = describe("openai/no-such-model", "", "", KEYS)
    assert (info.prices, info.window) == (None, None)
    assert describe("openai-compatible/m", "http://gpu.example", "", {}).prices is None
    assert describe("openai/gpt-5", "https://proxy.example/v1", "", KEYS).prices is None


def test_this_machine_is_free_and_pays_itself():
    for model_id, url in (
        ("ollama/x", ""),
        ("openai-compatible/m", "http://localhost:1"),
        ("openai/gpt-5", "http://[::1]:1"),
    ):
        info = describe(model_id, url, "", KEYS)
        assert (info.prices, info.payer, info.window) == (FREE, "this machine", None)


def test_a_price_of_the_command_line_goes_before_all():
    for model_id, url in (
        ("openai/gpt-5", ""),
        ("openai-compatible/m", "http://127.0.0.1:1"),
        ("openai-compatible/m", "http://x.example"),
    ):
        info = describe(model_id, url, "1/4", KEYS)
        assert info.prices == Prices(1_000_000, 4_000_000, source="--price")
    assert describe("openai/gpt-5", "", "1/4", KEYS).window == 400_000


def test_the_hubs_router_is_priced_by_route_or_by_the_dearest():
    by_route = describe("hf/Qwen/Qwen3-32B:groq", "", "", KEYS).prices
    by_policy = describe("hf/Qwen/Qwen3-32B:cheapest", "", "", KEYS).prices
    by_itself = describe("Qwen/Qwen3-32B", "", "", KEYS).prices
    assert by_route is not None
    assert by_itself is not None
    assert by_policy == by_itself
    assert by_itself.input >= by_route.input
    assert "dearest of" in by_itself.source
    assert describe("Qwen/Qwen3-32B:no-such-provider", "", "", KEYS).prices is None


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("127.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_this_machine_is_known(host, is_it):
    assert is_loopback(host) is is_it


def test_an_organisation_of_the_hub_is_named_as_the_payer_where_the_router_is_asked():
    hub = billed(resolve("Qwen/Qwen3-32B", "", KEYS), "acme")
    assert (hub.bill_to, described(hub).payer) == ("acme", "hf (acme)")
    assert described(billed(hub, "")).payer == "hf (acme)"
    other = billed(resolve("openai/gpt-5", "", KEYS), "acme")
    assert (other.bill_to, described(other).payer) == ("", "OpenAI (OPENAI_API_KEY)")


def test_the_router_may_stand_elsewhere():
    assert base_url_of(PROVIDERS["hf"], {}) == "https://router.huggingface.co/v1"
    environ = {"HF_BASE_URL": "gateway.example/hf"}
    assert base_url_of(PROVIDERS["hf"], environ) == "https://gateway.example/hf"
    assert resolve("Qwen/Qwen3-32B", "", {**KEYS, **environ}).base_url == "https://gateway.example/hf"


@pytest.mark.parametrize(("name", "found"), [("hf", "hf"), ("HuggingFace", "hf"), ("lmstudio", "lm_studio")])
def test_a_provider_has_names(name, found):
    assert find_provider(name).id == found


@pytest.mark.parametrize(("name", "remedy"), [("olama", "Did you mean ollama?"), ("zzz", "Known: openai, anthropic")])
def test_a_provider_that_is_none_is_refused_with_the_nearest(name, remedy):
    with pytest.raises(BadSettings) as caught:
        find_provider(name)
    assert remedy in caught.value.remedy
