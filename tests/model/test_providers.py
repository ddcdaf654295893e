"""Providers of other protocols: their real clients speak to servers here, and what comes back is ours."""

import json
import subprocess
import sys
from contextlib import AsyncExitStack, nullcontext, suppress
from importlib.util import find_spec

import pytest
from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel as TheirTestModel
from pydantic_ai.providers import infer_provider_class
from pydantic_ai.usage import RequestUsage

from ml_intern.base.errors import (
    BadSettings,
)
from ml_intern.model import adapted
from ml_intern.model.adapted import ADAPTED, require_installed
from ml_intern.model.catalog import describe, resolve
from ml_intern.model.port import CallDelta, TextDelta, ThinkingDelta
from ml_intern.model.providers.adapter import AdaptedModel, make
from ml_intern.model.providers.history import NEXT, OWN, usage_of
from ml_intern.record.messages import Answered, Asked, Call, Opaque, Reply, Text, Thinking, Usage
from tests.model.provider_scripts import KEY, replied
from tests.model.raw import request


# ---------------------------------------------------------------------------------------------------------- the table
def test_there_are_more_than_twenty_and_the_installed_version_knows_each():
    assert len(ADAPTED) >= 20
    # The clients of some are not installed for tests: their names are known all the same, or it were a ValueError.
    away = {"boto3", "cohere", "botocore"}
    for row in ADAPTED.values():
        with suppress(ImportError) if row.client in away else nullcontext():
            assert infer_provider_class(row.kind)


@pytest.mark.parametrize("name", [name for name, row in ADAPTED.items() if row.client == "openai" and row.keys])
async def test_every_provider_that_resembles_openai_can_be_made_with_its_key_and_its_address(name):
    row, closing = ADAPTED[name], AsyncExitStack()
    environ = {row.keys[0]: KEY}
    own = resolve(f"{name}/m", "" if row.base_url else "https://gateway.example/v1", environ)
    assert own.key == KEY
    if name == "azure":
        own = resolve(f"{name}/m", "https://x.openai.azure.com/openai/v1/", environ)
    if name == "azure-responses":
        own = resolve(f"{name}/m", "https://x.openai.azure.com/openai/v1/", environ)
    made = make(own, closing)
    assert made.model_name == "m"
    if row.base_url and name not in {"heroku"}:
        assert made.base_url is not None
        assert made.base_url.rstrip("/") == row.base_url
    if row.takes_base != "azure_endpoint":
        elsewhere = make(resolve(f"{name}/m", "http://127.0.0.1:9/v1", environ), closing)
        assert elsewhere.base_url is not None
        assert elsewhere.base_url.startswith("http://127.0.0.1:9/")


def test_a_provider_without_a_key_is_one_sentence_before_anything_is_imported():
    with pytest.raises(BadSettings, match="Google wants a key") as caught:
        resolve("gemini/gemini-3-pro", "", {})
    assert "GOOGLE_API_KEY or run `ml-intern login google`" in caught.value.remedy


def test_one_whose_account_decides_where_it_is_names_the_variable():
    with pytest.raises(BadSettings, match="names no address") as caught:
        resolve("azure/gpt-5", "", {"AZURE_OPENAI_API_KEY": KEY})
    assert "AZURE_OPENAI_ENDPOINT" in caught.value.remedy


def test_settings_that_a_client_misses_are_one_sentence_with_its_words():
    with pytest.raises(BadSettings, match="Snowflake cannot be asked like this: ") as caught:
        make(resolve("snowflake-cortex/m", "", {"SNOWFLAKE_TOKEN": KEY}), AsyncExitStack())
    assert "SNOWFLAKE_ACCOUNT" in caught.value.what
    assert KEY not in str(caught.value)


def test_a_missing_extra_is_one_sentence_with_the_command(monkeypatch):
    monkeypatch.setattr(adapted, "find_spec", lambda name: None if name == "pydantic_ai" else object())
    with pytest.raises(BadSettings, match=r"Google is asked through the extra \[providers\]") as caught:
        require_installed("google")
    assert "`pip install 'ml-intern[providers]'`" in caught.value.remedy


@pytest.mark.skipif(find_spec("cohere") is not None, reason="the client of Cohere is installed")
def test_a_client_that_is_missing_is_told_the_same_way():
    require_installed("google")
    with pytest.raises(BadSettings, match="no cohere"):
        require_installed("cohere")
    with pytest.raises(BadSettings, match="not installed") as caught:
        make(resolve("cohere/command-a", "", {"CO_API_KEY": KEY}), AsyncExitStack())
    assert "pip install 'ml-intern[providers]'" in caught.value.remedy


def test_prices_and_windows_come_from_the_price_file():
    info = describe("gemini/gemini-2.5-pro", "", "", {"GOOGLE_API_KEY": KEY})
    assert info.prices is not None
    assert info.prices.input > 0
    assert info.payer == "Google (GOOGLE_API_KEY)"


def test_nothing_of_it_is_imported_on_the_usual_way():
    code = (
        "import sys; import ml_intern.cli.main, ml_intern.cli.start, ml_intern.app.wire, ml_intern.cli.login;"
        "import ml_intern.model.wire.chat, ml_intern.model.wire.messages;"
        "from ml_intern.model.catalog import resolve; resolve('google/gemini-3-pro', '', {'GOOGLE_API_KEY': 'x'});"
        "from ml_intern.model.adapted import require_installed; require_installed('google');"
        "print([name for name in sys.modules if name.startswith(('pydantic_ai', 'keyring', 'google.genai', 'openai'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ------------------------------------------------------------------------------------- their own models, without a wire
def theirs(model) -> AdaptedModel:
    return AdaptedModel(resolve("google/gemini-2.5-pro", "", {"GOOGLE_API_KEY": KEY}), model=model)


async def test_their_test_model_calls_every_tool():
    _, end = await replied(theirs(TheirTestModel()))
    assert [call.tool for call in end.reply.calls] == ["bash"]
    assert end.finish == "calls"


async def test_calls_dribble_in_and_thinking_comes_first():
    async def stream(messages, info):
        assert info.model_settings["max_tokens"] == 1000
        yield {0: DeltaThinkingPart(content="I think.", signature="sig")}
        yield "Say"
        yield " so."
        yield {1: DeltaToolCall(name="bash", json_args='{"comm', tool_call_id="id-1")}
        yield {1: DeltaToolCall(json_args='and": "ls"}')}

    deltas, end = await replied(theirs(FunctionModel(stream_function=stream)))
    assert ThinkingDelta("I think.") in deltas
    assert "".join(each.arguments for each in deltas if isinstance(each, CallDelta)) == '{"command": "ls"}'
    thinking, text, made = (part for part in end.reply.parts if not (isinstance(part, Thinking) and part.field == NEXT))
    assert isinstance(thinking, Thinking)
    assert thinking.state is not None
    assert (thinking.text, thinking.field) == ("I think.", OWN)
    assert json.loads(thinking.state.value)["part"]["signature"] == "sig"
    assert text == Text("Say so.")
    assert isinstance(made, Call)
    assert (made.wire_id, made.arguments) == ("id-1", '{"command": "ls"}')


async def test_a_conversation_is_theirs_in_order_and_neighbours_are_one_request():
    seen: list[object] = []

    async def stream(messages, info):
        seen.extend(messages)
        yield "ok"

    foreign = Thinking("of another wire", "reasoning_content", Opaque("x"))
    history = (
        Asked("one"),
        Asked(" "),
        Reply((foreign, Text("two"), Call("c1", "w1", "ba sh", '{"a": 1}'), Call("c2", "w1", "bash", ""))),
        Answered("c1", "w1", "ba sh", "three"),
        Answered("c2", "w1", "bash", "four", ok=False),
        Reply(()),
        Asked("five"),
    )
    await replied(theirs(FunctionModel(stream_function=stream)), request(*history))
    first, reply, last = seen
    assert isinstance(first, ModelRequest)
    assert [type(part) for part in first.parts] == [SystemPromptPart, UserPromptPart, UserPromptPart]
    assert isinstance(reply, ModelResponse)
    assert reply.text == "two"
    assert reply.thinking is None
    assert [(call.tool_name, call.args, call.tool_call_id) for call in reply.tool_calls] == [
        ("ba_sh", '{"a": 1}', "w1"),
        ("bash", "{}", "c2"),
    ]
    assert isinstance(last, ModelRequest)
    returns = [part for part in last.parts if isinstance(part, ToolReturnPart)]
    assert [(part.tool_call_id, part.outcome) for part in returns] == [("w1", "success"), ("c2", "failed")]
    assert isinstance(last.parts[-1], UserPromptPart)


async def test_a_call_that_leaked_into_the_text_is_read():
    async def stream(messages, info):
        yield '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'

    deltas, end = await replied(theirs(FunctionModel(stream_function=stream)))
    assert [call.tool for call in end.reply.calls] == ["bash"]
    assert not [delta for delta in deltas if isinstance(delta, TextDelta) and "tool_call" in delta.text]


def test_usage_that_was_not_reported_is_unknown_and_not_zero():
    assert usage_of(RequestUsage()) is None
    assert usage_of(RequestUsage(input_tokens=5, unmeasured_requests=1)) is None
    full = RequestUsage(input_tokens=100, output_tokens=9, cache_read_tokens=60, cache_write_tokens=50)
    assert usage_of(full) == Usage(100, 9, 60, 40)
