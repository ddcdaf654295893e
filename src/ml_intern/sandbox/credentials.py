"""Credentials in the URLs of index and proxy settings: whether there are any, and texts without them."""

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]+@")


def has_credentials(value: str) -> bool:
    """Whether a URL in an index setting holds a user, a password or a query, or cannot be read."""
    return any(_secrets_of(part) or _unreadable(part) for part in re.split(r"[\s,]+", value) if part)


def mask(text: str, environ: Mapping[str, str]) -> str:
    """`text` with the credentials of every URL in it, and those known from the index settings, as `***`."""
    text = _USER_INFO.sub("***@", text)
    values = [
        value for name, value in environ.items() if "INDEX" in name or "FIND_LINKS" in name or "PROXY" in name.upper()
    ]
    known = {secret for value in values for part in re.split(r"[\s,]+", value) for secret in _secrets_of(part)}
    named = {value for name, value in environ.items() if name.startswith("UV_INDEX_") and name.endswith("_PASSWORD")}
    for secret in sorted(known | named, key=len, reverse=True):
        text = text.replace(secret, "***") if len(secret) > 3 else text
    return text


def _secrets_of(part: str) -> set[str]:
    url = part.partition("=")[2] if re.match(r"[\w-]+=\w+:", part) else part
    if "://" not in url:
        return set()
    try:
        found = urlsplit(url)
        # A lone user is a token as often as not.
        user = found.username if found.password is None else None
        raw = {found.password, user, found.query}
    except ValueError:
        return set()
    return {form for secret in raw if secret for form in (secret, unquote(secret))}


def _unreadable(part: str) -> bool:
    try:
        return "@" in urlsplit(part).netloc
    except ValueError:
        return True
