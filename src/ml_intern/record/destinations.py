"""Finds the places that text names and that something could be sent to: hosts, pages, repositories, addresses.

Pure text work; knows no rule and no event. What hides itself (width-less characters, percent signs, base64) is read,
too.
"""

import base64
import binascii
import hashlib
import html
import itertools
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

LOCAL = frozenset({"localhost", "127.0.0.1"})
HUB = "huggingface.co"
_LONG = 64
_MOST_CHARS = 400_000
_MOST_HIDDEN = 200

# What every place, and every way to hide one, has in it: most words of most texts have none of these.
_MARKS = re.compile(r"[/@%&\u0080-\U0010ffff]|\.[A-Za-z]|[A-Za-z0-9+_-]{16}")
_LEAST = 2
_DOTTED = re.compile(r"\.[A-Za-z]")
_HIDDEN_CHARS = 16

_SEGMENT = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w-])?"
_URL = re.compile(
    r"(?i)\b[a-z][a-z0-9+.-]{1,14}://(?:[^\s/@\"'<>]{0,200}@)?([a-z0-9][a-z0-9.-]*[a-z0-9]|[a-z0-9])(:\d+)?([^\s\"'<>`\\]*)"
)
_SCP = re.compile(r"(?i)\b[\w.-]{1,64}@([a-z0-9][a-z0-9.-]*\.[a-z]{2,}):([\w./~-]+)")
_MAIL = re.compile(r"(?i)\b[\w.+-]{1,64}@[a-z0-9][a-z0-9.-]*\.[a-z]{2,}\b")
_HOST = re.compile(r"(?i)(?<![\w/-])(?<!\w\.)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.){1,12}[a-z]{2,24}(?![\w-])")
_PATH = re.compile(rf"(?<![\w./@~-]){_SEGMENT}(?:/{_SEGMENT}){{1,5}}")
_HIDDEN = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,4000}={0,2}(?![A-Za-z0-9+/_=-])")
_ENDS = ".,;:!?)]}'\""
_KINDS = frozenset({"datasets", "spaces", "models", "api", "repos"})
_FILES = re.compile(
    r"(?i)py|pyc|ipynb|csv|tsv|json|jsonl|txt|md|rst|sh|yaml|yml|toml|cfg|ini|log|lock|gz|tgz|zip|tar|bz2|xz|"
    r"parquet|arrow|html|htm|xml|css|js|ts|jsx|tsx|so|dll|pt|pth|bin|safetensors|onnx|h5|npz|npy|pkl|c|h|cpp|"
    r"hpp|cu|rs|go|java|png|jpg|jpeg|gif|svg|pdf|mp3|mp4|wav|webp|whl|db|sqlite|out|err|tmp|bak"
)
"""Endings with which a dotted word is a file: only inside a URL it is a host."""


def named(text: str) -> frozenset[str]:
    """The keys of every place that `text` names."""
    if not _may_name(text):
        return frozenset()
    words = {word for word in text[:_MOST_CHARS].split() if len(word) > _LEAST and _MARKS.search(word)}
    found: set[str] = set()
    for form in _forms("\n".join(sorted(words))):
        found |= _keys(form)
    return frozenset(found)


def _may_name(text: str) -> bool:
    """Whether any word can be a place: numbers and prose, most of what commands print, are let pass at once."""
    if not text.isascii() or any(mark in text for mark in "/@%&") or _DOTTED.search(text):
        return True
    return max(map(len, text.split()), default=0) >= _HIDDEN_CHARS


def plain(text: str) -> str:
    """`text` without what only the eye overlooks: width-less and direction marks, look-alike forms of one character."""
    if text.isascii():
        return text
    shown = unicodedata.normalize("NFKC", text)
    return "".join(each for each in shown if unicodedata.category(each) != "Cf")


def page(match: re.Match[str]) -> tuple[str, str, str]:
    """Host, path without its end marks, and query of a URL that `urls` found."""
    path, mark, query = match[3].rstrip(_ENDS).partition("?")
    path = path.partition("#")[0].rstrip("/").removesuffix(".git")
    return match[1].lower(), path, f"{mark}{query}"


def urls(text: str) -> Iterator[re.Match[str]]:
    """Every URL of the text."""
    return _URL.finditer(text)


def hosts_and_addresses(text: str) -> frozenset[str]:
    """The keys of hosts, of mail addresses, and of what `git` and `scp` write as `user@host:path`."""
    hosts = [found[0] for found in _HOST.finditer(text)]
    keys = {key("host", host) for host in hosts if not _FILES.fullmatch(host.rpartition(".")[2])}
    if "@" in text:
        keys |= {key("mail", mail[0]) for mail in _MAIL.finditer(text)}
        keys |= {key("page", f"{found[1]}/{found[2].removesuffix('.git').strip('/')}") for found in _SCP.finditer(text)}
    return frozenset(keys)


def names(text: str) -> frozenset[str]:
    """The keys of what may be `owner/name`, and of the owner."""
    keys: set[str] = set()
    for found in _PATH.finditer(text):
        keys |= _pairs(found[0].split("/"))
    return frozenset(keys)


def owner_and_name(path: str) -> frozenset[str]:
    """The same of a URL's path: whose page it is stands first in it."""
    return frozenset(_pairs([part for part in path.split("/") if part], 1))


def key(kind: str, text: str) -> str:
    """One place, whatever its capitals; what is long is known by its hash."""
    text = f"{kind}:{text.lower()}"
    return text if len(text) <= _LONG else f"{kind}#{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:32]}"


def _pairs(segments: list[str], most: int = 4) -> set[str]:
    while segments and segments[0].lower() in _KINDS:
        segments = segments[1:]
    pairs = list(itertools.pairwise(segments))[:most]
    return {key("name", f"{owner}/{name}") for owner, name in pairs} | {key("owner", owner) for owner, _ in pairs}


def _keys(text: str) -> set[str]:
    keys = set(hosts_and_addresses(text))
    if "/" not in text:
        return keys
    keys |= names(text)
    for match in urls(text):
        host, path, query = page(match)
        keys |= {key("host", host), key("page", f"{host}{path}")}
        keys |= {key("url", f"{host}{path}{query}")} if query else set()
        keys |= owner_and_name(path)
    return keys


def _forms(text: str) -> Iterator[str]:
    """The text as it stands, and as it reads once what hides parts of it is undone."""
    yield text
    undone = plain(html.unescape(unquote(text))) if "%" in text or "&" in text or not text.isascii() else text
    if undone != text:
        yield undone
    for _, hidden in zip(range(_MOST_HIDDEN), _HIDDEN.finditer(text), strict=False):
        if opened := _opened(hidden[0]):
            yield opened


def _opened(text: str) -> str:
    """What a base64 text holds; empty where that is no readable text."""
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(body + "=" * (-len(body) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
    return found if found.replace("\n", " ").isprintable() else ""
