import json
import statistics
import threading

import pytest

from ml_intern.app.settings import Flags, make_launch
from ml_intern.app.wire import open_session
from ml_intern.base.ids import new_id
from ml_intern.record.commands import Say
from ml_intern.record.events import ModelAsked, ModelReplied, ToolStarted
from tests.sandbox.test_environment import Index, wheel
from tests.walks.walk import MODEL, Hearing, Walk, bash, everything_in, step, story

SECRET = "hf_planted0123456789abcdef"
PASSWORD = "hunter2hunter2"


async def test_files_are_read_side_by_side_and_then_edited(walk: Walk):
    for name in ("a", "b", "c"):
        (walk.workspace / f"{name}.py").write_text(f"name = '{name}'\nvalue = 1\n")
    reads = [("read", {"path": f"{name}.py"}) for name in ("a", "b", "c")]
    edits = [("edit", {"path": f"{name}.py", "old_str": "value = 1", "new_str": "value = 2"}) for name in ("a", "b")]
    async with Hearing(story(reads, edits)) as double:
        done = await walk.say(double, "raise the values")
        assert done.code == 0, done.said
        answers = [
            message["content"] for message in json.loads(double.bodies[1])["messages"] if message["role"] == "tool"
        ]
    assert [f"name = '{name}'" in text for name, text in zip("abc", answers, strict=True)] == [True] * 3
    assert (walk.workspace / "a.py").read_text() == "name = 'a'\nvalue = 2\n"
    assert (walk.workspace / "c.py").read_text() == "name = 'c'\nvalue = 1\n"
    assert set((await walk.view()).files.changed) == {f"{walk.workspace}/{name}.py" for name in ("a", "b")}
    assert [answer.outcome for answer in await walk.answers()] == ["ok"] * 5


async def test_an_edit_is_refused_when_a_command_changed_the_file_since_it_was_read(walk: Walk):
    (walk.workspace / "a.py").write_text("value = 1\n")
    edit = ("edit", {"path": "a.py", "old_str": "value = 1", "new_str": "value = 2"})
    steps = (
        [("read", {"path": "a.py"})],
        [bash("echo 'more = 3' >> a.py")],
        [edit],
        [("read", {"path": "a.py"})],
        [edit],
    )
    async with Hearing(story(*steps)) as double:
        assert (await walk.say(double, "edit")).code == 0
    _, _, refused, _, done = await walk.answers()
    assert (refused.outcome, done.outcome) == ("failed", "ok")
    assert "read" in refused.text
    assert (walk.workspace / "a.py").read_text() == "value = 2\nmore = 3\n"


async def test_a_known_secret_is_kept_nowhere_and_a_call_that_holds_it_is_not_run(walk: Walk):
    walk.environ["HF_TOKEN"] = SECRET
    script = [
        step(0, bash(f"echo {SECRET} > leaked.txt"), ("write", {"path": "kept.txt", "content": f"token={SECRET}"})),
        step(1, bash("cat planted.txt"), ("read", {"path": "planted.txt"}), text=f"I was told {SECRET}."),
        step(2, text=f"It is {SECRET}, {SECRET[:9]} is not."),
    ]
    (walk.workspace / "planted.txt").write_text(f"key: {SECRET}\n")
    async with Hearing(script) as double:
        done = await walk.say(double, f"my token is {SECRET}", "--output-format", "stream-json")
        assert done.code == 0, done.said
        sent = b"".join(double.bodies)
    shown = await walk.run("show")
    await walk.close()
    kept = b"".join(path.read_bytes() for path in walk.data.glob("sessions.db*"))
    where = {"sent": sent, "said": (done.out + done.err + shown.out).encode(), "kept": kept}
    assert [name for name, text in where.items() if SECRET.encode() in text] == []
    assert all(b"[secret:HF_TOKEN]" in text for text in where.values())
    command, write, by_command, by_read = await walk.answers()
    assert (command.outcome, write.outcome) == ("denied", "denied")
    assert "the arguments hold a credential" in command.text
    assert "[secret:HF_TOKEN]" in by_command.text
    assert "[secret:HF_TOKEN]" in by_read.text
    assert not (walk.workspace / "leaked.txt").exists()
    assert not (walk.workspace / "kept.txt").exists()


async def test_text_of_every_script_goes_through_whole(walk: Walk):
    text = "größer 日本語 🙂 עברית \u0000 e\u0301 \u2028 \\n \"'`$(x)"
    plain = text.replace("\u0000", "")
    steps = (
        [("write", {"path": "日本語/ü 🙂.txt", "content": plain})],
        [bash("cat 日本語/ü*.txt; printf '\\xff\\xfe\\n'")],
    )
    async with Hearing(story(*steps, end=plain)) as double:
        done = await walk.say(double, plain)
        assert (done.code, done.out) == (0, f"{plain}\n"), done.said
        sent = json.loads(double.bodies[-1])["messages"]
    assert (walk.workspace / "日本語" / "ü 🙂.txt").read_text() == plain
    assert sent[1]["content"] == plain
    assert plain.split()[1] in sent[-1]["content"]
    assert "\ufffd" in sent[-1]["content"]


SCRIPT = """# /// script
# dependencies = ["small"]
# ///
import small
print("value", small.value)
"""


async def test_a_script_with_a_header_gets_its_packages_under_uv_run_and_under_python(walk: Walk):
    links = walk.place / "links"
    links.mkdir()
    wheel(links, "tiny", {"tiny.py": "value = 41\n"})
    wheel(links, "small", {"small.py": "from tiny import value\nvalue += 1\n"}, ("tiny",))
    walk.environ |= {"UV_FIND_LINKS": str(links), "UV_NO_INDEX": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    walk.environ |= {"UV_CACHE_DIR": str(walk.place / "uv-cache"), "PIP_CONFIG_FILE": "/dev/null"}
    steps = (
        [("write", {"path": "train.py", "content": SCRIPT})],
        [bash("uv run train.py && python train.py && cd / && python3 $OLDPWD/train.py")],
        [bash("python -c 'import small'"), bash("pip install small")],
    )
    async with Hearing(story(*steps)) as double:
        done = await walk.say(double, "train")
        assert done.code == 0, done.said
    _, ran, bare, pip = await walk.answers()
    assert (ran.outcome, ran.text.count("value 42")) == ("ok", 3), ran.text
    assert bare.outcome == pip.outcome == "failed"


async def test_a_private_index_is_used_and_its_credentials_are_nowhere(walk: Walk):
    links = walk.place / "links"
    links.mkdir()
    wheel(links, "tiny", {"tiny.py": "value = 41\n"})
    wheel(links, "small", {"small.py": "from tiny import value\nvalue += 1\n"}, ("tiny",))
    index = Index(links)
    walk.environ |= {
        "UV_DEFAULT_INDEX": index.url,
        "UV_CACHE_DIR": str(walk.place / "uv-cache"),
        "UV_HTTP_RETRIES": "0",
    }
    walk.environ |= {"PIP_CONFIG_FILE": "/dev/null"}
    steps = (
        [("write", {"path": "train.py", "content": SCRIPT})],
        [bash("uv run train.py; env; cat /proc/*/environ")],
        [("write", {"path": "other.py", "content": SCRIPT.replace("small", "unheard_of")})],
        [bash("uv run other.py")],
    )
    thread = threading.Thread(target=index.serve_forever, daemon=True)
    thread.start()
    try:
        async with Hearing(story(*steps)) as double:
            done = await walk.say(double, "train")
            sent = b"".join(double.bodies)
    finally:
        index.shutdown()
        index.server_close()
        thread.join()
    assert done.code == 0, done.said
    assert any("tiny" in path for path in index.asked)
    _, ran, _, missing = await walk.answers()
    assert "value 42" in ran.text, ran.text
    assert missing.outcome == "failed"
    assert "unheard" in missing.text
    await walk.close()
    environments = everything_in(walk.home / ".cache" / "ml-intern")
    for text in (sent, done.out.encode(), done.err.encode(), everything_in(walk.data), environments):
        assert PASSWORD.encode() not in text


async def test_a_reply_without_usage_is_booked_at_its_bound(walk: Walk):
    async with Hearing([step(0, text="Yes.", usage="none")], prices="1/4") as double:
        assert (await walk.say(double, "hello", "--price", "1/4")).code == 0
        owed = double.ledger.total()
    events = [entry.event for entry in await walk.entries()]
    [asked] = [event for event in events if isinstance(event, ModelAsked)]
    [replied] = [event for event in events if isinstance(event, ModelReplied)]
    assert (replied.bound, replied.usage) == (True, None)
    assert replied.cost == asked.reserved > owed
    assert (await walk.view()).purse.spent == asked.reserved


async def test_cached_tokens_are_counted_apart(walk: Walk):
    usage = {"prompt": 5000, "cached": 4096, "output": 7, "reasoning": 3}
    async with Hearing([step(0, text="Yes.", usage=usage)], prices="1/4") as double:
        done = await walk.say(double, "hello", "--price", "1/4", "--output-format", "json")
    found = json.loads(done.out)
    assert (found["prompt_tokens"], found["cached_tokens"], found["output_tokens"]) == (5000, 4096, 7)
    assert found["cost_usd"] == (5000 * 1 + 7 * 4) / 1_000_000


async def test_the_most_output_is_always_sent_and_shrinks_with_the_purse(walk: Walk):
    async with Hearing([{"when": {"step_below": 3}, **plan_again()}, step(3, text="Yes.")], prices="10/40") as double:
        flags = ("--price", "10/40", "--budget", "0.50")
        assert (await walk.say(double, "hello", *flags)).code in {0, 3}
        sent = [exchange.max_tokens or 0 for exchange in double.exchanges]
        assert double.ledger.total() <= 500_000
    asked = [entry.event.max_output for entry in await walk.entries() if isinstance(entry.event, ModelAsked)]
    assert sent == asked
    assert all(2_048 <= most < 16_384 for most in sent), sent
    assert sent[1:] == sorted(sent[1:], reverse=True)


def plan_again() -> dict[str, object]:
    return {"reply": {"calls": [{"name": "plan", "arguments": {"todos": []}}]}}


async def test_step_250_of_a_long_session_costs_no_more_than_step_10(walk: Walk):
    (walk.workspace / "notes.txt").write_text("a line of notes\n" * 20)
    calls = [{"name": "read", "arguments": {"path": "notes.txt"}}]
    script = [{"when": {"step_below": 299}, "reply": {"text": "I look.", "calls": calls}}, step(299, text="Done.")]
    async with Hearing(script, prices="0.01/0.01") as double:
        unguarded = ("--guard-repeats", "off", "--guard-stall", "off")
        done = await walk.say(double, "look often", "--price", "0.01/0.01", "--quiet", *unguarded)
        assert (done.code, done.out, len(double.exchanges)) == (0, "Done.\n", 300), done.said
        spans = [
            (later.arrived_ns - (earlier.ended_ns or 0)) / 1e6
            for earlier, later in zip(double.exchanges, double.exchanges[1:], strict=False)
        ]
    early, late = statistics.median(spans[5:25]), statistics.median(spans[240:260])
    print(f"between two requests: {early:.1f} ms at step 10, {late:.1f} ms at step 250; {done.seconds:.1f} s in all")
    assert late <= 2 * early + 2
    assert sum(isinstance(entry.event, ToolStarted) for entry in await walk.entries()) == 299


@pytest.mark.watch_loop(limit_s=0.25)
async def test_the_loop_is_never_blocked_by_a_turn_with_much_output(walk: Walk, monkeypatch: pytest.MonkeyPatch):
    for name, value in walk.environ.items():
        monkeypatch.setenv(name, value)
    much = "yes 'a line of output of some length' | head -c 10000000"
    steps = ([bash(much), bash(f"{much} > big.txt")], [("read", {"path": "big.txt"}), ("read", {"path": "."})])
    async with Hearing(story(*steps)) as double:
        launch = make_launch(Flags(cwd=str(walk.workspace), model=MODEL[1], base_url=double.url))
        async with open_session(launch) as opened:
            await opened.session.send(Say(new_id(), "print much"))
            await opened.session.run()
        assert len(double.exchanges) == 3
