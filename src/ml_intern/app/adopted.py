"""A config of huggingface/ml-intern as a settings file of ours, and what of it has no counterpart. Knows no session.

Its form: agent/config.py there (`cli_agent_config.json`); `${NAME}` and `${NAME:-default}` in a text are variables.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from msgspec import Struct

from ml_intern.app.options import EFFORTS
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible_line
from ml_intern.policy.redact import redact

Json = Any
"""What JSON holds: text, number, truth value, nothing, list, object."""

PRODUCT = "huggingface/ml-intern"
MOST_BYTES = 1_000_000

_UNBOUND_STEPS = 10_000
"""What a negative `max_iterations` means there."""
_NO_EFFORT = {"none": "off", "disabled": "off"}
_LOCAL = ("ollama/", "vllm/", "lm_studio/", "llamacpp/")
_VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")
_SECRET_FLAG = re.compile(r"--?[\w-]*(?:token|key|secret|passw)[\w-]*", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@|\?.*\Z")
_NOT_IN_NAMES = re.compile(r"\W+")

_UPLOAD = "nothing of a session is ever uploaded"
_ON_DISK = "every event is on disk as it happens"
_WHY = {
    "save_sessions": "every session is recorded, on this machine; `ml-intern sessions delete` removes one",
    "session_dataset_repo": _UPLOAD,
    "share_traces": _UPLOAD,
    "personal_trace_repo_template": _UPLOAD,
    "auto_save_interval": _ON_DISK,
    "heartbeat_interval_s": _ON_DISK,
    "auto_file_upload": "it has no effect there either",
    "confirm_cpu_jobs": "what a call spends is judged by `mode` and [rules]",
    "tool_runtime": "commands run on this machine, in a sandbox",
    "messaging": "there are no notifications yet; its tokens were not copied",
}


class Adopted(Struct, frozen=True):
    """`toml` is a settings file; `told` says in a line each what else the config holds, and why it is not in it."""

    toml: str
    told: tuple[str, ...]


def adopt(data: bytes, name: str, environ: Mapping[str, str]) -> Adopted:
    """What the config `data`, the file of this `name`, comes to.

    Raises:
        BadSettings: it is no such config.
    """
    found = _Findings(environ)
    for key, value in _config(data, name).items():
        found.take(key, value)
    head = f"# From {visible_line(name)}, a config of {PRODUCT}."
    return Adopted("".join(f"{line}\n" for line in (head, *found.lines, *found.notes)), tuple(found.told))


def _config(data: bytes, name: str) -> dict[str, Any]:
    remedy = f"Give a cli_agent_config.json of {PRODUCT}."
    try:
        config: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadSettings(f"{name} holds no JSON.", remedy) from error
    known = {"model_name", "mcpServers", "yolo_mode", "max_iterations", "reasoning_effort", *_WHY}
    if not isinstance(config, dict) or not known & cast("dict[str, Any]", config).keys():
        raise BadSettings(f"{name} is no config of {PRODUCT}.", remedy)
    return cast("dict[str, Any]", config)


class _Findings:
    """Goes through a config: `lines` of settings, `notes` to keep beside them, what a person is `told`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._takes: dict[str, Callable[[Json], None]] = {
            "model_name": self._model,
            "yolo_mode": self._mode,
            "max_iterations": self._steps,
            "mcpServers": self._servers,
            "reasoning_effort": self._effort,
        }
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.told: list[str] = []

    def take(self, key: str, value: Json) -> None:
        """One key of the config."""
        take = self._takes.get(key)
        if take is not None:
            take(value)
        elif key in _WHY:
            self._tell(key, _WHY[key])
        else:
            self._tell(key, f"neither {PRODUCT} nor we have such a setting")

    def _tell(self, key: str, why: str) -> None:
        self.told.append(visible_line(f"{key}: {why}."))

    def _model(self, value: Json) -> None:
        given = value if isinstance(value, str) else ""
        text = self._filled("model_name", given)
        if text is None:
            return
        text = text.strip().removeprefix("huggingface/")
        if text.startswith(_LOCAL):
            model = text
        elif "/" in text and not text.startswith("openai-compat/"):
            model = f"hf/{text}"
        else:
            self._tell("model_name", f"{text!r} names no model; say `model = ...` yourself")
            return
        if redact(model) != model:
            self._tell("model_name", "it looks like a secret, so it was not copied")
            return
        self.lines.append(f"model = {_quoted(model)}")

    def _filled(self, key: str, text: str) -> str | None:
        """The text with the variables that it names; None where one is not set, which is told."""
        missing = [
            found[1] for found in _VARIABLE.finditer(text) if found[2] is None and not self._environ.get(found[1])
        ]
        if missing:
            self._tell(key, f"it names the variable {missing[0]}, which is not set")
            return None
        if _VARIABLE.search(text):
            self._tell(key, "it names a variable; our file holds what that is now")
        return _VARIABLE.sub(lambda found: self._environ.get(found[1]) or found[2] or "", text)

    def _mode(self, value: Json) -> None:
        if value is True:
            self.lines.append('mode = "yolo"')
            self._tell("yolo_mode", "mode yolo allows what would ask; the sandbox and the budget stand all the same")
        else:
            self._tell("yolo_mode", "without it the mode is auto: what would ask is denied, or held by `on_ask`")

    def _steps(self, value: Json) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value == 0:
            self._tell("max_iterations", "it is no number of steps")
            return
        if value < 0:
            self._tell("max_iterations", f"there is always a limit; {_UNBOUND_STEPS} is what it meant there")
        self.lines.append(f"max_steps = {value if value > 0 else _UNBOUND_STEPS}")

    def _effort(self, value: Json) -> None:
        """There are none, minimal, low, medium, high, xhigh and max there; nothing is what the model does by itself."""
        given = self._filled("reasoning_effort", value) if isinstance(value, str) else ""
        word = _NO_EFFORT.get(given.strip().lower(), given.strip().lower()) if given is not None else ""
        if word in EFFORTS:
            self.lines.append(f"effort = {_quoted(word)}")
        elif value is None:
            self._tell("reasoning_effort", "nothing is said there, so each model thinks as it does by itself")
        elif given is not None:
            self._tell("reasoning_effort", f"it is none of {', '.join(EFFORTS)}; say `effort = ...` yourself")

    def _servers(self, value: Json) -> None:
        servers: dict[str, Any] = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if servers:
            self.notes.append("# MCP servers, kept for a version that knows them. Secrets are named, not copied.")
        for name, server in servers.items():
            named: list[str] = []
            shown = json.dumps(_without_secrets(server, f"MCP_{name}", named))
            self.notes.append(visible_line(f"# {json.dumps(name)} = {shown}"))
            kept = f"; its secrets were not copied, put them into {', '.join(named)}" if named else ""
            self._tell(f"mcpServers.{name}", f"there are no MCP servers yet; it is kept as a comment{kept}")


def _without_secrets(value: Json, name: str, named: list[str], *, hides: bool = False) -> Json:
    """The value with variables' names where secrets stand; `named` gets those that are new."""
    match value:
        case dict():
            rows = cast("dict[str, Any]", value)
            return {
                key: _without_secrets(each, f"{name}_{key}", named, hides=hides or key in {"headers", "env", "auth"})
                for key, each in rows.items()
            }
        case list():
            return list(_of_list(cast("list[Any]", value), name, named, hides=hides))
        case str() if _VARIABLE.fullmatch(value):
            return value
        case str():
            cleaned = redact(_CREDENTIALS.sub("", value) if "://" in value else value)
            return _named(name, named) if hides or cleaned != value else value
        case _:
            return value


def _of_list(values: list[Any], name: str, named: list[str], *, hides: bool) -> Iterator[Any]:
    after_flag = False
    for number, each in enumerate(values):
        flag, equals, _ = each.partition("=") if isinstance(each, str) else ("", "", "")
        is_flag = _SECRET_FLAG.fullmatch(flag) is not None
        if is_flag and equals:
            yield f"{flag}={_named(f'{name}_{number}', named)}"
        else:
            yield _without_secrets(each, f"{name}_{number}", named, hides=hides or after_flag)
        after_flag = is_flag and not equals


def _named(name: str, named: list[str]) -> str:
    variable = _NOT_IN_NAMES.sub("_", name).upper()
    named.append(variable)
    return f"${{{variable}}}"


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's, with nothing in it that is not ASCII or that no editor shows."""
    return json.dumps(text).replace("\x7f", "\\u007f")
