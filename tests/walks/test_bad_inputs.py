"""Every bad input is a sentence with its remedy and its exit code, soon, without a traceback; and nothing is lost."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ml_intern.cli.main import cli
from ml_intern.cli.main import run as run_command
from ml_intern.cli.sessions import COMMANDS as VERBS
from tests.walks import bad_files, bad_inputs
from tests.walks.bad_inputs import BINARY, GOOD, NOWHERE
from tests.walks.walk import MODEL, Done, Hearing, Walk, bash, step, story

WITHIN_S = 10.0
OURS = ("Traceback", "site-packages", "ml_intern/", ".py")
"""What no sentence holds: how we are made."""
TABLES = {
    "flag": bad_inputs.FLAGS,
    "place": bad_inputs.PLACES,
    "model": bad_inputs.MODELS,
    "text": bad_inputs.TEXTS,
    "variable": bad_files.VARIABLES,
    "settings": bad_files.TOML,
    "command": bad_files.VERBS,
}
ROWS = {f"{table}: {name}": row for table, rows in TABLES.items() for name, row in rows.items()}


def told(done: Done, code: int, words: str, lines: int = 3) -> None:
    """One sentence, a remedy, the exit code, nothing of our inside, soon."""
    assert done.code == code, done.said
    assert words in done.err, done.said
    assert not [each for each in OURS if each in done.err], done.said
    said = [line for line in done.err.splitlines() if line.strip()]
    assert len(said) >= 2, f"a remedy is missing: {done.said}"
    assert len(said) <= lines, f"too many words: {done.said}"
    assert done.out == "", done.said
    assert done.seconds < WITHIN_S


@pytest.fixture(scope="module")
def kept() -> Iterator[Walk]:
    """A machine on which one session of one turn will lie."""
    with tempfile.TemporaryDirectory(prefix="ml-intern-kept-") as folder:
        yield Walk(Path(folder))


@pytest.fixture
async def used(walk: Walk, kept: Walk) -> Walk:
    """A machine with that session."""
    if not kept.data.exists():
        async with Hearing(story([bash("echo hi > hi.txt")], end="Yes.")) as double:
            done = await kept.say(double, "say hi")
            assert done.code == 0, done.said
        await kept.close()
    shutil.copytree(kept.data, walk.data, ignore=shutil.ignore_patterns("*.sock"))
    return walk


@pytest.fixture
def bound() -> tuple[str, ...]:
    """Before a command: as a user whom permissions bind."""
    if os.getuid():
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv: to be a user whom permissions bind")
    return (setpriv, "--bounding-set", "-dac_override,-dac_read_search,-chown,-fowner")


@pytest.fixture
async def shut_again(walk: Walk) -> AsyncIterator[None]:
    """Folders that were shut can be removed again by a user whom permissions bind."""
    yield
    for path in walk.place.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


@pytest.mark.parametrize("name", ROWS)
async def test_a_bad_input_is_a_sentence_with_its_remedy_and_nothing_is_lost(
    used: Walk, bound: tuple[str, ...], shut_again: None, name: str
):
    row = ROWS[name]
    if row.made is not None:
        row.made(used)
    before = bad_files.left(used)
    places = {"home": used.home, "data": used.data, "work": used.workspace}
    words = [word.format(**places) if word.startswith("{") else word for word in row.words]
    done = await used.run(*words, env=row.env, stdin=row.stdin, before=bound if row.bound else ())
    told(done, row.code, row.says, row.lines)
    after = bad_files.left(used)
    assert [each for each in before if each not in after] == []
    # What was begun is a session of its own.
    assert after == before or row.begins or row.code != 2


def test_the_tables_name_every_flag_of_a_run_and_every_command():
    words = {word.partition("=")[0] for row in ROWS.values() for word in row.words}
    flags = {max(option.opts, key=len) for option in run_command.params if option.param_type_name == "option"}
    assert flags - words == ELSEWHERE
    assert {*cli.commands} - words == UNSPOKEN
    assert {*VERBS} - words == set()


ELSEWHERE = {"--offline", "--take-over"}
"""Switches, that cannot be wrong."""
UNSPOKEN = {"run"}
"""Its name may be left out, and is."""
COMMANDS = (GOOD, ("resume",), ("show",), ("sessions",))


@pytest.mark.parametrize("name", bad_files.SPOILT)
async def test_a_record_that_cannot_be_used_is_told_and_left_alone(used: Walk, bound: tuple[str, ...], name: str):
    spoil, sentence = bad_files.SPOILT[name]
    spoil(used)
    database = used.data / "sessions.db"
    before = database.read_bytes()
    for words in COMMANDS:
        told(await used.run(*words, before=bound), 1, sentence)
    assert database.read_bytes() == before


@pytest.mark.parametrize("name", bad_files.DAMAGED)
async def test_a_damaged_session_is_told_and_left_alone_and_others_go_on(used: Walk, name: str):
    bad_files.DAMAGED[name](used)
    before = bad_files.left(used)
    for words in (("resume",), ("show",), ("sessions", "export", "last"), ("sessions", "undo")):
        told(await used.run(*words), 1, "An entry of this session cannot be read")
    assert bad_files.left(used) == before
    listed = await used.run("sessions")
    assert (listed.code, listed.err) == (0, ""), listed.said
    async with Hearing(story(end="Yes.")) as double:
        assert (await used.say(double, "another")).code == 0


@pytest.mark.parametrize("words", [("resume",), ("show",), (*GOOD, "--resume", "last")])
async def test_without_any_session_there_is_none_to_go_on_with(walk: Walk, words: tuple[str, ...]):
    told(await walk.run(*words), 2, "There is no session yet")


async def test_a_flag_without_its_value_is_named(walk: Walk):
    told(await walk.run(*GOOD, "--budget"), 2, "Error: Option '--budget' requires an argument.")


async def test_without_a_model_three_lines_say_how_to_get_one(walk: Walk):
    done = await walk.run("go")
    _, with_key, local, without = done.err.splitlines()
    assert with_key.startswith("With a key: ")
    assert local.startswith("Local servers")
    assert "ml-intern demo" in without


async def test_a_folder_that_is_gone_cannot_be_worked_in(used: Walk):
    gone = ("sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$0" "$@"')
    told(await used.run(*GOOD, before=gone), 2, "there is no such folder")


async def test_a_workspace_that_may_not_be_written_may_still_be_looked_at(
    used: Walk, bound: tuple[str, ...], shut_again: None
):
    (used.workspace / "shut").mkdir(mode=0o555)
    looking = (*GOOD, "--quiet", "--cwd", "shut")
    told(await used.run(*looking, before=bound), 2, "shut cannot be written by this user")
    told(await used.run(*looking, "--mode", "plan", before=bound), 1, "cannot be reached")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://nobody.invalid/v1"])
async def test_a_server_that_is_not_there_is_told_at_once(walk: Walk, address: str):
    done = await walk.run("go", "--quiet", *MODEL, "--base-url", address, "--price", "1/1")
    told(done, 1, "cannot be reached")


async def test_a_server_that_has_answered_before_is_asked_again(walk: Walk):
    async with Hearing(story(end="Yes.")) as double:
        assert (await walk.say(double, "first")).code == 0
    running = await walk.start(*GOOD, "--resume", "last")
    await running.until_said("asking again", WITHIN_S)
    running.interrupt()
    done = await running.ended()
    assert done.code == 130
    assert "127.0.0.1:9" in done.err
    assert "Traceback" not in done.err


async def test_a_wrong_key_is_told_once_and_without_the_key(walk: Walk):
    key = "sk-proj-aaaabbbbccccddddeeeeffff"
    async with Hearing(story(end="Yes."), key="another") as double:
        env = {"OPENAI_COMPATIBLE_API_KEY": key}
        done = await walk.say(double, "go", env=env)
        quiet = await walk.say(double, "go", "--quiet", env=env)
        assert len(double.exchanges) == 2
    assert done.err.count("refuses the key") == 1, done.said
    told(quiet, 1, "refuses the key")
    assert key not in done.err + done.out + quiet.err


async def test_a_model_that_the_server_does_not_have_is_told_with_where_they_are_listed(walk: Walk):
    async with Hearing(story(end="Yes."), models=["n"]) as double:
        told(await walk.say(double, "go", "--quiet"), 1, f"{double.url}/models lists what is served")


async def test_a_beginning_that_fits_several_sessions_names_them(used: Walk):
    async with Hearing(story(end="Yes.")) as double:
        assert (await used.say(double, "second")).code == 0
    for words in (("show", "01"), ("resume", "01"), (*GOOD, "--resume", "01"), ("sessions", "delete", "01", "--yes")):
        done = await used.run(*words)
        told(done, 2, "'01' begins the ids of 2 sessions: ", lines=4)
        assert "(say hi)" in done.err
        assert "(second)" in done.err


# ------------------------------------------------------------------------------------------- stdin, stdout, stderr
def shell(redirected: str) -> tuple[str, ...]:
    return ("sh", "-c", f'exec "$0" "$@" {redirected}')


async def test_a_closed_stdin_holds_no_prompt(walk: Walk):
    told(await walk.run(*MODEL, *NOWHERE, before=shell("<&-")), 2, "There is no prompt")


async def test_a_prompt_of_bytes_is_said_as_far_as_it_is_text(walk: Walk):
    async with Hearing(story(end="Yes.")) as double:
        done = await walk.say(double, stdin=BINARY)
    assert (done.code, done.out) == (0, "Yes.\n"), done.said


async def test_a_prompt_that_no_model_takes_in_is_told(walk: Walk):
    async with Hearing(story(end="Yes."), window=100_000) as double:
        done = await walk.say(double, stdin=b"all work and no play " * 200_000)
    assert (done.code, done.out) == (0, "Yes.\n"), done.said
    assert "compacted: the model sees entries up to" in done.err


@pytest.mark.parametrize("words", [("show",), ("show", "--json"), ("sessions",), ("settings",), ("sessions", "gc")])
async def test_a_closed_stdout_is_no_traceback(used: Walk, words: tuple[str, ...]):
    done = await used.run(*words, before=shell(">&-"))
    assert "Traceback" not in done.err, done.said
    full = await used.run(*words, before=shell(">/dev/full"))
    assert (full.code, "Traceback" in full.err) == (1, False), full.said
    assert "stdout takes nothing" in full.err, full.said


# ------------------------------------------------------------------------------------------------------- the disk
async def test_a_data_folder_that_is_a_file_is_told(walk: Walk):
    walk.data.write_text("a file")
    for words in COMMANDS:
        told(await walk.run(*words), 1, str(walk.data))
    assert walk.data.read_text() == "a file"
    walk.data.unlink()


async def test_a_data_folder_of_another_user_is_told(walk: Walk, bound: tuple[str, ...]):
    if not bound:
        pytest.skip("needs root: to give a folder to another user")
    walk.data.mkdir()
    os.chown(walk.data, 65534, 65534)
    walk.data.chmod(0o755)
    for words in COMMANDS:
        told(await walk.run(*words, before=bound), 1, "cannot be written by this user")
    assert list(walk.data.iterdir()) == []


async def test_a_data_folder_that_may_not_be_written_is_told_and_left_as_it_is(
    used: Walk, bound: tuple[str, ...], shut_again: None
):
    before = bad_files.left(used)
    used.data.chmod(0o555)
    for words in (GOOD, ("resume",)):
        told(await used.run(*words, before=bound), 1, "cannot be written by this user")
    used.data.chmod(0o755)
    assert bad_files.left(used) == before


@pytest.fixture
def mounting() -> tuple[str, ...]:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and unshare: a mount namespace of its own")
    return (unshare, "-m", "sh", "-c")


def mounted(options: str, folder: Path) -> str:
    return f'mount -t tmpfs -o {options} tmpfs {folder} && exec "$0" "$@"'


@pytest.mark.parametrize(
    ("options", "sentence"),
    [("ro", "cannot be written by this user"), ("size=16k", "is full.\nFree some space there")],
    ids=["read-only", "full"],
)
async def test_a_disk_that_takes_nothing_is_told(walk: Walk, mounting: tuple[str, ...], options: str, sentence: str):
    walk.data.mkdir()
    for words in COMMANDS:
        told(await walk.run(*words, before=(*mounting, mounted(options, walk.data))), 1, sentence)


async def test_a_disk_that_fills_up_in_mid_turn_ends_it_with_a_sentence(walk: Walk, mounting: tuple[str, ...]):
    walk.data.mkdir()
    talk = step(0, ("plan", {"todos": []}), text="on and on " * 5000)
    async with Hearing([{**talk, "when": {}}]) as double:
        full = (*mounting, mounted("size=1200k", walk.data))
        done = await walk.say(double, "go", "--guard-repeats", "off", before=full)
        assert 1 < len(double.exchanges) < 40
    assert (done.code, done.out) == (1, ""), done.said
    assert "is full.\nFree some space there, then resume the session" in done.err
    assert "Traceback" not in done.err


async def test_an_export_to_a_full_disk_leaves_no_half_a_file(used: Walk, mounting: tuple[str, ...]):
    (used.workspace / "small").mkdir()
    put = 'mount -t tmpfs -o size=8k tmpfs small && head -c 8192 /dev/zero > small/fill; "$0" "$@" && ls small'
    done = await used.run("sessions", "export", "last", "small/a", before=(*mounting, put))
    told(done, 2, "small/a cannot be written (No space left on device)")
