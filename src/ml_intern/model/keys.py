"""Keys: where each is found, and every secret of the environment by name. Knows no provider and keeps nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ml_intern.base.errors import BadSettings
from ml_intern.model import login

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:TOKEN|TOKEN_BEDROCK|API_?KEY|INFERENCE_KEY|ACCESS_KEY|SECRET|SECRET_KEY|PRIVATE_KEY|PASSWORD|PASSWD"
    r"|PASSPHRASE)$",
    re.IGNORECASE,
)
LOGIN = "ml-intern login"
PREFIXES = {
    "hf_": ("hf",),
    "sk-ant-": ("anthropic",),
    "sk-or-": ("openrouter",),
    "sk-proj-": ("openai", "openai-responses"),
    "sk-svcacct-": ("openai", "openai-responses"),
    "gsk_": ("groq",),
    "xai-": ("xai",),
    "csk-": ("cerebras",),
    "fw_": ("fireworks",),
    "AIza": ("google", "google-vertex"),
    "github_pat_": ("github", "github-copilot"),
    "ghp_": ("github", "github-copilot"),
    "gho_": ("github", "github-copilot"),
    "ghu_": ("github", "github-copilot"),
    "nvapi-": ("nvidia",),
    "r8_": ("replicate",),
    "AKIA": ("aws",),
}
"""How keys begin that can be told by it, and the providers that give them, as ids."""
# Gateways and local servers, whose keys may be anybody's.
_ANY = frozenset({"litellm", "ollama", "vllm", "lm_studio", "llamacpp", "tgi"})
_MOST_CHARS = 16_384
_LONG_CHARS = 16
_HUB_NAMES = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})


@dataclass(frozen=True, slots=True)
class Key:
    """A key and where it was found: a variable's name, `ml-intern login`, or the file of the Hub's login."""

    value: str = field(repr=False)
    source: str
    name: str = ""
    place: Literal["environment", "keyring", "file", "hub"] = "environment"


def find_key(names: Sequence[str], environ: Mapping[str, str]) -> Key | None:
    """The first of the variables `names` that holds a key, else the first that `ml-intern login` stored; for the Hub's,
    also the file that `hf auth login` writes. Blocks where the key lies in the system's keyring.

    Raises:
        BadSettings: what is found cannot be a key: it would not fit a header; or the keyring does not give it.
    """
    for name in names:
        if value := environ.get(name, "").strip():
            return checked(Key(value, name, name))
    for name in names:
        if kept := login.read(name, environ):
            return checked(Key(kept[0], LOGIN, name, kept[1]))
    if _HUB_NAMES.isdisjoint(names):
        return None
    path = hub_token_file(environ)
    value = _text_of(path).strip()
    return checked(Key(value, str(path), "HF_TOKEN", "hub")) if value else None


def given(provider: str, title: str, text: str) -> str:
    """The key of `provider` that a person typed or piped in.

    Raises:
        BadSettings: it is none, or it is another provider's by its beginning. The sentence does not hold it.
    """
    key = text.strip()
    if not key:
        raise BadSettings("No key was given.", f"Type the key of {title}, or pipe it in.")
    if len(key) > _MOST_CHARS:
        raise BadSettings(
            f"That is no key: it has more than {_MOST_CHARS} characters.", f"Copy the key of {title} only."
        )
    if key.split() != [key]:
        raise BadSettings("That is no key: it has a space or a line break inside.", f"Copy the key of {title} only.")
    if not (key.isascii() and key.isprintable()):
        raise BadSettings("That is no key: it has characters that no key has.", f"Copy the key of {title} again.")
    prefix, owners = next(((each, PREFIXES[each]) for each in PREFIXES if key.startswith(each)), ("", ()))
    if owners and provider not in owners and not provider.endswith("-compatible") and provider not in _ANY:
        what = f"That looks like a key of {owners[0]} ({prefix}…), not of {title}."
        raise BadSettings(what, f"Copy the key of {title}, or name its own provider.")
    return key


def masked(key: str) -> str:
    """Enough of a key for a person to know it by, and for nobody to use: `sk-…abcd`."""
    return f"{key[:3]}…{key[-4:]}" if len(key) >= _LONG_CHARS else "…"


def known_secrets(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Every secret of this user by name: variables named like one, the keys that our login keeps in files (one in the
    keyring is known once it was asked for), and the tokens that the Hub's login keeps.
    """
    found = {name: value.strip() for name, value in environ.items() if _SECRET_NAME.search(name) and value.strip()}
    for name, value in login.in_files(environ).items():
        if value not in found.values():
            found[name if name not in found else f"{name}_LOGIN"] = value
    path = hub_token_file(environ)
    if token := _text_of(path).strip():
        found.setdefault("HF_TOKEN", token)
        if found["HF_TOKEN"] != token:
            found["HF_TOKEN_FILE"] = token
    # `hf auth login` keeps one token per account here: https://huggingface.co/docs/huggingface_hub/package_reference/authentication
    stored = re.findall(r"^\[(.+)\]\s*^hf_token\s*=\s*(\S+)", _text_of(path.with_name("stored_tokens")), re.MULTILINE)
    found.update((f"HF_TOKEN_{name}", value) for name, value in stored if value not in found.values())
    return found


def checked(key: Key) -> Key:
    """The key, if it can be one.

    Raises:
        BadSettings: it holds what no header takes.
    """
    if key.value.isascii() and key.value.isprintable() and " " not in key.value:
        return key
    raise BadSettings(
        f"{key.source} holds characters that no key has.", "Set it again: letters, digits and signs, on one line."
    )


def hub_token_file(environ: Mapping[str, str]) -> Path:
    """Where the Hub's own login keeps its token: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables."""
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
