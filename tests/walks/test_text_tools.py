"""A turn with a model that has no calls of its own, through the command line."""

from tests.walks.walk import Hearing, Walk, open_ends

NO_TOOLS = {"error": {"message": "registry.ollama.ai/library/tiny does not support tools", "type": "api_error"}}
CALL = 'I write.\n\n```tool_call\n{"name": "bash", "arguments": {"command": "echo one | tee a.txt"}}\n```'


async def test_a_model_without_tools_works_with_tools_in_words(walk: Walk):
    script = [
        {"when": {"tool_offered": "bash"}, "fault": {"status": 400, "body": NO_TOOLS}},
        {"when": {"step": 0}, "reply": {"text": CALL}},
        {"when": {"user_contains": "Answer of bash:"}, "reply": {"text": "It says one."}},
    ]
    async with Hearing(script) as double:
        done = await walk.say(double, "write a file")
        assert done.code == 0, done.said
        assert [each.status for each in double.exchanges] == [400, 200, 200]
        url = double.url
    assert "It says one." in done.out
    assert (
        f"learned: openai-compatible/m at {url} takes no tools, so they are put into words (kept for 1 h)\n" in done.err
    )
    assert (walk.workspace / "a.txt").read_text() == "one\n"
    assert open_ends(await walk.entries()) == []


async def test_the_next_session_knows_it_and_does_not_tell_it_again(walk: Walk):
    script = [
        {"when": {"tool_offered": "bash"}, "fault": {"status": 400, "body": NO_TOOLS}},
        {"reply": {"text": "Hi."}},
    ]
    async with Hearing(script) as double:
        first, second = await walk.say(double, "hi"), await walk.say(double, "hi")
        assert [each.status for each in double.exchanges] == [400, 200, 200]
    assert (first.code, second.code) == (0, 0), second.said
    assert [done.err.count("learned: ") for done in (first, second)] == [1, 0]
