"""A whole turn with a provider of another protocol, through the real command line and its real client."""

from ml_intern.record.events import ModelReplied
from tests.doubles.sse_server import SseDouble
from tests.walks.walk import Walk, everything_in, open_ends

KEY = "AIza-a-key-of-the-walk-0123"
USAGE = {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}


def said(*parts, **more):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}], "usageMetadata": USAGE}


def call(command: str) -> dict[str, object]:
    return {"functionCall": {"name": "bash", "args": {"command": command}}, "thoughtSignature": "c2lnbmVk"}


async def test_a_turn_with_tools_through_the_adapter(walk: Walk):
    limited = (429, {"retry-after": "0"}, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "slow"}})
    script = (
        [said(call("echo one | tee a.txt"), finishReason="STOP")],
        limited,
        [said({"text": "Done."}, finishReason="STOP")],
    )
    async with SseDouble(*script) as double:
        words = ("write a file", "--model", "gemini/gemini-2.5-pro", "--base-url", double.url)
        done = await walk.run(*words, env={"GOOGLE_API_KEY": KEY})
        assert done.code == 0, done.said
        bodies = double.bodies
    assert (walk.workspace / "a.txt").read_text() == "one\n"
    assert "Done." in done.out
    entries = await walk.entries()
    assert open_ends(entries) == []
    usages = [entry.event.usage for entry in entries if isinstance(entry.event, ModelReplied)]
    assert [usage.prompt for usage in usages if usage] == [100, 100]
    # What was signed came back out of the record byte for byte.
    assert "c2lnbmVk" in str(bodies[-1])
    assert KEY.encode() not in everything_in(walk.data)
    resumed = SseDouble([said({"text": "Still here."}, finishReason="STOP")])
    async with resumed as double:
        again = await walk.run("resume", "last", "and now?", "--base-url", double.url, env={"GOOGLE_API_KEY": KEY})
        assert again.code == 0, again.said
        assert "c2lnbmVk" in str(double.bodies[0])


async def test_a_provider_that_wants_more_than_a_key_is_one_sentence(walk: Walk):
    done = await walk.run("go", "--model", "snowflake-cortex/x", "--price", "1/1", env={"SNOWFLAKE_TOKEN": KEY})
    assert (done.code, done.out) == (2, ""), done.said
    assert "Snowflake cannot be asked like this" in done.err
    assert KEY not in done.err
    assert "Traceback" not in done.err
