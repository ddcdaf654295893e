"""Keys: where each is found, and every secret of the environment by name. Knows no provider and keeps nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml_intern.base.errors import BadSettings

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|API_?KEY|ACCESS_KEY|SECRET|SECRET_KEY|PRIVATE_KEY|PASSWORD|PASSWD|PASSPHRASE)$",
    re.IGNORECASE,
)
_HUB_NAMES = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})


@dataclass(frozen=True, slots=True)
class Key:
    """A key and where it was found: a variable's name, or the file of the Hub's login."""

    value: str = field(repr=False)
    source: str


def find_key(names: Sequence[str], environ: Mapping[str, str]) -> Key | None:
    """The first of the variables `names` that holds a key; for the Hub's, also the file that `hf auth login` writes.

    Raises:
        BadSettings: what is found cannot be a key: it would not fit a header.
    """
    for name in names:
        if value := environ.get(name, "").strip():
            return _checked(Key(value, name))
    if _HUB_NAMES.isdisjoint(names):
        return None
    path = _hub_token_file(environ)
    value = _text_of(path).strip()
    return _checked(Key(value, str(path))) if value else None


def known_secrets(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Every secret this process holds, by name: variables named like one, and the tokens that the Hub's login keeps."""
    found = {name: value.strip() for name, value in environ.items() if _SECRET_NAME.search(name) and value.strip()}
    path = _hub_token_file(environ)
    if token := _text_of(path).strip():
        found.setdefault("HF_TOKEN", token)
        if found["HF_TOKEN"] != token:
            found["HF_TOKEN_FILE"] = token
    # `hf auth login` keeps one token per account here: https://huggingface.co/docs/huggingface_hub/package_reference/authentication
    stored = re.findall(r"^\[(.+)\]\s*^hf_token\s*=\s*(\S+)", _text_of(path.with_name("stored_tokens")), re.MULTILINE)
    found.update((f"HF_TOKEN_{name}", value) for name, value in stored if value not in found.values())
    return found


def _checked(key: Key) -> Key:
    if key.value.isascii() and key.value.isprintable() and " " not in key.value:
        return key
    raise BadSettings(
        f"{key.source} holds characters that no key has.", "Set it again: letters, digits and signs, on one line."
    )


def _hub_token_file(environ: Mapping[str, str]) -> Path:
    """https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables."""
    if path := environ.get("HF_TOKEN_PATH"):
        return Path(path).expanduser()
    home = Path(environ.get("HOME") or "~").expanduser()
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(environ.get("HF_HOME") or cache / "huggingface").expanduser() / "token"


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
