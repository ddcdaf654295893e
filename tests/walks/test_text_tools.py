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
    assert "It says one." in done.out
    assert (walk.workspace / "a.txt").read_text() == "one\n"
    assert open_ends(await walk.entries()) == []
