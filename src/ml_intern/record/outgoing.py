"""Where an effect would send something. Of a command what its words show: it is a tripwire above the walls, no wall.

Pure; knows no rule. What is only read is no destination: a page as it stands, a clone, a download.
"""

import itertools
import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from ml_intern.record.credentials import ELSEWHERE, credentials
from ml_intern.record.destinations import (
    HUB,
    LOCAL,
    hidden,
    hosts_and_addresses,
    key,
    named,
    names,
    owner,
    owner_and_name,
    page,
    plain,
    urls,
)
from ml_intern.record.effects import Destroys, Effect, Executes, Notifies, Publishes, Reaches, Spends
from ml_intern.record.remotes import PART, Remote, concerns, folders_of, remotes_of

KNOWN = frozenset(
    {HUB, "hf.co", "github.com", "raw.githubusercontent.com", "api.github.com", "gitlab.com", "pypi.org"}
    | {"files.pythonhosted.org", "arxiv.org", "export.arxiv.org", *LOCAL}
)
"""Hosts of our own catalog: naming one of them is nothing that a text could have taught. Their pages are not."""

_ENDPOINT = r"\$\{?HF_ENDPOINT\}?"
_MADE_UP = r"[$`]|\{(?![\w-]+(?:,|\.\.)[\w.,-]*\})"
_MAKES = r"\$\(|`|<\(|\{|(?:^|[\s;&|])(?:read|mapfile|source|\.|xargs|eval)\s"
"""Without one of these a shell variable is what the command itself shows: a loop over numbers tells nobody anything."""

# They wait as text until a command is judged: to compile them all is not for the way to the first request.
_CURL = r"\bcurl(?=\s)"
_SENDS = (
    r"\s(?:-[a-zA-Z]*[dFT]\b|-[dFT]\S|--(?:data|form|json|upload-file|url-query)"
    r"|(?:-X|--request)[ =]?[\"']?(?:POST|PUT|PATCH|DELETE))"
)
_WGET = r"\bwget(?=\s)"
_BODY = r"--(?:post|body|method)"
_POSTS = (
    r"\bhttps?\s+(?:(?:POST|PUT|PATCH)\b|\S{1,500}\s+[\w-]{1,60}:?[=@])|\.(?:post|put|patch)\("
    r"|\b(?:requests|httpx|session|client)\.request\b|urlopen\([^)]{0,500}data|\bRequest\("
    r"|\bfetch\([^)]{0,500}(?:method|body)|smtplib"
)
_DATA = r"(\s(?:-[sSfLkgivNORJqn]{0,20}[dF]|--(?:data[a-z-]*|form|json))[ =]?)(?:'[^']*+'|\"(?:[^\"\\]++|\\.)*+\"|\S+)"
_CONNECTS = (
    r"(?:^|[;&|(`\n])\s*(?:(?:\w+=\S*|sudo|env|xargs|nohup|time|timeout\s+\S+)\s+){0,5}(?:nc|ncat|netcat|telnet|socat|ssh|scp"
    r"|sftp|rsync|ftp|sendmail|mail|mutt|swaks|dig|nslookup|drill|ping|host|curl|wget)\s|/dev/tcp/"
)
_CALLED = r"\b[\w.]+\("
_GIT = r"\bgit\b|\bgit-lfs\b"
_PUSH = r"\s(?:push|send-email|send-pack|remote-https?)\b|alias\."
_SET_UP = r"\s(?:remote\s+(?:add|set-url)|config)\b"
_GH = r"\bgh\s+\w+\s+(?:create|comment|edit)"
_API = r"\bgh\s+api\b"
_INSTALLER = r"\b(?:pip3?|pipx|uv|uvx|pdm|poetry)\b"
_INDEX = (
    r"--(?:extra-)?index(?:-url)?|--default-index|--find-links|--trusted-host|\s-[if](?=[ =]|https?:)"
    r"|index-url|find-links"
)
_INDEX_SET = r"(?:PIP|UV)_[A-Z_]*(?:INDEX|LINKS|HOST)[A-Z_]*=|(?:index-url|index_url|find-links)\s*[= ]"
_INDEXES = frozenset({"pypi.org", "files.pythonhosted.org", "download.pytorch.org"})
"""Pip prints the index that it looks in: those that everybody uses are nothing that a text could have taught."""
_FROM_GIT = r"\bgit\+\S+"
_ID = r"[\"']?([\w.-]+/[\w.-]+)"
_UPLOADS = (
    rf"\b(?:hf|huggingface-cli)\s+(?:upload(?:-large-folder)?|repos?\s+\w+)\s+(?:-\S+\s+){{0,9}}{_ID}"
    rf"|push_to_hub\w*\(\s*(?:repo_id\s*=\s*)?{_ID}|\b(?:repo|hub_model|hub_dataset)[_-]id[\"']?\s*[=: ]\s*{_ID}"
    r"|\b(?:upload|create)_(?:file|folder|large_folder|repo|commit)(\([^)]{0,500})"
)
_POSTED = r"\.(?:post|put|patch)\(\s*(?:[rbf]{0,2}[\"'])?([a-z]+://[^\"'\s,)${}]+)(?=[\"',)])"
_REQUESTS = r"\.request\(\s*[\"'](?:POST|PUT|PATCH)[\"']\s*,\s*[\"'](/[^\"'\s]+)"
_CHOICES = r"\{[\w.-]*(?:,[\w.-]*)+\}"
_MOST_CHOICES = 4
_TO = (
    r"\spush\s+(?:--?(?:repo[ =]|receive-pack[ =]\S+|o\s+\S+|[\w-]+(?:=\S*)?)\s*)*[\"']?"
    r"((?:\$|`|\{\}).*)"
)
_POSTS_TO = r"\s[\"']?((?:\$|`|\{\}|https?://(?:\$|`))\S*)[\"']?\s*$"
_GIT_SET = r"GIT_CONFIG|include\.path|(?i:insteadOf)"
_CONFIG = r"\s(?:-[a-zA-Z]*K|--config)\b"
_JOINED = r"\\\r?\n"
_QUOTES = r"[\"'\\]"
_SET = r"(?:^|[\s;&|])([A-Za-z_]\w*)=(\"[^\"$`]*+\"|'[^']*+'|[^\s;&|$`\"']++)"
_MOST_SET = 50


class Destination(Struct, frozen=True):
    """A place: its key, and how a person reads it. `page`: the very link that is asked for there with a query; where a
    text held exactly that, asking for it tells nobody anything.
    """

    key: str
    shown: str
    page: str = ""


def outgoing(effect: Effect, remotes: Iterable[Remote] = ()) -> tuple[Destination, ...]:
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
        case Executes(command=command, folder=folder):
            known = (*remotes, *remotes_of(plain(command), folder))
            readings = [*_readings(command)]
            found = [place for text in readings for place in _of_command(text)]
            found += [place for text in readings for place in _pushed(text, known, folder)]
            return tuple(dict.fromkeys([*found, *_unsaid(command), *_accounts(command)]))
        case _:
            return ()


def _parts(command: str) -> list[str]:
    return [found[0] for found in re.finditer(PART, command)]


def _after(first: str, then: str, text: str) -> bool:
    found = re.search(first, text)
    return found is not None and re.search(then, text[found.end() :]) is not None


def _readings(command: str) -> Iterator[str]:
    """The command as it stands, and as a shell reads it: quotes within words undone, what it set filled in."""
    text = re.sub(_JOINED, " ", re.sub(_ENDPOINT, f"https://{HUB}", plain(command)))
    for part in _parts(text):
        # What is sent is no place that it is sent to.
        if re.search(_CURL, part) and (bare := re.sub(_DATA, r"\1_", part)) != part:
            text = text.replace(part, bare, 1)
    yield text
    filled = text
    for name, value in dict(re.findall(_SET, text)[:_MOST_SET]).items():
        filled = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", lambda _, value=value: value.strip("\"'"), filled)
    if (bare := re.sub(_QUOTES, "", filled)) != text:
        yield bare
    # Bounded: a long command with many of either is no way to be let through, only to be slow.
    for found in itertools.islice(re.finditer(_CHOICES, text), _MOST_CHOICES):
        yield from (text.replace(found[0], each) for each in found[0][1:-1].split(",")[:_MOST_CHOICES])
    yield from hidden(text)


def _of_command(command: str) -> Iterator[Destination]:
    rest, told = _told_posts(command)
    yield from (place for each in told for place in _pages(each))
    parts, posts = _parts(command), re.search(_POSTS, rest) is not None
    if posts:
        yield from _pages(command)
    for part in parts:
        yield from _of_part(part, posts=posts or _after(_CURL, _SENDS, part) or _after(_WGET, _BODY, part))
    for found in re.finditer(_UPLOADS, command):
        yield from _shown(names(" ".join(filter(None, found.groups()))))
    for found in re.finditer(_REQUESTS, command):
        yield from _shown(owner_and_name(found[1]))
    yield from _asked(command)


def _told_posts(command: str) -> tuple[str, list[str]]:
    """What is left of a command without the posts of its code that say where they go, and the addresses of those."""
    told: list[str] = []

    def kept(match: re.Match[str]) -> str:
        told.append(match[1])
        return " "

    return re.sub(_POSTED, kept, command), told


def _pushed(command: str, remotes: Iterable[Remote], folder: str) -> Iterator[Destination]:
    """What the repository knows in which something is pushed."""
    for part, at in folders_of(_parts(command), folder):
        if _after(_GIT, _PUSH, part) or re.search(_GH, part):
            yield from _shown({each.key for each in remotes if concerns(each, at)})


def _unsaid(command: str) -> Iterator[Destination]:
    """That it pushes or posts, and where is not in its words."""
    text = re.sub(_JOINED, " ", re.sub(_ENDPOINT, f"https://{HUB}", plain(command)))
    known = {name for name, _ in re.findall(_SET, text)[:_MOST_SET]}
    for part in _parts(text):
        pushes = _after(_GIT, _PUSH, part) and (re.search(_GIT_SET, text) or _is_unsaid(_TO, part, known))
        posts = _after(_CURL, _SENDS, part) and _is_unsaid(_POSTS_TO, part, known)
        if pushes or posts or _after(_CURL, _CONFIG, part):
            yield Destination(
                ELSEWHERE, "an address that came with a credential and that the command does not spell out"
            )
            return


def _is_unsaid(where: str, part: str, known: set[str]) -> bool:
    """Whether what stands there is filled in by more than variables that the command itself sets."""
    found = re.search(where, part)
    if found is None:
        return False
    names = re.fullmatch(r"\$\{?(\w+)\}?.*", found[1])
    return names is None or names[1] not in known


def _accounts(command: str) -> Iterator[Destination]:
    """Whose account a command uses. Who only fetches with it tells them nothing."""
    parts = [part for part in _parts(plain(command)) if not _after(_GIT, r"\s(?:clone|fetch|pull)\b", part)]
    yield from (Destination(each, "a credential") for part in parts for each in sorted(credentials(part)))


def _of_part(part: str, *, posts: bool) -> Iterator[Destination]:
    """What one command of the shell sends to."""
    fetches = re.search(_CURL, part) or re.search(_WGET, part)
    if (fetches and posts) or _after(_GIT, _PUSH, part) or _after(_GIT, _SET_UP, part) or re.search(_GH, part):
        yield from _pages(part)
    if re.search(_CONNECTS, part) and (posts or not fetches):
        yield from _shown(hosts_and_addresses(re.sub(_CALLED, " ", part.replace("/dev/tcp/", " "))))
    if _after(_INSTALLER, _INDEX, part) or re.search(_INDEX_SET, part):
        yield from (each for each in _pages(re.sub(_FROM_GIT, "", part)) if not _is_index(each))
    if re.search(_API, part):
        yield from _shown(names(part))


def _is_index(place: Destination) -> bool:
    return place.shown.partition("/")[0] in _INDEXES


def _pages(command: str) -> Iterator[Destination]:
    """The URLs of a command, and the hosts that are not of our catalog."""
    for match in urls(command):
        host, path, _ = page(match)
        path = re.split(_MADE_UP, path)[0].rstrip("/")
        yield from _place(host, path)
        if host in KNOWN and host not in LOCAL:
            # Whose it is stands in the path: there are many doors to one repository.
            yield from _shown(owner_and_name(path) | owner(path))
    yield from _shown(each for each in hosts_and_addresses(command) if each.startswith("page"))


def _asked(command: str) -> Iterator[Destination]:
    """Pages that are asked for with something that the command fills in; one as it stood in a text tells nobody."""
    makes = re.search(_MAKES, command) is not None
    for match in urls(command):
        host, path, query = page(match)
        filled = makes and re.search(_MADE_UP, f"{match[3]}{command[match.end() : match.end() + 1]}") is not None
        if host in LOCAL or not (filled or (query and host not in KNOWN)):
            continue
        link = "" if filled else key("url", f"{host}{path}{query}")
        for each in _place(host, re.split(_MADE_UP, path)[0].rstrip("/")):
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
