"""Where an effect would send something. Of a command what its words show: it is a tripwire above the walls, no wall.

Pure; knows no rule. What is only read is no destination: a page as it stands, a clone, a download.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from ml_intern.record.destinations import (
    HUB,
    LOCAL,
    hosts_and_addresses,
    key,
    named,
    names,
    owner_and_name,
    page,
    plain,
    urls,
)
from ml_intern.record.effects import Destroys, Effect, Executes, Notifies, Publishes, Reaches, Spends

KNOWN = frozenset(
    {HUB, "hf.co", "github.com", "raw.githubusercontent.com", "api.github.com", "gitlab.com", "pypi.org"}
    | {"files.pythonhosted.org", "arxiv.org", "export.arxiv.org", *LOCAL}
)
"""Hosts of our own catalog: naming one of them is nothing that a text could have taught. Their pages are not."""

_ENDPOINT = re.compile(r"\$\{?HF_ENDPOINT\}?")
_MADE_UP = re.compile(r"[$`{]")
_POSTS = re.compile(
    r"\bcurl\b.*?\s(?:-[a-zA-Z]*[dFT]\b|-[dFT]\S|--(?:data|form|json|upload-file|url-query)"
    r"|(?:-X|--request)[ =]?(?:POST|PUT|PATCH|DELETE))|\bwget\b.*?--(?:post|body|method)"
    r"|\bhttps?\s+(?:POST|PUT|PATCH)\b"
    r"|\b(?:requests|httpx|session|client)\.(?:post|put|patch|request)\b|urlopen\([^)]*data|smtplib",
    re.DOTALL,
)
_CONNECTS = re.compile(
    r"(?:^|[\s;&|(])(?:nc|ncat|netcat|telnet|socat|ssh|scp|sftp|rsync|ftp|sendmail|mail|mutt|swaks|dig|nslookup|drill|ping|host"
    r"|curl|wget)\s|/dev/tcp/"
)
_FETCHES = re.compile(r"(?:^|[\s;&|(])(?:curl|wget)\s")
_PUSHES = re.compile(
    r"\bgit\b[^;&|\n]*?\s(?:push|send-email|send-pack)\b|\bgit-lfs\s+push\b|\bgh\s+\w+\s+(?:create|comment|edit)"
)
_REMOTES = re.compile(r"\bgit\b[^;&|\n]*?\s(?:remote|config|clone|submodule|fetch|pull)\b")
_SETS = re.compile(r"\bgit\b[^;&|\n]*?\s(?:remote\s+(?:add|set-url)|config)\b")
_INDEX = re.compile(
    r"(?:--(?:extra-)?index(?:-url)?|--default-index|--find-links|--trusted-host|(?<=\s)-[if])[ =]|"
    r"(?:PIP|UV)_[A-Z_]*(?:INDEX|LINKS|HOST)[A-Z_]*=|(?:index-url|index_url|find-links)\s*[= ]"
)
_UPLOADS = re.compile(
    r"\b(?:hf|huggingface-cli)\s+(?:upload|repos?\b)|push_to_hub|upload_(?:file|folder)|create_(?:repo|commit)"
)


class Destination(Struct, frozen=True):
    """A place: its key, and how a person reads it. `page`: the very link that is asked for there with a query; where a
    text held exactly that, asking for it tells nobody anything.
    """

    key: str
    shown: str
    page: str = ""


def outgoing(effect: Effect, remotes: Iterable[str] = ()) -> tuple[Destination, ...]:
    """The places that the effect would send something to. `remotes` are those that git was told of before."""
    match effect:
        case Publishes(target=target) | Destroys(target=target, remote=True):
            return tuple(_shown(named(plain(target).rpartition("@")[0] or plain(target))))
        case Notifies(recipient=recipient):
            return tuple(_shown(named(plain(recipient))))
        case Spends(payer=payer, own=False):
            return (Destination(key("owner", payer), payer),)
        case Reaches(host=host, known=False):
            return (Destination(key("host", plain(host)), host),)
        case Executes(command=command):
            return tuple(dict.fromkeys(_of_command(_ENDPOINT.sub(f"https://{HUB}", plain(command)), remotes)))
        case _:
            return ()


def remotes_of(command: str) -> tuple[str, ...]:
    """The places that a command makes known to git: what a later push may go to."""
    command = plain(command)
    if not _REMOTES.search(command):
        return ()
    found = [each.key for each in _pages(command) if each.key.startswith("page")]
    return tuple(dict.fromkeys(found))


def _of_command(command: str, remotes: Iterable[str]) -> Iterator[Destination]:
    if posts := _POSTS.search(command):
        yield from _pages(command)
    if _CONNECTS.search(command) and (posts or not _FETCHES.search(command)):
        yield from _shown(hosts_and_addresses(command))
    if _PUSHES.search(command) or _SETS.search(command) or _INDEX.search(command):
        yield from _pages(command)
    if _PUSHES.search(command):
        yield from _shown(remotes)
    if _UPLOADS.search(command):
        yield from _shown(names(command))
    yield from _asked(command)


def _pages(command: str) -> Iterator[Destination]:
    """The URLs of a command, and the hosts that are not of our catalog."""
    for match in urls(command):
        host, path, _ = page(match)
        path = _MADE_UP.split(path)[0].rstrip("/")
        yield from _place(host, path)
        if host in KNOWN:
            # Whose it is stands in the path: there are many doors to one repository.
            yield from _shown(owner_and_name(path))
    yield from _shown(each for each in hosts_and_addresses(command) if each.startswith("page"))


def _asked(command: str) -> Iterator[Destination]:
    """Pages that are asked for with something that the command fills in; one as it stood in a text tells nobody."""
    for match in urls(command):
        host, path, query = page(match)
        filled = _MADE_UP.search(f"{match[3]}{command[match.end() : match.end() + 1]}") is not None
        if host in LOCAL or not (query or filled):
            continue
        link = "" if filled else key("url", f"{host}{path}{query}")
        for each in _place(host, _MADE_UP.split(path)[0].rstrip("/")):
            yield Destination(each.key, each.shown, link)


def _place(host: str, path: str) -> Iterator[Destination]:
    if host in LOCAL:
        return
    yield Destination(key("page", f"{host}{path}"), f"{host}{path}")
    yield from _shown([key("host", host)])


def _shown(keys: Iterable[str]) -> Iterator[Destination]:
    """Places known by their keys; hosts of our catalog name nobody."""
    for each in sorted(keys):
        kind, _, words = each.partition(":")
        if kind != "host":
            yield Destination(each, words or "a long address")
        elif words not in KNOWN:
            # A name below another belongs to who has that one.
            labels = words.split(".")
            yield from (Destination(key("host", ".".join(labels[at:])), words) for at in range(len(labels) - 1))
