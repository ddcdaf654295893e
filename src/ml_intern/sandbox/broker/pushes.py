"""What a command may write to the Hub, as one line each: `push me/model`, `create datasets/me/data`. Pure.

Knows no request and no person. Imports only the standard library.
"""

import re
from dataclasses import dataclass

FORM = "'push OWNER/NAME' or 'create OWNER/NAME' (datasets/ or spaces/ before it, @BRANCH and ', public' behind it)"
MAIN = "main"

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}"
_PUSH = re.compile(
    rf"(?P<verb>push|create) (?:(?P<kind>models|datasets|spaces)/)?(?P<repo>{_NAME}/{_NAME})"
    r"(?:@(?P<revision>[A-Za-z0-9_][A-Za-z0-9._/-]{0,200}))?(?P<public>, ?public)?"
)
_NO_OWNERS = frozenset({"api", "models", "datasets", "spaces", "settings"})


@dataclass(frozen=True, slots=True)
class Push:
    """`verb` is push (add and change files of one branch) or create (the repository). Private unless `public`."""

    verb: str
    kind: str
    repo: str
    revision: str = MAIN
    public: bool = False

    @property
    def target(self) -> str:
        """The destination, as rules of policy name it: `hub:me/model`, `hub:datasets/me/data@dev`."""
        return f"hub:{self._name}"

    @property
    def text(self) -> str:
        """The line that says the same."""
        return f"{self.verb} {self._name}{', public' if self.public else ''}"

    @property
    def _name(self) -> str:
        kind = "" if self.kind == "models" else f"{self.kind}/"
        return f"{kind}{self.repo}" + ("" if self.revision == MAIN else f"@{self.revision}")


def to_push(text: str) -> Push:
    """What the line means. Raises ValueError with a sentence where it means nothing, or two things."""
    found = _PUSH.fullmatch(text.strip())
    if found is None or found["repo"].partition("/")[0].lower() in _NO_OWNERS or ".." in text or "--" in found["repo"]:
        raise ValueError(f"{text!r} names no write to the Hub.")
    revision = found["revision"] or MAIN
    if found["verb"] == "create" and revision != MAIN:
        raise ValueError(f"{text!r}: a branch cannot be created, only a repository.")
    if revision.endswith(("/", ".lock")) or "//" in revision:
        raise ValueError(f"{text!r} names no branch.")
    return Push(found["verb"], found["kind"] or "models", found["repo"], revision, found["public"] is not None)
