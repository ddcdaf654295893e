"""Where packages come from: a person's pip settings in uv's words. Knows no package."""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# Environment settings of uv that would change what is built: into another place, from source, or by running code.
_DROPPED = (
    "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "UV_COMPILE_BYTECODE", "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_REQUIRE_HASHES",
    "UV_SYSTEM_PYTHON", "UV_WORKING_DIRECTORY", "VIRTUAL_ENV",
)  # fmt: skip
# (pip's option, uv's variables for the same: ours to set is the first)
_SAME = (
    ("index-url", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
    ("extra-index-url", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ("find-links", ("UV_FIND_LINKS",)),
    ("trusted-host", ("UV_INSECURE_HOST",)),
    ("cert", ("SSL_CERT_FILE",)),
)
_URL = re.compile(r"https?://[^\s,'\"\]]+")
_UV_KEYS = {"index", "index-url", "extra-index-url", "find-links", "no-index"}


def uv_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: the person's own, with pip's index settings added where they set none for uv.

    uv reads no pip settings (https://docs.astral.sh/uv/pip/compatibility/), so a person behind a mirror who
    only ever told pip would get nothing.
    """
    chosen = {name: value for name, value in environ.items() if name not in _DROPPED}
    chosen |= {"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    if _uv_knows_indexes(environ):
        return chosen
    settings = _pip_settings(environ)
    for option, names in _SAME:
        values = _existing(settings.get(option, ""))
        if values and not any(environ.get(name) for name in names):
            chosen[names[0]] = ("," if option == "find-links" else " ").join(values)
    if "UV_INDEX" in chosen or "UV_EXTRA_INDEX_URL" in chosen:
        # pip takes the best version of all indexes; uv's default stops at the first index that has the name.
        chosen.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return chosen


def uv_options(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What of pip's settings has no variable in uv: `--no-index`."""
    value = "" if _uv_knows_indexes(environ) else _pip_settings(environ).get("no-index", "")
    return ("--no-index",) if value.lower() not in {"", "0", "false", "no", "off"} else ()


def index_urls(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Every place of packages that the person's variables, pip files and uv files name. Blocks."""
    chosen = uv_environment(environ)
    texts = [chosen.get(name, "") for _, names in _SAME[:3] for name in names]
    texts += [environ.get(name, "") for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS")]
    for settings in _uv_settings(environ):
        for table in (settings, settings.get("pip", {})):
            texts += [str(table.get(key, "")) for key in ("index-url", "extra-index-url", "find-links")]
            texts += [str(index.get("url", "")) for index in table.get("index", [])]
    return tuple(dict.fromkeys(found for text in texts for found in _URL.findall(text)))


def _uv_knows_indexes(environ: Mapping[str, str]) -> bool:
    return any(_UV_KEYS & {*settings, *settings.get("pip", {})} for settings in _uv_settings(environ))


def _uv_settings(environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    configuration = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    named = environ.get("UV_CONFIG_FILE")
    files = [Path(named)] if named else [configuration / "uv" / "uv.toml", Path("/etc/uv/uv.toml")]
    for file in filter(Path.is_file, files):
        import tomllib  # 3 ms, and most machines have no such file

        try:
            settings: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        yield settings


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's options from its files, later ones first, then its variables (https://pip.pypa.io/en/stable/topics/configuration/)."""
    settings: dict[str, str] = {}
    for file in filter(Path.is_file, _pip_files(environ)):
        import configparser  # as above

        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for option in (*(option for option, _ in _SAME), "no-index"):
        value = environ.get("PIP_" + option.upper().replace("-", "_"))
        if value is not None:
            settings[option] = value
    return settings


def _pip_files(environ: Mapping[str, str]) -> list[Path]:
    home = Path(environ.get("HOME", "/"))
    configuration = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = environ.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        home / ".pip" / "pip.conf",
        configuration / "pip" / "pip.conf",
    ]
    return [*files, Path(sys.prefix) / "pip.conf", *([Path(named)] if named else [])]


def _existing(value: str) -> list[str]:
    """The settings' entries, without local places that are not there: uv fails on them, pip does not."""
    kept: list[str] = []
    for part in value.split():
        path = unquote(urlsplit(part).path) if part.startswith("file:") else part
        local = part.startswith("file:") or part.startswith(("/", "~", "./"))
        if not local or os.path.exists(os.path.expanduser(path)):
            kept.append(os.path.expanduser(part) if part.startswith("~") else part)
    return kept
