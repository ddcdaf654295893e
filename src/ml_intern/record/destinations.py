"""Finds the places that text names and that something could be sent to: hosts, pages, repositories, addresses.

Pure text work; knows no rule and no event. What hides itself (width-less characters, percent signs, base64) is read,
too.
"""

import base64
import binascii
import hashlib
import itertools
import posixpath
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

from ml_intern.record.credentials import ELSEWHERE, MARKS, brings_address, credentials
from ml_intern.record.endings import FILES, HOSTS

LOCAL = frozenset({"localhost", "127.0.0.1"})
HUB = "huggingface.co"
_LONG = 64
_MOST_CHARS = 400_000
_MOST_HIDDEN = 200

_LEAST = 2
_ENDING = re.compile(r"\.([A-Za-z]{2,24}+)(?![\w(-])")
_HIDES = re.compile(r"[A-Za-z0-9+/_-]{16}")
_LINE = ":0123456789"
_NAMES = re.compile(r"[\w.\n-]*")
_HIDDEN_CHARS = 16
_WORDS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_-")
_RUNS = bytes(ord("w") if byte in _WORDS else ord(" ") for byte in range(256))
_RUN = b"w" * _HIDDEN_CHARS
"""What could hide something, in text that `_RUNS` translated: to search bytes costs next to nothing."""

# These wait as text until a text has a mark: to compile them all takes as long as hundreds of folds.
_SEGMENT = r"[A-Za-z0-9](?:[\w.-]{0,94}[\w-])?"
_URL = r"(?i)\b[a-z][a-z0-9+.-]{1,14}://(?:[^\s/@\"'<>]{0,2000}@)?([a-z0-9][a-z0-9.-]*[a-z0-9]|[a-z0-9])\.?(:\d+)?([^\s\"'<>`\\]*)"
_SCP = r"(?i)\b[\w.-]{1,64}@([a-z0-9][a-z0-9.-]*\.[a-z]{2,}):([\w./~-]+)"
_MAIL = r"(?i)\b[\w.+-]{1,64}@[a-z0-9][a-z0-9.-]*\.[a-z]{2,}\b"
_HOST = r"(?i)(?<![\w/-])(?<!\w\.)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.){1,12}[a-z]{2,24}(?![\w-])"
_PATH = rf"(?<![\w./@~-]){_SEGMENT}(?:/{_SEGMENT}){{1,5}}"
_HIDDEN = r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{16,4000}={0,2}(?![A-Za-z0-9+/_=-])"
_ENDS = ".,;:!?)]}'\""
_KINDS = frozenset({"datasets", "spaces", "models", "api", "repos"})


def named(text: str) -> frozenset[str]:
    """The keys of every place that `text` names."""
    if not _may_name(text):
        return frozenset()
    words = _telling(text[:_MOST_CHARS])
    if not words:
        return frozenset()
    found: set[str] = set()
    for form in _forms("\n".join(sorted(words))):
        found |= _keys(form)
    # The words around an address say that there is a credential for it: of them all of the text is needed.
    return frozenset(found | {ELSEWHERE} if brings_address(text[:_MOST_CHARS]) else found)


def _may_name(text: str) -> bool:
    """Whether any word can be a place: numbers and prose, most of what commands print, are let pass at once."""
    if not text.isascii() or "/" in text or "@" in text or "%" in text or "&" in text:
        return True
    if ("_" in text or "-" in text) and any(mark in text for mark in MARKS):
        return True
    return _has_host(text) or (_RUN in text.encode().translate(_RUNS) and _is_mixed(text))


def _telling(text: str) -> set[str]:
    """The words that can name a place, or hide one: most of most texts cannot, and to look at them takes long."""
    words = set(text.split())
    kept = _paths_of([word for word in words if "/" in word]) if "/" in text else set[str]()
    for mark in (mark for mark in ("@", "%", "&", *MARKS) if mark in text):
        kept.update(word for word in words if mark in word)
    if not text.isascii():
        kept.update(word for word in words if not word.isascii())
    if "." in text:
        kept.update(_with_hosts("\n".join(word for word in words if "." in word and "/" not in word)))
    if _is_mixed(text):
        kept.update(word for word in words if len(word) >= _HIDDEN_CHARS and _is_mixed(word) and _HIDES.search(word))
    return {word for word in kept if len(word) > _LEAST}


def _paths_of(words: list[str]) -> set[str]:
    """The words without the places of a search (`src/a/b.py:12:`), and files in folders as their folders: only the
    first two names of a path may be somebody's. All at once, since a list of files is long.
    """
    listed = {word.rstrip(_LINE) for word in words if word[-1] == ":" and word[-2:-1].isdigit()}
    if listed := {word for word in listed if word.rpartition(".")[2] in FILES}:
        words = [word for word in words if word[-1] != ":" or word.rstrip(_LINE) not in listed]
    parts = [(word, *word.rpartition("/")) for word in words]
    deep = [part for part in parts if "/" in part[1] and part[3].rpartition(".")[2] in FILES and "://" not in part[1]]
    if not deep or not _NAMES.fullmatch("\n".join(part[3] for part in deep)):
        return set(words)
    return {part[0] for part in parts}.difference(part[0] for part in deep).union(part[1] for part in deep)


def _with_hosts(words: str) -> Iterator[str]:
    """Those of the words, one a line, that have a host in them."""
    for found in _ENDING.finditer(words):
        if found[1].lower() in HOSTS:
            end = words.find("\n", found.end())
            yield words[words.rfind("\n", 0, found.start()) + 1 : end if end >= 0 else None]


def _has_host(text: str) -> bool:
    return not HOSTS.isdisjoint(map(str.lower, _ENDING.findall(text)))


def _is_mixed(text: str) -> bool:
    """Whether it has both cases, as every base64 of a text has. Hashes and numbers have not."""
    return not (text.islower() or text.isupper())


def plain(text: str) -> str:
    """`text` without what only the eye overlooks: width-less and direction marks, look-alike forms of one character."""
    if text.isascii():
        return text
    # The full stop of other scripts parts the labels of a host, too (RFC 3490, 3.1).
    shown = unicodedata.normalize("NFKC", text).replace("\u3002", ".")
    return "".join(each for each in shown if unicodedata.category(each) != "Cf")


def page(match: re.Match[str]) -> tuple[str, str, str]:
    """Host, path without its end marks, and query of a URL that `urls` found."""
    path, mark, query = match[3].rstrip(_ENDS).partition("?")
    path = path.partition("#")[0]
    path = unquote(path) if "%" in path else path
    # As a server reads it: `//`, `.` and `..` lead to the same page.
    if "//" in path or "/." in path:
        path = "/" + posixpath.normpath(path).lstrip("/.")
    path = path.rstrip("/")
    return match[1].lower().rstrip("."), path.removesuffix(".git"), f"{mark}{query}"


def urls(text: str) -> Iterator[re.Match[str]]:
    """Every URL of the text."""
    return re.finditer(_URL, text)


def hosts_and_addresses(text: str) -> frozenset[str]:
    """The keys of hosts, of mail addresses, and of what `git` and `scp` write as `user@host:path`."""
    hosts = [found[0] for found in re.finditer(_HOST, text)]
    keys = {key("host", host) for host in hosts if host.rpartition(".")[2].lower() not in FILES}
    return frozenset(keys | addresses(text))


def addresses(text: str) -> set[str]:
    """The keys of mail addresses, and of what `git` and `scp` write as `user@host:path`."""
    keys: set[str] = set()
    if "@" in text:
        keys |= {key("mail", mail[0]) for mail in re.finditer(_MAIL, text)}
        keys |= {
            key("page", f"{found[1]}/{found[2].removesuffix('.git').strip('/')}") for found in re.finditer(_SCP, text)
        }
    return keys


def _hosts(text: str) -> set[str]:
    """Those of a text that is no command: there a word is a host by how it ends."""
    if not _has_host(text):
        return set()
    hosts = {found[0].lower() for found in re.finditer(_HOST + r"(?!\()", text)}
    return {key("host", host) for host in hosts if host.rpartition(".")[2] in HOSTS}


def names(text: str) -> frozenset[str]:
    """The keys of what may be `owner/name`, and of the owner."""
    keys: set[str] = set()
    for found in set(re.findall(_PATH, text)):
        keys |= _pairs(found.split("/"))
    return frozenset(keys)


def _paths(text: str) -> set[str]:
    """The same of a text that is no command. What lies deep in a folder is a file: only its first two names may be
    somebody's.
    """
    heads = {tuple(_shortened(found.split("/"))) for found in re.findall(_PATH, text)}
    return {each for head in heads for each in _pairs(list(head))}


def _shortened(segments: list[str]) -> list[str]:
    start = 1 if segments[0].lower() in _KINDS else 0
    deep = len(segments) > start + _LEAST and segments[-1].rpartition(".")[2].lower() in FILES
    return segments[: start + _LEAST] if deep else segments


def owner_and_name(path: str) -> frozenset[str]:
    """The same of a URL's path: whose page it is stands first in it."""
    return frozenset(_pairs([part for part in path.split("/") if part], 1))


def owner(path: str) -> frozenset[str]:
    """The key of whose page it is, also where the path names nothing of theirs."""
    parts = [part for part in path.split("/") if part and part.lower() not in _KINDS]
    return frozenset({key("owner", parts[0])} if parts else ())


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
    keys = _hosts(text) | addresses(text) | (shown := credentials(text))
    if "://" in text and shown:
        keys.add(ELSEWHERE)
    if "/" not in text:
        return keys
    keys |= _paths(text)
    for host, path, query in {page(match) for match in urls(text)} if "://" in text else ():
        keys |= {key("host", host), key("page", f"{host}{path}")}
        keys |= {key("url", f"{host}{path}{query}")} if query else set()
        keys |= owner_and_name(path)
    return keys


def _forms(text: str) -> Iterator[str]:
    """The text as it stands, and as it reads once what hides parts of it is undone."""
    yield text
    undone = unquote(text) if "%" in text else text
    if "&" in undone:
        # It has a table of two thousand names, and few texts have one of them.
        from html import unescape  # noqa: PLC0415

        undone = unescape(undone)
    undone = plain(undone)
    if undone != text:
        yield undone
    yield from hidden(text)


def hidden(text: str) -> Iterator[str]:
    """The texts that it holds in base64."""
    # Hashes and paths are no base64 of a text, which has both cases: a list of them must not use up what is opened.
    found = (each[0] for each in re.finditer(_HIDDEN, text) if _is_mixed(each[0]))
    for each in itertools.islice(found, _MOST_HIDDEN):
        if opened := _opened(each):
            yield opened


def _opened(text: str) -> str:
    """What a base64 text holds; empty where that is no readable text."""
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        found = base64.b64decode(body + "=" * (-len(body) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
    return found if found.replace("\n", " ").isprintable() else ""
