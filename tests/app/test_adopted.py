"""A config of huggingface/ml-intern: what it comes to, what is told, and that no secret of it is copied."""

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ml_intern.app.adopted import adopt
from ml_intern.app.sources import parsed
from ml_intern.base.errors import BadSettings
from ml_intern.cli.main import cli

SECRET = "hf_" + "a1B2" * 10
WHOLE: dict[str, Any] = {
    "model_name": "anthropic/claude-opus-4.8:fal-ai",
    "mcpServers": {
        "hf": {"transport": "http", "url": "https://hf.co/mcp?login", "headers": {"Authorization": f"Bearer {SECRET}"}},
        "files": {
            "command": "npx",
            "args": ["-y", "server", "--api-key", "plain-key-1", "--token=plain-key-2", SECRET, "--port", "8"],
            "env": {"KEY": "plain-key-3", "OTHER": "${OTHER_KEY}"},
            "timeout": 30,
        },
        "open": {"url": "https://me:plain-key-4@x.invalid/mcp"},
    },
    "save_sessions": True,
    "session_dataset_repo": "smolagents/ml-intern-sessions",
    "share_traces": True,
    "personal_trace_repo_template": "{hf_user}/ml-intern-sessions",
    "auto_save_interval": 1,
    "heartbeat_interval_s": 60,
    "yolo_mode": True,
    "max_iterations": 120,
    "confirm_cpu_jobs": False,
    "auto_file_upload": True,
    "tool_runtime": "sandbox",
    "reasoning_effort": "high",
    "messaging": {"enabled": True, "destinations": {"slack.ops": {"token": "xoxb-plain-key-5", "channel": "C1"}}},
    "yolo": True,
}


def adopted(config: object, **environ: str):
    return adopt(json.dumps(config).encode(), "c.json", environ)


def test_every_key_is_a_setting_or_is_told_with_a_reason():
    found = adopted(WHOLE)
    assert tomllib.loads(found.toml) == {
        "model": "hf/anthropic/claude-opus-4.8:fal-ai",
        "mode": "yolo",
        "max_steps": 120,
        "effort": "high",
    }
    names = {line.partition(":")[0].partition(".")[0] for line in found.told}
    assert names | {"model_name", "max_iterations", "reasoning_effort"} == WHOLE.keys()
    assert all(line.endswith(".") and len(line.partition(": ")[2]) > 10 for line in found.told)
    assert {line.partition(":")[0] for line in found.told} >= {"mcpServers.hf", "mcpServers.files", "mcpServers.open"}
    source = parsed(Path("settings.toml"), "user", found.toml.encode())
    assert set(source.values) == {"model", "mode", "max_steps", "effort"}


def test_no_secret_is_copied_but_named_by_a_variable():
    found = adopted(WHOLE, OTHER_KEY="plain-key-6")
    said = found.toml + "".join(found.told)
    assert "plain-key" not in said
    assert SECRET not in said
    notes = [line for line in found.toml.splitlines() if line.startswith("# {") or line.startswith('# "')]
    kept = {name: json.loads(shown) for name, shown in (line[2:].split(" = ", 1) for line in notes)}
    assert kept['"files"'] == {
        "command": "npx",
        "args": [
            "-y",
            "server",
            "--api-key",
            "${MCP_FILES_ARGS_3}",
            "--token=${MCP_FILES_ARGS_4}",
            "${MCP_FILES_ARGS_5}",
            "--port",
            "8",
        ],
        "env": {"KEY": "${MCP_FILES_ENV_KEY}", "OTHER": "${OTHER_KEY}"},
        "timeout": 30,
    }
    assert kept['"hf"']["headers"] == {"Authorization": "${MCP_HF_HEADERS_AUTHORIZATION}"}
    (told,) = (line for line in found.told if line.startswith("mcpServers.files"))
    assert "MCP_FILES_ENV_KEY" in told


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ("moonshotai/Kimi-K2.6:novita", "hf/moonshotai/Kimi-K2.6:novita"),
        ("huggingface/zai-org/GLM-5.1", "hf/zai-org/GLM-5.1"),
        ("ollama/qwen3:8b", "ollama/qwen3:8b"),
        ("llamacpp/x", "llamacpp/x"),
        ("${MODEL}", "hf/a/b"),
        ("${NONE:-c/d}", "hf/c/d"),
        ("${MODEL:-c/d}", "hf/a/b"),
        ("${NONE}", None),
        ("gpt-5", None),
        ("openai-compat/x", None),
        (3, None),
        (f"org/{SECRET}", None),
    ],
)
def test_a_model_is_named_as_we_name_it(given: object, model: str | None):
    found = adopted({"model_name": given}, MODEL="a/b")
    assert tomllib.loads(found.toml).get("model") == model
    assert bool(found.told) == (model is None or "$" in str(given))
    assert SECRET not in found.toml + "".join(found.told)


@pytest.mark.parametrize(
    ("config", "toml"),
    [
        ({"max_iterations": -1}, {"max_steps": 10_000}),
        ({"max_iterations": 0}, {}),
        ({"max_iterations": True}, {}),
        ({"max_iterations": "many"}, {}),
        ({"yolo_mode": False}, {}),
        ({"reasoning_effort": "xhigh"}, {"effort": "xhigh"}),
        ({"reasoning_effort": " Medium "}, {"effort": "medium"}),
        ({"reasoning_effort": "none"}, {"effort": "off"}),
        ({"reasoning_effort": "${EFFORT:-low}"}, {"effort": "low"}),
        ({"reasoning_effort": "${EFFORT}"}, {}),
        ({"reasoning_effort": "very much"}, {}),
        ({"reasoning_effort": None}, {}),
        ({"reasoning_effort": 3}, {}),
        ({"mcpServers": {}}, {}),
        ({"mcpServers": [], "share_traces": 1}, {}),
    ],
)
def test_values_of_any_type_are_taken_or_told(config: dict[str, object], toml: dict[str, object]):
    assert tomllib.loads(adopted(config).toml) == toml


def test_a_name_forges_no_setting():
    evil = 'x\nmode = "yolo"\n\x1b[2K'
    config = {"mcpServers": {evil: {evil: evil}}, evil: 1, "model_name": f"a/{evil}"}
    found = adopt(json.dumps(config).encode(), evil, {})
    assert tomllib.loads(found.toml).keys() == {"model"}
    assert all(line.isprintable() for line in (*found.toml.splitlines(), *found.told))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b'{"a": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_config_is_told(data: bytes):
    with pytest.raises(BadSettings, match=r"c\.json (holds no JSON|is no config)") as raised:
        adopt(data, "c.json", {})
    assert "cli_agent_config.json" in raised.value.remedy


# ------------------------------------------------------------------------------------------------------- the command
@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ML_INTERN_CONFIG", "ML_INTERN_CLI_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.json").write_text(json.dumps({"model_name": "a/b", "share_traces": True}))
    return tmp_path


def imported(*words: str):
    return CliRunner().invoke(cli, ["settings", "import", *words])


def test_it_is_printed_and_nothing_is_written(home: Path):
    done = imported("c.json")
    assert done.exit_code == 0
    assert tomllib.loads(done.stdout) == {"model": "hf/a/b"}
    assert done.stderr == "share_traces: nothing of a session is ever uploaded.\n"
    assert sorted(os.listdir(home)) == ["c.json"]


def test_it_is_written_once_and_with_force_the_old_one_is_kept(home: Path):
    path = home / ".config/ml-intern/settings.toml"
    done = imported("c.json", "--write")
    assert (done.exit_code, done.stdout) == (0, f"{path} holds it. `ml-intern settings` shows it.\n")
    assert tomllib.loads(path.read_text()) == {"model": "hf/a/b"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("mode = 'plan'\n")
    again = imported("c.json", "--write")
    assert again.exit_code == 2
    assert f"{path} is there already." in again.stderr
    assert path.read_text() == "mode = 'plan'\n"
    assert imported("c.json", "--write", "--force").exit_code == 0
    assert tomllib.loads(path.read_text()) == {"model": "hf/a/b"}
    assert path.with_name("settings.toml.old").read_text() == "mode = 'plan'\n"
    assert CliRunner().invoke(cli, ["settings"]).stdout.splitlines()[0].split() == ["model", "hf/a/b", f"{path}:2"]


def test_without_a_name_it_is_looked_for_where_the_other_product_does(home: Path, monkeypatch: pytest.MonkeyPatch):
    missing = imported()
    assert missing.exit_code == 2
    assert f"There is no {home}/.config/ml-intern/cli_agent_config.json." in missing.stderr
    (home / ".config/ml-intern").mkdir(parents=True)
    (home / "c.json").replace(home / ".config/ml-intern/cli_agent_config.json")
    assert tomllib.loads(imported().stdout) == {"model": "hf/a/b"}
    (home / "other.json").write_text('{"max_iterations": 7}')
    monkeypatch.setenv("ML_INTERN_CLI_CONFIG", str(home / "other.json"))
    assert tomllib.loads(imported().stdout) == {"max_steps": 7}


def test_what_cannot_be_read_or_written_is_told_and_the_old_file_stays(home: Path):
    assert imported("nowhere.json").exit_code == 2
    (home / "big.json").write_bytes(b" " * 1_000_001)
    assert "too long for a config" in imported("big.json").stderr
    (home / ".config").write_text("a file where a folder should be")
    done = imported("c.json", "--write")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
