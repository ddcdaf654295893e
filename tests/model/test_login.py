"""A key that a person gave once is kept where nobody else reads it, and found again."""

import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml_intern.app.places import settings_file
from ml_intern.base.errors import BadSettings
from ml_intern.model import login
from ml_intern.model.catalog import PROVIDERS, find_provider, resolve
from ml_intern.model.keys import PREFIXES, find_key, given, known_secrets, masked
from tests.architecture.tree import ROOT

KEY = "sk-abcdefghijklmnopqrstuvwxyz1234"
OTHER = "sk-zyxwvutsrqponmlkjihgfedcba9876"
BIN = Path(sys.executable).with_name("ml-intern")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A machine without a keyring."""
    null = "keyring.backends.null.Keyring"
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHON_KEYRING_BACKEND": null}


@pytest.fixture
def ringed(environ: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A machine with one."""
    backend = "tests.doubles.keyring_backend.Ring"
    ring = {"PYTHON_KEYRING_BACKEND": backend, "PYTHONPATH": str(ROOT), "DOUBLE_KEYRING": str(tmp_path / "ring.json")}
    return {**environ, **ring}


def ml_intern(environ: dict[str, str], *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN), *words], env=environ, input=stdin, capture_output=True, text=True, timeout=50, check=False
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# ------------------------------------------------------------------------------------------------------------- files
def test_without_a_keyring_a_key_lies_in_a_file_for_its_owner_alone_and_is_found(environ):
    place, why = login.keep("OPENAI_API_KEY", KEY, environ)
    file = login.folder(environ) / "OPENAI_API_KEY"
    assert (place, why) == ("file", "this machine has no keyring")
    assert (mode(file), mode(file.parent), mode(file.parent.parent)) == (0o600, 0o700, 0o700)
    assert [each.name for each in file.parent.iterdir()] == ["OPENAI_API_KEY"]
    assert login.stored(environ) == [login.Stored("OPENAI_API_KEY", "file")]
    found = resolve("openai/gpt-5", "", environ)
    assert (found.key, found.key_source) == (KEY, "ml-intern login")
    assert known_secrets(environ) == {"OPENAI_API_KEY": KEY}
    assert login.drop("OPENAI_API_KEY", environ)
    assert not login.drop("OPENAI_API_KEY", environ)
    assert find_key(("OPENAI_API_KEY",), environ) is None


def test_the_file_is_its_owners_alone_from_its_first_byte(environ, monkeypatch):
    seen: list[int] = []
    kept = os.fsync

    def note(number: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(number).st_mode))
        kept(number)

    monkeypatch.setattr(os, "fsync", note)
    before = os.umask(0)
    try:
        login.keep("OPENAI_API_KEY", KEY, environ)
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_the_files_lie_beside_the_users_settings(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert login.folder(os.environ).parent == settings_file({}).parent
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert login.folder(os.environ).parent == settings_file({}).parent


def test_a_new_key_replaces_the_old_one(environ):
    login.keep("OPENAI_API_KEY", KEY, environ)
    login.keep("OPENAI_API_KEY", OTHER, environ)
    assert login.in_files(environ) == {"OPENAI_API_KEY": OTHER}


def test_a_folder_that_cannot_be_written_is_one_sentence(environ, tmp_path):
    (tmp_path / ".config").write_text("a file in the way")
    with pytest.raises(BadSettings, match="cannot be written") as caught:
        login.keep("OPENAI_API_KEY", KEY, environ)
    assert caught.value.remedy
    assert KEY not in str(caught.value)


def test_what_others_can_read_is_found(environ):
    login.keep("OPENAI_API_KEY", KEY, environ)
    assert login.open_to_others(environ) == []
    (login.folder(environ) / "OPENAI_API_KEY").chmod(0o644)
    assert login.open_to_others(environ) == [login.folder(environ) / "OPENAI_API_KEY"]


# ------------------------------------------------------------------------------------------------------------- order
def test_the_environment_goes_first_then_the_login_then_the_hubs_own_file(environ, tmp_path):
    file = tmp_path / ".cache/huggingface/token"
    file.parent.mkdir(parents=True)
    file.write_text("hf_of_the_hubs_login")
    names = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    places = []
    for more in ({}, {"HUGGING_FACE_HUB_TOKEN": "hf_of_the_environment"}):
        for _ in range(2):
            found = find_key(names, {**environ, **more})
            assert found is not None
            places.append((found.place, found.value))
            login.keep("HF_TOKEN", "hf_of_our_own_login", environ)
    assert places[0] == ("hub", "hf_of_the_hubs_login")
    assert places[1] == ("file", "hf_of_our_own_login")
    assert places[2] == places[3] == ("environment", "hf_of_the_environment")
    secrets = known_secrets({**environ, "HF_TOKEN": "hf_of_the_environment"})
    assert set(secrets.values()) == {"hf_of_the_environment", "hf_of_our_own_login", "hf_of_the_hubs_login"}


# ----------------------------------------------------------------------------------------------------------- keyring
def test_with_a_keyring_the_key_lies_there_and_nowhere_else(ringed, environ):
    login.keep("MISTRAL_API_KEY", OTHER, environ)
    assert login.keep("MISTRAL_API_KEY", KEY, ringed) == ("keyring", "")
    assert json.loads(Path(ringed["DOUBLE_KEYRING"]).read_text()) == {"ml-intern MISTRAL_API_KEY": KEY}
    assert [each.read_bytes() for each in login.folder(ringed).iterdir()] == [b""]
    assert login.stored(ringed) == [login.Stored("MISTRAL_API_KEY", "keyring")]
    found = find_key(("MISTRAL_API_KEY",), ringed)
    assert found is not None
    assert (found.value, found.place, found.source) == (KEY, "keyring", "ml-intern login")
    # What nobody asked for is not in this process.
    assert known_secrets(ringed) == {}
    assert login.drop("MISTRAL_API_KEY", ringed)
    assert json.loads(Path(ringed["DOUBLE_KEYRING"]).read_text()) == {}
    assert login.stored(ringed) == []


def test_a_keyring_that_keeps_plain_text_is_none(ringed):
    ringed["PYTHON_KEYRING_BACKEND"] = "tests.doubles.keyring_backend.Plaintext"
    place, why = login.keep("OPENAI_API_KEY", KEY, ringed)
    assert (place, why) == ("file", "this machine has no keyring")


@pytest.mark.parametrize("fault", ["locked", "hang"])
def test_a_keyring_that_does_not_give_its_key_is_one_sentence(ringed, fault, monkeypatch):
    login.keep("OPENAI_API_KEY", KEY, ringed)
    monkeypatch.setattr(login, "ANSWER_S", 2.0)
    ringed["DOUBLE_KEYRING_FAULT"] = fault
    for work in (lambda: resolve("openai/gpt-5", "", ringed), lambda: login.drop("OPENAI_API_KEY", ringed)):
        with pytest.raises(BadSettings, match="OPENAI_API_KEY lies in the system's keyring") as caught:
            work()
        assert ("Failed to unlock" if fault == "locked" else "did not answer within 2 s") in caught.value.what
        assert "set OPENAI_API_KEY" in caught.value.remedy
    # A locked keyring keeps no new key, either: it lies in a file then.
    place, why = login.keep("OPENAI_API_KEY", OTHER, ringed)
    assert place == "file"
    assert why
    assert resolve("openai/gpt-5", "", ringed).key == OTHER


def test_a_key_that_the_keyring_lost_is_told_and_can_be_forgotten(ringed):
    login.keep("OPENAI_API_KEY", KEY, ringed)
    Path(ringed["DOUBLE_KEYRING"]).unlink()
    with pytest.raises(BadSettings, match="it holds it no longer"):
        find_key(("OPENAI_API_KEY",), ringed)
    assert login.drop("OPENAI_API_KEY", ringed)
    assert find_key(("OPENAI_API_KEY",), ringed) is None


def test_the_keyring_is_not_asked_while_a_key_is_in_the_environment_or_the_server_is_here(ringed):
    login.keep("OPENAI_API_KEY", KEY, ringed)
    ringed["DOUBLE_KEYRING_FAULT"] = "hang"
    begun = time.monotonic()
    assert resolve("openai/gpt-5", "", {**ringed, "OPENAI_API_KEY": OTHER}).key == OTHER
    assert resolve("ollama/qwen3", "", ringed).key == ""
    assert time.monotonic() - begun < 2


# ------------------------------------------------------------------------------------------------------ what is a key
@pytest.mark.parametrize("text", ["", " \n", "sk-a b", "sk-a\nsk-b", "sk-ä", "sk-\x00b", "s" * 20_000])
def test_what_is_no_key_is_refused_without_being_repeated(text):
    with pytest.raises(BadSettings) as caught:
        given("openai", "OpenAI", text)
    assert caught.value.remedy
    assert not text.strip() or text.strip() not in str(caught.value)


def test_a_key_is_stripped():
    assert given("openai", "OpenAI", f"  {KEY}\r\n") == KEY


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_key_that_is_obviously_of_another_provider_is_refused(prefix):
    key = f"{prefix}0123456789abcdefghij"
    for provider in ("deepseek", "mistral"):
        with pytest.raises(BadSettings, match="looks like a key of") as caught:
            given(provider, provider.title(), key)
        assert key not in str(caught.value)
    for provider in {*PREFIXES[prefix], "openai-compatible", "litellm", "vllm"}:
        assert given(provider, provider, key) == key


def test_an_ordinary_key_is_taken_by_every_provider():
    for provider in PROVIDERS.values():
        assert given(provider.id, provider.title, KEY) == KEY


def test_a_masked_key_shows_too_little_to_use():
    assert masked(KEY) == "sk-…1234"
    assert masked("short") == "…"


def test_a_provider_goes_by_its_other_names_and_a_slip_is_told_the_nearest():
    assert find_provider("HuggingFace").id == "hf"
    assert find_provider("gemini").id == "google"
    with pytest.raises(BadSettings) as caught:
        find_provider("antropic")
    assert "Did you mean anthropic?" in caught.value.remedy


# ----------------------------------------------------------------------------------------------------- the command line
def test_login_list_and_logout(environ):
    done = ml_intern(environ, "login", "openai", stdin=f"{KEY}\n")
    file = login.folder(environ) / "OPENAI_API_KEY"
    assert (done.returncode, done.stdout) == (0, f"The key of OpenAI is kept in {file}, for you alone (0600).\n")
    assert "this machine has no keyring" in done.stderr
    listed = ml_intern({**environ, "HF_TOKEN": "hf_0123456789abcdefgh"}, "login", "--list")
    assert listed.returncode == 0
    assert [line.split(maxsplit=2) for line in listed.stdout.splitlines()] == [
        ["openai", "sk-…1234", f"file: {file}"],
        ["hf", "hf_…efgh", "environment: HF_TOKEN"],
    ]
    gone = ml_intern(environ, "logout", "openai")
    assert (gone.returncode, gone.stdout) == (0, "The key of OpenAI is forgotten.\n")
    assert ml_intern(environ, "login", "--list").stdout == "No keys. `ml-intern login PROVIDER` keeps one.\n"
    again = ml_intern(environ, "logout", "openai")
    assert (again.returncode, again.stdout) == (2, "")
    assert "No key of OpenAI is stored." in again.stderr
    said = [done, listed, gone, again]
    assert not [each for each in said if KEY in each.stdout + each.stderr]


def test_the_keyring_is_named_where_it_keeps_the_key(ringed):
    done = ml_intern(ringed, "login", "mistral", stdin=KEY)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "The key of Mistral is kept in the system's keyring.\n",
        "",
    )
    assert "keyring" in ml_intern(ringed, "login", "--list").stdout
    locked = ml_intern({**ringed, "DOUBLE_KEYRING_FAULT": "locked"}, "login", "--list")
    assert locked.returncode == 1
    assert "Unlock the keyring" in locked.stderr


def test_a_variable_that_goes_before_what_was_stored_is_told(environ, tmp_path):
    done = ml_intern({**environ, "OPENAI_API_KEY": OTHER}, "login", "openai", stdin=KEY)
    assert "OPENAI_API_KEY is set in the environment and goes before" in done.stderr
    gone = ml_intern({**environ, "OPENAI_API_KEY": OTHER}, "logout", "openai")
    assert "OPENAI_API_KEY is set in the environment" in gone.stderr
    again = ml_intern({**environ, "OPENAI_API_KEY": OTHER}, "logout", "openai")
    assert "unset OPENAI_API_KEY" in again.stderr
    file = tmp_path / ".cache/huggingface/token"
    file.parent.mkdir(parents=True)
    file.write_text("hf_0123456789abcdefgh")
    assert f"goes before {file}" in ml_intern(environ, "login", "hf", stdin="hf_zzzzzzzzzzzzzzzzzz").stderr
    ml_intern(environ, "logout", "hf")
    assert "hf auth logout" in ml_intern(environ, "logout", "hf").stderr


@pytest.mark.parametrize(
    ("words", "stdin", "said"),
    [
        (("login",), "", "No provider was named."),
        (("login", "antropic"), KEY, "Did you mean anthropic?"),
        (("login", "openai"), "", "No key was given."),
        (("login", "openai"), "a b", "a space or a line break inside"),
        (("login", "openai"), "hf_0123456789abcdef", "looks like a key of hf (hf_…), not of OpenAI"),
        (("login", "openai", KEY), "", "stays in the shell's history"),
        (("login", "vertex"), KEY, "gcloud auth application-default login"),
        (("logout", "antropic"), "", "Did you mean anthropic?"),
    ],
)
def test_every_wrong_input_is_one_sentence_and_keeps_nothing(environ, words, stdin, said):
    done = ml_intern(environ, *words, stdin=stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert KEY not in done.stderr
    assert not login.folder(environ).exists()


def test_a_key_that_is_typed_is_not_shown(environ):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(BIN, [str(BIN), "login", "openai"], environ)
    shown, typed = b"", False
    try:
        while True:
            if not select.select([terminal], [], [], 30)[0]:
                pytest.fail(f"nothing more is said: {shown!r}")
            piece = os.read(terminal, 4096)
            if not piece:
                break
            shown += piece
            if not typed and b"it is not shown" in shown:
                time.sleep(0.1)  # the echo is switched off after the prompt
                os.write(terminal, f"{KEY}\n".encode())
                typed = True
    except OSError:
        pass  # the end of a terminal
    finally:
        os.close(terminal)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, shown
    assert KEY.encode() not in shown
    assert login.in_files(environ) == {"OPENAI_API_KEY": KEY}
