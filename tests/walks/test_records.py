import hashlib
import json
import shutil

from ml_intern.record.codec import decode
from ml_intern.record.events import CapSet, OwnerTook, SessionStarted
from tests.walks.walk import Hearing, Walk, bash, step, story


async def test_an_empty_machine_has_no_sessions_and_says_how_to_start(walk: Walk):
    listed = await walk.run("sessions")
    assert (listed.code, listed.err) == (0, "")
    assert listed.out == 'No session yet. Start one: ml-intern "PROMPT", or try: ml-intern demo\n'
    assert (await walk.run("sessions", "--json")).out == ""


async def test_sessions_are_listed_newest_first_and_resuming_brings_one_to_the_front(walk: Walk):
    async with Hearing(story(end="Yes."), prices="1/4") as double:
        for word in ("alpha", "beta", "gamma"):
            assert (await walk.say(double, word, "--price", "1/4")).code == 0
        listed = (await walk.run("sessions")).out.splitlines()
        assert listed[0].split() == ["SESSION", "CHANGED", "STATE", "SPENT", "TITLE"]
        assert [line.split()[-1] for line in listed[1:]] == ["gamma", "beta", "alpha"]
        assert all(" done " in line and " $0.0" in line for line in listed[1:]), listed
        oldest = listed[-1].split()[0]
        again = [{"when": {"user_contains": "again"}, "reply": {"text": "Again."}}]
    async with Hearing(again) as double:
        more = await walk.say(double, "again", "--resume", oldest, "--price", "1/4")
        assert (more.code, more.out) == (0, "Again.\n"), more.said
    rows = [json.loads(line) for line in (await walk.run("sessions", "--json")).out.splitlines()]
    assert [row["preview"] for row in rows] == ["alpha", "gamma", "beta"]
    assert all(row["workspace"] == str(walk.workspace) for row in rows)
    assert {"id", "created", "updated", "title", "model", "spent", "state"} <= rows[0].keys()
    assert len((await walk.run("sessions", "--limit", "2")).out.splitlines()) == 3
    assert len((await walk.run("sessions", "-n", "1", "--json")).out.splitlines()) == 1


async def test_show_tells_what_was_said_done_and_spent(walk: Walk):
    script = story([bash("echo hello > made.txt", description="make it")], end="Made.")
    async with Hearing(script, prices="1/4") as double:
        assert (await walk.say(double, "make it", "--price", "1/4")).code == 0
    shown = await walk.run("show")
    session = (await walk.entries())[0].event
    assert isinstance(session, SessionStarted)
    for words in (f"session {session.session} in {walk.workspace}", "> make it", "mode: auto", "budget: $5.00"):
        assert words in shown.out.splitlines() or words in shown.out, shown.out
    assert "ok      echo hello > made.txt" in shown.out
    assert f"file {walk.workspace}/made.txt" in shown.out
    assert " of $5.00" in shown.out
    by_prefix = await walk.run("show", session.session[:14].upper())
    assert (by_prefix.code, by_prefix.out) == (0, shown.out)
    lines = (await walk.run("show", "last", "--json")).out.splitlines()
    assert [decode(line.encode()) for line in lines] == await walk.entries()


async def test_an_open_session_names_its_owner_and_is_not_disturbed(walk: Walk):
    async with Hearing(story([bash("touch began; while [ ! -e go ]; do sleep 0.05; done")], end="Free.")) as double:
        running = await walk.start("wait", "--model", "openai-compatible/m", "--base-url", double.url)
        await running.until_said("step 1")
        shown = await walk.run("show")
        assert f"open in process {running.pid} (headless)" in shown.out
        refused = await walk.run("resume")
        assert refused.code == 2
        assert f"is open in another process: process {running.pid} (headless)" in refused.err
        assert "--take-over" in refused.err
        (walk.workspace / "go").touch()
        done = await running.ended()
    assert (done.code, done.out) == (0, "Free.\n"), done.said


async def test_resuming_what_is_done_repeats_the_answer_and_asks_nobody(walk: Walk):
    async with Hearing(story(end="It is 42.")) as double:
        assert (await walk.say(double, "what is it?")).code == 0
        for words in (("resume",), ("resume", "last", "--output-format", "json")):
            done = await walk.run(*words)
            assert done.code == 0, done.said
            assert "It is 42." in done.out or len(words) > 2
        assert len(double.exchanges) == 1
        assert json.loads(done.out)["steps"] == 0


async def test_resume_says_a_message_in_the_session(walk: Walk):
    async with Hearing([step(0, text="One."), step(1, text="Two.")]) as double:
        assert (await walk.say(double, "first")).out == "One.\n"
        assert (await walk.run("resume", "last", "second")).out == "Two.\n"
        assert (await walk.say(double, "third", "--resume", "last")).code == 1  # the script is over
        assert [len(json.loads(body)["messages"]) for body in double.bodies] == [2, 4, 6]
    assert sum(isinstance(entry.event, OwnerTook) for entry in await walk.entries()) == 3


async def test_a_budget_that_is_used_up_is_raised_by_resume_and_never_below_what_is_spent(walk: Walk):
    script = [
        {
            "when": {"step_below": 30},
            "reply": {"text": "x" * 400, "calls": [{"name": "plan", "arguments": {"todos": []}}]},
        }
    ]
    script += [step(number, text="There.") for number in range(30, 40)]
    async with Hearing(script, prices="20/80") as double:
        done = await walk.say(double, "go", "--price", "20/80", "--budget", "0.90", "--guard-repeats", "off")
        spent = double.ledger.total()
        assert done.code == 3, done.said
        assert 0 < spent <= 900_000
        low = await walk.run("resume", "--budget", "0.01")
        assert (low.code, "is less than what this session has spent" in low.err) == (2, True), low.said
        same = await walk.run("resume")
        assert same.code == 3, same.said
        more = await walk.run("resume", "--budget", "50")
        assert (more.code, more.out) == (0, "There.\n"), more.said
        assert (await walk.view()).purse.spent == double.ledger.total()
    caps = [entry.event.cap for entry in await walk.entries() if isinstance(entry.event, CapSet)]
    assert caps == [900_000, 50_000_000]


async def test_a_session_goes_on_in_its_own_workspace_wherever_it_is_resumed(walk: Walk):
    other = walk.place / "elsewhere"
    other.mkdir()
    script = [step(0, text="Hi."), step(1, bash("pwd | tee where")), step(2, text="Written.")]
    async with Hearing(script) as double:
        assert (await walk.say(double, "hello")).code == 0
        done = await walk.run("resume", "last", "write", cwd=other)
    assert (done.code, done.out) == (0, "Written.\n"), done.said
    assert (walk.workspace / "where").read_text() == f"{walk.workspace}\n"
    assert list(other.iterdir()) == []


async def test_a_session_whose_workspace_is_gone_says_so(walk: Walk):
    gone = walk.place / "gone"
    gone.mkdir()
    async with Hearing(story(end="Hi.")) as double:
        assert (await walk.say(double, "hello", "--cwd", str(gone))).code == 0
        shutil.rmtree(gone)
        done = await walk.run("resume", "last", "more")
        assert len(double.exchanges) == 1
    assert done.code == 2, done.said
    assert f"The workspace {gone} is not a folder." in done.err
    assert "Traceback" not in done.err
    assert (await walk.run("show")).code == 0


async def test_what_was_kept_of_a_long_output_is_paged_by_the_model_and_printed_by_show(walk: Walk):
    make = (
        'i=0; while [ $i -lt 200000 ]; do echo "line $i $RANDOM padding to make it about fifty bytes"; i=$((i+1)); done'
    )
    script = [
        step(0, bash(f"{make} > all.txt; cat all.txt")),
        step(1, ("read", {"path": "{{answer:-1:/(blob:[0-9a-f]{64})/}}", "offset": 100_001, "limit": 2})),
        step(2, text="Read."),
    ]
    async with Hearing(script) as double:
        done = await walk.say(double, "print much")
        assert done.code == 0, done.said
        assert max(len(body) for body in double.bodies) < 100_000
    printed, page = await walk.answers()
    whole = (walk.workspace / "all.txt").read_bytes()
    assert len(whole) > 8_000_000
    assert printed.blob is not None
    assert printed.blob == hashlib.sha256(whole).hexdigest()
    assert "line 0 " in printed.text
    assert "line 199999 " in printed.text
    assert "line 100000 " in page.text
    assert "line 100001 " in page.text
    written = walk.place / "blob"
    shown = await walk.run("show", "last", "--blob", printed.blob, before=("bash", "-c", f'"$0" "$@" > {written}'))
    assert (shown.code, written.read_bytes()) == (0, whole)
