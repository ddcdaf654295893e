"""Finds credentials in text: whoever names one says whose account something goes to. Pure text work; knows no rule."""

import hashlib
import re

ELSEWHERE = "elsewhere:"
"""The key of an address that a text names with a credential for it, and that a command then need not show."""

_SHAPES = (
    r"\b(?:gh[pousr]_[A-Za-z0-9]{16,255}|github_pat_\w{20,255}|glpat-[\w-]{16,64}|hf_[A-Za-z0-9]{16,64}"
    r"|npm_[A-Za-z0-9]{30,64}|pypi-[\w-]{40,255})"
)
MARKS = ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "npm_", "pypi-")
"""Of these every token has one: to look for them costs next to nothing."""
_WORDS = ("token", "passw", "credential", "secret", "key")
_USER = r"(?i)\b[a-z][a-z0-9+.-]{1,14}://([^\s/@\"'<>]{1,2000})@"
_NOBODY = frozenset({"git", "hg", "svn", "anonymous", "user", "username", "token", "me", "oauth2", "x-access-token"})
_PLACEHOLDER = re.compile(r"(?:[a-z]+_)?[xX.*…]+|[$<{%].*")
_WITH = (
    r"(?i)://\S{1,500}[^\n]{0,80}\b(?:token|password|passwd|credentials?|secret|api[ _-]?key)\b"
    r"|\b(?:token|password|passwd|credentials?|secret|api[ _-]?key)\b[^\n]{0,80}://"
)


def credentials(text: str) -> set[str]:
    """The keys of the credentials that a text shows. None of them can be read from its key."""
    found: list[str] = []
    if any(mark in text for mark in MARKS):
        found += re.findall(_SHAPES, text)
    if "@" in text and "://" in text:
        users = re.findall(_USER, text)
        found += [part for user in users for part in user.split(":") if part.lower() not in _NOBODY]
    return {f"token:{_hash(each)}" for each in found if not _PLACEHOLDER.fullmatch(each)}


def brings_address(text: str) -> bool:
    """Whether it names an address and something to log in there with."""
    if "://" not in text:
        return False
    words = text.lower()
    return any(word in words for word in _WORDS) and re.search(_WITH, text) is not None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]
