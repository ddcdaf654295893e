"""Keys are found where people keep them, and every secret we hold is known by its name."""

import pytest

from ml_intern.base.errors import BadSettings
from ml_intern.model.catalog import PROVIDERS, resolve
from ml_intern.model.keys import find_key, known_secrets

TOKEN = "hf_abcdefghijklmnop"
OTHER = "hf_qrstuvwxyzabcdef"
HF = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def test_the_first_variable_that_is_set_wins(tmp_path):
    environ = {"HOME": str(tmp_path), "HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": f" {TOKEN}\n"}
    found = find_key(HF, environ)
    assert found is not None
    assert (found.value, found.source) == (TOKEN, "HUGGING_FACE_HUB_TOKEN")
    assert TOKEN not in repr(found)


@pytest.mark.parametrize(
    ("path", "variables"),
    [
        (".cache/huggingface/token", {}),
        ("cache/huggingface/token", {"XDG_CACHE_HOME": "{home}/cache"}),
        ("hub/token", {"HF_HOME": "{home}/hub"}),
        ("secret/tok", {"HF_TOKEN_PATH": "{home}/secret/tok"}),
    ],
)
def test_the_file_of_the_hubs_login_is_read(tmp_path, path, variables):
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(f"{TOKEN}\n")
    environ = {"HOME": str(tmp_path), **{name: value.format(home=tmp_path) for name, value in variables.items()}}
    found = find_key(HF, environ)
    assert found is not None
    assert (found.value, found.source) == (TOKEN, str(file))
    assert resolve("Qwen/Qwen3-8B", "", environ).key == TOKEN
    assert known_secrets(environ) == {"HF_TOKEN": TOKEN}
    assert find_key(("OPENAI_API_KEY",), environ) is None


@pytest.mark.parametrize("value", ["sk-a b", "sk-a\nb", "sk-é", "sk-\x00"])
def test_what_no_header_takes_is_refused_and_not_repeated(value):
    with pytest.raises(BadSettings, match="OPENAI_API_KEY") as caught:
        find_key(("OPENAI_API_KEY",), {"OPENAI_API_KEY": value})
    assert value not in str(caught.value)


def test_every_key_of_the_table_is_known_as_a_secret(tmp_path):
    environ = {name: f"value-of-{name}" for provider in PROVIDERS.values() for name in provider.keys}
    assert known_secrets({**environ, "HOME": str(tmp_path)}) == environ


@pytest.mark.parametrize(
    "name",
    [
        "GITHUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY", "MY_SECRET", "DB_PASSWORD",
        "db_password", "TOKEN", "API_KEY", "SSH_PASSPHRASE", "DJANGO_SECRET_KEY", "KAGGLE_KEY_API_KEY",
    ],
)  # fmt: skip
def test_a_variable_named_like_a_secret_is_one(tmp_path, name):
    assert known_secrets({"HOME": str(tmp_path), name: "x" * 20}) == {name: "x" * 20}


@pytest.mark.parametrize(
    "name", ["HF_TOKEN_PATH_X", "TOKENIZERS_PARALLELISM", "SECRETS_DIR", "PATH", "KEYBOARD", "MONKEY"]
)
def test_other_variables_are_none(tmp_path, name):
    assert known_secrets({"HOME": str(tmp_path), name: "x" * 20}) == {}


def test_an_empty_variable_is_no_secret(tmp_path):
    assert known_secrets({"HOME": str(tmp_path), "A_TOKEN": " "}) == {}


def test_every_account_of_the_hubs_login_is_known(tmp_path):
    folder = tmp_path / ".cache/huggingface"
    folder.mkdir(parents=True)
    (folder / "token").write_text(TOKEN)
    (folder / "stored_tokens").write_text(f"[work]\nhf_token = {TOKEN}\n\n[home]\nhf_token = {OTHER}\n")
    environ = {"HOME": str(tmp_path), "HF_TOKEN": "hf_of_the_environment"}
    assert known_secrets(environ) == {
        "HF_TOKEN": "hf_of_the_environment",
        "HF_TOKEN_FILE": TOKEN,
        "HF_TOKEN_home": OTHER,
    }
