"""What a person does to whole sessions from the terminal."""

import json
import os
import pty
import shutil

import pytest

from ml_intern.record.events import CapSet, SessionStarted, Undone
from tests.walks.walk import Hearing, Walk, bash, everything_in, step, story

TOKEN = "hf_" + "aB3" * 12


async def said(walk: Walk, prompt: str, *steps, end: str = "Done.") -> str:
    """One session of one turn; its id."""
    async with Hearing(story(*steps, end=end), prices="1/4") as double:
        done = await walk.say(double, prompt, "--price", "1/4")
    assert done.code == 0, done.said
    return await newest(walk)


async def newest(walk: Walk) -> str:
    return json.loads((await walk.run("sessions", "--json", "-n", "1")).out)["id"]


async def rows(walk: Walk) -> dict[str, dict]:
    listed = (await walk.run("sessions", "--json")).out
    return {row["id"]: row for row in map(json.loads, listed.splitlines())}


async def test_a_session_is_called_by_what_was_asked_until_it_is_renamed(walk: Walk):
    session = await said(walk, "Please train a *small* model. Then stop.")
    assert (await walk.run("sessions")).out.splitlines()[1].endswith("train a *small* model")
    done = await walk.run("sessions", "rename", session[:12], "Digits,", "first try")
    assert (done.code, done.out) == (0, f"{session} is now called: Digits, first try\n"), done.said
    assert (await walk.run("sessions")).out.splitlines()[1].endswith("Digits, first try")
    empty = await walk.run("sessions", "rename", "last", "  ")
    assert (empty.code, empty.out) == (2, "")
    assert "The title is empty." in empty.err


async def test_an_undone_turn_is_not_sent_again_and_stays_paid(walk: Walk):
    script = [
        {"when": {"user_contains": "third"}, "reply": {"text": "Three."}},
        step(0, text="One."),
        step(1, text="Two."),
    ]
    async with Hearing(script, prices="1/4") as double:
        assert (await walk.say(double, "first", "--price", "1/4")).code == 0
        assert (await walk.run("resume", "last", "second")).code == 0
        spent = (await walk.view()).purse.spent
        undone = await walk.run("sessions", "undo")
        assert (undone.code, "1 turn undone" in undone.out) == (0, True), undone.said
        assert (await walk.run("resume")).out == "One.\n", "nothing is open, the last visible answer is repeated"
        assert (await walk.run("resume", "last", "third")).out == "Three.\n"
        sent = [message["content"] for message in json.loads(double.bodies[-1])["messages"][1:]]
    assert sent == ["first", "One.", "third"]
    assert (await walk.view()).purse.spent > spent > 0
    assert any(isinstance(entry.event, Undone) for entry in await walk.entries())
    assert "undone: the model no longer sees entries " in (await walk.run("show")).out
    too_many = await walk.run("sessions", "undo", "last", "--turns", "9")
    assert (too_many.code, "only 2" in too_many.err) == (2, True), too_many.said


async def test_a_fork_goes_on_by_itself_under_its_own_cap(walk: Walk):
    first = await said(walk, "make it", [bash("echo 1 > made.txt")])
    made = await walk.run("sessions", "fork", first, "--budget", "0.75")
    assert made.code == 0, made.said
    fork = await newest(walk)
    assert fork != first
    assert f"{fork} holds {first}" in made.out
    before = await walk.entries(first)
    async with Hearing([{"when": {}, "reply": {"text": "Other."}}], prices="1/4") as double:
        done = await walk.run("resume", fork, "try another way", "--base-url", double.url, "--price", "1/4")
        assert (done.code, done.out) == (0, "Other.\n"), done.said
        sent, lines = json.loads(double.bodies[-1])["messages"], (await walk.view(fork)).lane("main").transcript.lines
        assert sent[-1]["content"].startswith("try another way\n\nThe budget of the session is now $0.75; ")
        # The system text stands before it, the answer is not yet there, and what is told is one with what was said.
        assert len(sent) == 1 + len(lines) - 1 - 1
        view = await walk.view(fork)
        assert (view.purse.cap, view.purse.spent) == (750_000, double.ledger.total())
    assert await walk.entries(first) == before
    assert f"session {fork} in {walk.workspace}, copied from {first}\n" in (await walk.run("show", fork)).out
    listed = await rows(walk)
    assert listed[first]["spent"] > 0
    assert listed[fork]["title"].endswith("(fork)")
    for words in (("--budget", "free"), ("--budget", "1", "--upto", "999"), ()):
        assert (await walk.run("sessions", "fork", first, *words)).code == 2


async def test_a_session_is_deleted_only_when_somebody_says_so(walk: Walk):
    session = await said(walk, "remember the word quetzalcoatl", [bash("echo kept > kept.txt")])
    asked = await walk.run("sessions", "delete", session)
    assert (asked.code, "Say it with --yes." in asked.err) == (2, True), asked.said
    assert session in await rows(walk)
    done = await walk.run("sessions", "delete", session, "--yes")
    assert (done.code, done.out) == (0, f"{session} is deleted.\n"), done.said
    assert await rows(walk) == {}
    assert b"quetzalcoatl" not in everything_in(walk.data)
    assert list((walk.data / "sessions").iterdir()) == []
    assert (walk.workspace / "kept.txt").read_text() == "kept\n"
    again = await walk.run("sessions", "delete", session, "--yes")
    assert (again.code, "There is no session" in again.err) == (2, True), again.said


@pytest.mark.parametrize(("answer", "left"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
async def test_on_a_terminal_the_question_names_the_session(walk: Walk, answer, left):
    session = await said(walk, "train it")
    person, terminal = pty.openpty()
    os.write(person, answer.encode())
    running = await walk.start(
        "sessions", "delete", "last", before=("sh", "-c", f'exec "$0" "$@" < {os.ttyname(terminal)}')
    )
    done = await running.ended()
    os.close(person)
    os.close(terminal)
    assert f"Delete {session} (train it; $0.0" in done.err, done.said
    assert len(await rows(walk)) == left


async def test_a_session_that_is_open_is_neither_deleted_nor_renamed(walk: Walk):
    async with Hearing(story([bash("touch began; while [ ! -e go ]; do sleep 0.05; done")], end="Free.")) as double:
        running = await walk.start("wait", "--model", "openai-compatible/m", "--base-url", double.url)
        await running.until_said("step 1")
        for words in (("delete", "last", "--yes"), ("rename", "last", "x"), ("undo",)):
            done = await walk.run("sessions", *words)
            assert (done.code, f"process {running.pid} (headless)" in done.err) == (2, True), done.said
            assert "Nothing was changed." in done.err
        (walk.workspace / "go").touch()
        assert (await running.ended()).out == "Free.\n"


async def test_a_session_goes_to_another_machine_without_its_secrets(walk: Walk, tmp_path):
    output = f"i=0; while [ $i -lt 9000 ]; do echo line $i {TOKEN}; i=$((i+1)); done"
    session = await said(walk, f"use {TOKEN}", [bash(output)], end="Used.")
    done = await walk.run("sessions", "export", "last", "out.jsonl")
    assert done.code == 0, done.said
    exported = walk.workspace / "out.jsonl"
    assert exported.stat().st_mode & 0o777 == 0o600
    assert (await walk.run("sessions", "export", "last", "out.jsonl")).code == 2, "nothing is overwritten"
    assert (await walk.run("sessions", "export", "last", "-")).out.encode() == exported.read_bytes()
    other = Walk(tmp_path / "other")
    brought = await other.run("sessions", "import", str(exported))
    assert brought.code == 0, brought.said
    assert (await other.run("sessions")).out.count("use [secret]") == 1
    (entry, *_), (answer,) = await other.entries(), await other.answers()
    assert isinstance(entry.event, SessionStarted)
    assert answer.blob is not None
    assert (entry.event.forked_from, entry.event.workspace) == (session, str(other.workspace))
    blob = (await other.run("show", "last", "--blob", answer.blob)).out
    assert "line 8999 [secret]" in blob
    assert TOKEN.encode() not in everything_in(other.place)
    refused = await other.run("resume", "last", "more")
    assert refused.code == 2, "neither address nor price came over"
    async with Hearing([{"when": {}, "reply": {"text": "More."}}], prices="1/4") as double:
        more = await other.run("resume", "last", "more", "--base-url", double.url, "--price", "1/4", "--budget", "2")
        assert (more.code, more.out) == (0, "More.\n"), more.said
    caps = [entry.event.cap for entry in await other.entries() if isinstance(entry.event, CapSet)]
    assert caps == [2_000_000]
    await other.close()


async def test_a_wrong_file_makes_no_session(walk: Walk):
    (walk.workspace / "wrong.json").write_text('{"ml_intern_session": 1, "entries": 3}\n')
    for name in ("wrong.json", "missing.json", "."):
        done = await walk.run("sessions", "import", name)
        assert (done.code, done.out) == (2, ""), done.said
        assert "Traceback" not in done.err
    assert await rows(walk) == {}


async def test_a_log_of_the_reference_is_read_and_goes_on(walk: Walk):
    log = {
        "session_id": "abc",
        "model_name": "openai-compatible/m",
        "messages": [{"role": "user", "content": "Train it"}, {"role": "assistant", "content": "Trained."}],
    }
    (walk.workspace / "session_abc.json").write_text(json.dumps(log))
    done = await walk.run("sessions", "import", "session_abc.json")
    assert done.code == 0, done.said
    shown = (await walk.run("show")).out
    assert "> Train it" in shown
    assert "Trained." in shown
    async with Hearing([{"when": {}, "reply": {"text": "Again."}}], prices="1/4") as double:
        more = await walk.run("resume", "last", "again", "--base-url", double.url, "--price", "1/4")
        assert (more.code, more.out) == (0, "Again.\n"), more.said
        assert [each["content"] for each in json.loads(double.bodies[0])["messages"][1:]] == [
            "Train it",
            "Trained.",
            "again",
        ]


async def test_gc_counts_first_and_removes_only_when_told(walk: Walk):
    await said(walk, "go")
    stray = walk.data / "sessions" / "01stray"
    (stray / "blobs").mkdir(parents=True)
    (stray / "blobs" / "x").write_bytes(b"x" * 50_000)
    os.utime(stray, (0, 0))
    counted = await walk.run("sessions", "gc")
    assert (counted.code, "could be freed: ml-intern sessions gc --yes" in counted.out) == (0, True), counted.said
    assert "1 folders that belong to no session" in counted.out
    assert stray.is_dir()
    done = await walk.run("sessions", "gc", "--yes")
    assert (done.code, " freed." in done.out) == (0, True), done.said
    assert not stray.exists()
    assert (await walk.run("sessions", "gc")).out.startswith("0 B could be freed")
    assert len(await rows(walk)) == 1


async def test_nothing_is_begun_on_a_disk_that_is_nearly_full(walk: Walk):
    if shutil.which("unshare") is None or os.getuid() != 0:
        pytest.skip("needs root and unshare: a mount namespace of its own")
    walk.data.mkdir()
    fill = f"mount -t tmpfs -o size=20m tmpfs {walk.data} && head -c 19500000 /dev/zero > {walk.data}/ballast"
    async with Hearing(story(end="Hi.")) as double:
        done = await walk.say(double, "hello", before=("unshare", "-m", "sh", "-c", f'{fill} && exec "$0" "$@"'))
        assert len(double.exchanges) == 0
    assert done.code == 1, done.said
    assert f"are free on the disk under {walk.data}: too little." in done.err
    assert "ml-intern sessions gc" in done.err


async def test_no_session_begins_above_the_quota_and_old_ones_go_on(walk: Walk):
    async with Hearing([{"when": {}, "reply": {"text": "Yes."}}]) as double:
        assert (await walk.say(double, "one", "--storage-max", "1GB")).code == 0
        small = {"ML_INTERN_STORAGE_MAX": "10kB"}
        done = await walk.say(double, "two", env=small)
        assert (done.code, done.out) == (1, ""), done.said
        assert "more than the 10 kB that storage.max allows." in done.err
        assert "ml-intern sessions gc" in done.err
        assert (await walk.run("resume", "last", "more", env=small)).out == "Yes.\n"
    wrong = await walk.run("go", "--storage-max", "much")
    assert (wrong.code, "--storage-max much is not a size." in wrong.err) == (2, True), wrong.said


async def test_a_folder_of_logs_is_imported_and_the_file_that_is_none_is_told(walk: Walk):
    logs = walk.workspace / "session_logs"
    logs.mkdir()
    for name in ("one", "two"):
        log = {"session_id": name, "messages": [{"role": "user", "content": f"Train {name}"}]}
        (logs / f"session_{name}.json").write_text(json.dumps(log))
    (logs / "notes.txt").write_text("not ours")
    done = await walk.run("sessions", "import", "session_logs")
    assert done.code == 0, done.said
    assert [line.split()[1:3] for line in done.out.splitlines()[:-1]] == [["holds", "one"], ["holds", "two"]]
    (logs / "session_broken.json").write_text("{")
    done = await walk.run("sessions", "import", "session_logs")
    assert done.code == 2, done.said
    assert "session_logs/session_broken.json: The file is no exported session" in done.err
    assert "1 of 3 files were not imported." in done.err
    assert len((await walk.run("sessions", "--json")).out.splitlines()) == 4
    (walk.workspace / "empty").mkdir()
    none = await walk.run("sessions", "import", "empty")
    assert (none.code, "empty holds no session_*.json" in none.err) == (2, True), none.said
