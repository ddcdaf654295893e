"""Who may write to the Hub right now, and the addresses that the Hub gave out for single uploads. Knows no request.

A command is known by its own placeholder token, which is worth nothing outside and dies with the command.
"""

import re
import secrets
from dataclasses import dataclass

from ml_intern.sandbox.broker import grants
from ml_intern.sandbox.broker.doors import ENDPOINT, PLACEHOLDER
from ml_intern.sandbox.broker.pushes import Push, to_push
from ml_intern.sandbox.broker.reach import Refused

TICKETS = "/.push/"
_MOST_TICKETS = 50_000
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What the command `key` may write; `token` is what it shows."""

    key: str
    token: str
    pushes: tuple[Push, ...]

    def find(self, verb: str, kind: str, repo: str, revision: str = "") -> Push:
        """What allows this. Raises Refused where nothing does."""
        for push in self.pushes:
            if (push.verb, push.kind, push.repo) == (verb, kind, repo) and revision in {"", push.revision}:
                return push
        may = ", ".join(push.text for push in self.pushes)
        asked = Push(verb, kind, repo, revision or "main").text
        raise Refused(f"{asked[:200]!r} is not what this command may do: it may {may}.", _HOW)


@dataclass(frozen=True, slots=True)
class Ticket:
    """One upload that the Hub asked for: `url` gets `method` once or more, with at most `most` bytes of body."""

    grant: Grant
    push: Push
    method: str
    url: str
    most: int


_HOW = "A call can name each repository it writes to; then a person, or a rule of theirs, decides."


class Desk:
    """`folder` is that of the session's commands."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._tickets: dict[str, Ticket] = {}

    def find(self, authorization: str) -> Grant | None:
        """The grant of the command that shows this header; None where it has none, or has ended."""
        scheme, _, token = authorization.partition(" ")
        key = token.removeprefix(f"{PLACEHOLDER}.").rpartition(".")[0]
        if scheme.lower() != "bearer" or not token.startswith(f"{PLACEHOLDER}.") or not _KEY.fullmatch(key):
            return None
        kept, lines = grants.read(f"{self._folder}/{key}")
        if not kept or not secrets.compare_digest(kept, token):
            return None
        return Grant(key, token, tuple(map(to_push, lines)))

    def issue(self, ticket: Ticket) -> str:
        """The address at this door that stands for the ticket. Raises Refused where there are too many."""
        if len(self._tickets) >= _MOST_TICKETS:
            self._tickets = {name: one for name, one in self._tickets.items() if self._holds(one)}
        if len(self._tickets) >= _MOST_TICKETS:
            raise Refused("Too many files wait to be uploaded.", "Upload fewer at a time.", 503)
        name = secrets.token_urlsafe(24)
        self._tickets[name] = ticket
        return f"{ENDPOINT}{TICKETS}{name}"

    def ticket(self, target: str) -> Ticket:
        """The ticket of this address, while its command runs. Raises Refused."""
        found = self._tickets.get(target.removeprefix(TICKETS))
        if found is None or not self._holds(found):
            raise Refused("This address for an upload is not, or no longer, open.", "Begin the upload again.")
        return found

    def _holds(self, ticket: Ticket) -> bool:
        return self.find(f"Bearer {ticket.grant.token}") is not None
