import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.walks.walk import MODEL, Done, Hearing, Walk, step, story

NOWHERE = ("--base-url", "http://127.0.0.1:9/v1")
GOOD = ("go", *MODEL, *NOWHERE)
WITHIN_S = 5.0


def told(done: Done, code: int, words: str) -> None:
    """One sentence, a remedy, the exit code, no traceback, soon."""
    assert done.code == code, done.said
    assert words in done.err, done.said
    assert "Traceback" not in done.err, done.said
    said = [line for line in done.err.splitlines() if line.strip()]
    assert len(said) >= 2, f"a remedy is missing: {done.said}"
    assert done.out == ""
    assert done.seconds < WITHIN_S


WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown flag": ((*GOOD, "--nonsense"), "No such option"),
    "two prompts": ((*GOOD, "and more"), "unexpected extra argument"),
    "a price in words": ((*GOOD, "--price", "cheap"), "cheap"),
    "half a price": ((*GOOD, "--price", "1"), "'1'"),
    "a negative price": ((*GOOD, "--price=-1/2"), "'-1' is not an amount"),
    "a price that is no number": ((*GOOD, "--price", "nan/nan"), "nan"),
    "a price without end": ((*GOOD, "--price", "1/inf"), "inf"),
    "a negative budget": ((*GOOD, "--budget=-1"), "'-1' is not an amount"),
    "a budget that is no number": ((*GOOD, "--budget", "nan"), "'nan' is not an amount"),
    "a budget without end": ((*GOOD, "--budget", "inf"), "'inf' is not an amount"),
    "a budget beyond reason": ((*GOOD, "--budget", "1e30"), "'1e30' is not an amount"),
    "a budget in words": ((*GOOD, "--budget", "lots"), "'lots' is not an amount"),
    "an unknown mode": ((*GOOD, "--mode", "wild"), "There is no mode 'wild'"),
    "an unknown answer to asks": ((*GOOD, "--on-ask", "shrug"), "--on-ask shrug is not known"),
    "no steps": ((*GOOD, "--max-steps", "0"), "--max-steps 0 leaves nothing to do"),
    "steps in words": ((*GOOD, "--max-steps", "few"), "'few' is not a valid integer"),
    "no time": ((*GOOD, "--max-time", "0"), "--max-time 0 is not a length of time"),
    "time in words": ((*GOOD, "--max-time", "soon"), "--max-time soon is not a length of time"),
    "a negative time": ((*GOOD, "--max-time=-5s"), "is not a length of time"),
    "an unknown output": ((*GOOD, "--output-format", "xml"), "'xml' is not one of"),
    "a workspace that is not there": ((*GOOD, "--cwd", "nowhere"), "there is no such folder"),
    "a workspace that is a file": ((*GOOD, "--cwd", "/etc/passwd"), "there is no such folder"),
    "the root as workspace": ((*GOOD, "--cwd", "/"), "The workspace / "),
    "the home as workspace": ((*GOOD, "--cwd", "{home}"), "holds your whole home folder"),
    "a folder around the home": ((*GOOD, "--cwd", "{home}/.."), "holds your whole home folder"),
    "a system folder": ((*GOOD, "--cwd", "/etc"), "lies in /etc, which stays read-only"),
    "the shared /tmp": ((*GOOD, "--cwd", "/tmp"), "The workspace "),
    "our own data": ((*GOOD, "--cwd", "{data}/sessions"), "our own data"),
    "no model": (("go",), "No model was named"),
    "an unknown provider": (("go", "--model", "depseek/chat"), "Did you mean deepseek/chat?"),
    "a model without provider": (("go", "--model", "gpt-5"), "Did you mean openai/gpt-5?"),
    "a provider of another wire": (("go", "--model", "gemini/gemini-3-pro"), "openrouter/gemini/gemini-3-pro"),
    "no key": (("go", "--model", "openai/gpt-5"), "OpenAI wants a key"),
    # The address is one for documentation (RFC 5737); nothing is sent before the price is known.
    "no price": (("go", *MODEL, "--base-url", "http://192.0.2.1/v1"), "--price IN/OUT"),
    "an address that is none": (("go", *MODEL, "--base-url", "not a url"), "is not a base URL"),
    "an address of another protocol": (("go", *MODEL, "--base-url", "ftp://127.0.0.1/"), "is not a base URL"),
    "an address with a port too many": (("go", *MODEL, "--base-url", "http://127.0.0.1:99999/"), "is not a base URL"),
    "a password in an address": (("go", *MODEL, "--base-url", "http://a:b@127.0.0.1/"), "may hold no password"),
    "an empty prompt": (("", *MODEL, *NOWHERE), "There is no prompt"),
    "a prompt of spaces": (("  \n ", *MODEL, *NOWHERE), "There is no prompt"),
    "an empty stdin": ((*MODEL, *NOWHERE), "There is no prompt"),
    "resume without a session": (("resume",), "There is no session yet"),
    "show without a session": (("show",), "There is no session yet"),
    "a session that is not there": ((*GOOD, "--resume", "nope"), "There is no session yet"),
    "no sessions at all": (("sessions", "--limit", "0"), "--limit"),
    "fewer sessions than none": (("sessions", "--limit=-1"), "--limit"),
}


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://nobody.invalid/v1"])
async def test_a_server_that_is_not_there_is_told_at_once(walk: Walk, address: str):
    done = await walk.run("go", *MODEL, "--base-url", address, "--price", "1/1")
    told(done, 1, "cannot be reached")


@pytest.mark.parametrize("name", WORDS)
async def test_a_wrong_word_is_a_sentence_with_its_remedy(walk: Walk, name: str):
    words, sentence = WORDS[name]
    (walk.data / "sessions").mkdir(parents=True)
    places = {"home": walk.home, "data": walk.data}
    done = await walk.run(*(word.format(**places) if "{" in word else word for word in words))
    told(done, 2, sentence)
    assert not any((walk.data / "sessions").iterdir())


async def test_a_flag_without_its_value_is_named(walk: Walk):
    done = await walk.run(*GOOD, "--budget")
    assert (done.code, done.err) == (2, "Error: Option '--budget' requires an argument.\n")


async def test_without_a_model_three_lines_say_how_to_get_one(walk: Walk):
    done = await walk.run("go")
    _, with_key, local, without = done.err.splitlines()
    assert with_key.startswith("With a key: ")
    assert local.startswith("Local servers")
    assert "ml-intern demo" in without


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


async def test_a_beginning_that_fits_several_sessions_names_them(walk: Walk):
    async with Hearing(story(end="Yes.")) as double:
        for word in ("first", "second"):
            assert (await walk.say(double, word)).code == 0
    for words in (("show", "01"), ("resume", "01"), (*GOOD, "--resume", "01")):
        done = await walk.run(*words)
        told(done, 2, "'01' begins the ids of 2 sessions: ")
        assert "(first)" in done.err
        assert "(second)" in done.err


async def test_a_session_that_is_not_there_names_the_nearest(walk: Walk):
    async with Hearing(story(end="Yes.")) as double:
        assert (await walk.say(double, "count the stars")).code == 0
    for words in (("show", "nope"), ("resume", "nope"), (*GOOD, "--resume", "nope")):
        told(await walk.run(*words), 2, "There is no session 'nope'; the nearest: ")
    missing = await walk.run("show", "last", "--blob", "0" * 64)
    told(missing, 1, "No output is kept under")
    told(await walk.run("show", "--blob", "../../x"), 1, "No output is kept under")


COMMANDS = (GOOD, ("resume",), ("show",), ("sessions",))


def spoil_bytes(walk: Walk) -> None:
    (walk.data / "sessions.db").write_bytes(b"this is a letter\n" * 1000)


def spoil_version(walk: Walk) -> None:
    connection = sqlite3.connect(walk.data / "sessions.db")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [(spoil_bytes, "is damaged"), (spoil_version, "written by a newer version of ml-intern (schema 99")],
)
async def test_a_record_that_cannot_be_used_is_told_and_left_alone(
    walk: Walk, spoil: Callable[[Walk], None], sentence: str
):
    walk.data.mkdir()
    spoil(walk)
    before = (walk.data / "sessions.db").read_bytes()
    for words in COMMANDS:
        told(await walk.run(*words), 1, sentence)
    assert (walk.data / "sessions.db").read_bytes() == before


async def test_a_data_folder_that_is_a_file_is_told(walk: Walk):
    walk.data.write_text("a file")
    for words in COMMANDS:
        told(await walk.run(*words), 1, str(walk.data))
    assert walk.data.read_text() == "a file"
    walk.data.unlink()


async def test_a_data_folder_of_another_user_is_told(walk: Walk):
    setpriv = shutil.which("setpriv")
    if os.getuid() or not setpriv:
        pytest.skip("needs root and setpriv: to be a user whom permissions bind")
    walk.data.mkdir()
    os.chown(walk.data, 65534, 65534)
    walk.data.chmod(0o755)
    bound = (setpriv, "--bounding-set", "-dac_override,-dac_read_search,-chown,-fowner")
    for words in COMMANDS:
        told(await walk.run(*words, before=bound), 1, "cannot be written by this user")
    assert list(walk.data.iterdir()) == []


@pytest.fixture
def mounting() -> tuple[str, ...]:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and unshare: a mount namespace of its own")
    return (unshare, "-m", "sh", "-c")


def mounted(options: str, folder: Path) -> str:
    return f'mount -t tmpfs -o {options} tmpfs {folder} && exec "$0" "$@"'


async def test_a_read_only_disk_is_told(walk: Walk, mounting: tuple[str, ...]):
    walk.data.mkdir()
    for words in COMMANDS:
        done = await walk.run(*words, before=(*mounting, mounted("ro", walk.data)))
        told(done, 1, "cannot be written by this user")


async def test_a_disk_that_is_full_from_the_start_is_told(walk: Walk, mounting: tuple[str, ...]):
    walk.data.mkdir()
    for words in COMMANDS:
        done = await walk.run(*words, before=(*mounting, mounted("size=16k", walk.data)))
        told(done, 1, "is full.\nFree some space there")


async def test_a_disk_that_fills_up_in_mid_turn_ends_it_with_a_sentence(walk: Walk, mounting: tuple[str, ...]):
    walk.data.mkdir()
    talk = step(0, ("plan", {"todos": []}), text="on and on " * 5000)
    async with Hearing([{**talk, "when": {}}]) as double:
        full = (*mounting, mounted("size=1200k", walk.data))
        done = await walk.say(double, "go", before=full)
        assert 1 < len(double.exchanges) < 40
    assert (done.code, done.out) == (1, ""), done.said
    assert "is full.\nFree some space there, then resume the session" in done.err
    assert "Traceback" not in done.err
