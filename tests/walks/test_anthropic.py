"""A turn over the messages API, through the command line: parallel calls, signed thinking, a crash of the server."""

from tests.doubles.anthropic_server import AnthropicDouble
from tests.walks.walk import Hearing, Walk, bash, open_ends, step

KEY = "sk-ant-api03-0123456789abcdefghijklmnop"
OVERLOADED = {"type": "overloaded_error", "message": "Overloaded"}


async def test_a_turn_with_parallel_calls_and_thinking_that_goes_back_signed(walk: Walk):
    script = [
        {"fault": {"status": 529, "retry_after": 0.01}, "times": 1},
        {"when": {"step": 1}, "fault": {"error": OVERLOADED, "after": 6}, "times": 1},
        step(0, bash("echo one > a.txt"), bash("echo two"), thinking="I need both. é", redacted="r", text="I write."),
        step(1, bash("cat a.txt; exit 3"), thinking="And now to read."),
        step(2, text="It holds {{answer:2:/(one)/}}."),
    ]
    walk.environ["ANTHROPIC_API_KEY"] = KEY
    async with AnthropicDouble(script, key=KEY, prices="3/15") as double:
        walk.environ["ANTHROPIC_BASE_URL"] = double.url.removesuffix("/v1")
        done = await walk.run("write and read", "--model", "anthropic/claude-sonnet-5-5", "--price", "3/15")
        assert done.code == 0, done.said
        assert "It holds one." in done.out
        assert [each.status for each in double.exchanges] == [529, 200, 200, 200, 200]
        last = double.bodies[-1]["messages"]
        view = await walk.view()
        assert view.purse.spent >= double.ledger.total()
    assert (walk.workspace / "a.txt").read_text() == "one\n"
    kinds = [[block["type"] for block in row["content"]] for row in last]
    assert kinds == [
        ["text"],
        ["redacted_thinking", "thinking", "text", "tool_use", "tool_use"],
        ["tool_result", "tool_result"],
        ["thinking", "tool_use"],
        ["tool_result"],
    ]
    # The double refuses a request whose thinking does not fit its signature: it went back as it came.
    assert last[1]["content"][1]["thinking"] == "I need both. é"
    assert open_ends(await walk.entries()) == []
    assert KEY not in done.out + done.err


async def test_a_session_goes_on_over_the_messages_api_after_a_turn_over_chat_completions(walk: Walk):
    async with Hearing([step(0, bash("echo hi"), thinking="Hm."), step(1, text="Said.")]) as chat:
        assert (await walk.say(chat, "say hi")).code == 0
    async with AnthropicDouble([{"reply": {"text": "Still here."}}]) as double:
        there = ("--model", "anthropic-compatible/m", "--base-url", double.url)
        done = await walk.run("and now?", "--resume", "last", *there)
        assert done.code == 0, done.said
        assert "Still here." in done.out
        kinds = [[block["type"] for block in row["content"]] for row in double.bodies[0]["messages"]]
        assert kinds == [["text"], ["tool_use"], ["tool_result"], ["text"], ["text"]]
