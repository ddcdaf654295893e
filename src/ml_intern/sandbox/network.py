"""What the broker of a session lets through, from the person's own settings, and what commands are told of it.

Knows no connection and no session.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from ml_intern.sandbox.broker.doors import ENDPOINT, PLACEHOLDER, PROXY
from ml_intern.sandbox.broker.reach import HUB, Reach, Rule
from ml_intern.sandbox.indexes import index_urls

_PUBLIC = (
    "pypi.org",
    "files.pythonhosted.org",
    "*.hf.co",
    "*.xethub.hf.co",
    "cdn-lfs.huggingface.co",
    "cdn-lfs-us-1.huggingface.co",
    "cdn-lfs-eu-1.huggingface.co",
    "github.com",
    "api.github.com",
    "codeload.github.com",
    "objects.githubusercontent.com",
    "release-assets.githubusercontent.com",
    "raw.githubusercontent.com",
    "media.githubusercontent.com",
)
_PORTS = (443, 80)
_CA_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def make_reach(environ: Mapping[str, str], *, token: str = "", offline: bool = False) -> Reach:
    """The reach of a session. A host that the person's own settings name may have a private address. Blocks."""
    hub = (environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    # A token of some other Hub must not go to the public one: what cannot be read leads nowhere.
    hub = hub if _url(hub) else ""
    public = (Rule(host, _PORTS) for host in _PUBLIC)
    return Reach(
        rules=(*public, *_own(index_urls(environ))),
        offline=offline,
        proxies=dict(_proxies(environ)),
        direct=tuple(_direct(environ)),
        hub=hub,
        token=token,
        ca_file=_ca_file(environ),
    )


def inside(reach: Reach | None) -> dict[str, str]:
    """The variables by which programs in a pod find the broker; none where there is no broker."""
    if reach is None:
        return {}
    local = "localhost,127.0.0.1,::1"
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    found = {**dict.fromkeys(names, PROXY), "NO_PROXY": local, "no_proxy": local, "HF_ENDPOINT": ENDPOINT}
    # The storage behind the Hub is reached by plain downloads: its own client would need a credential inside.
    found["HF_HUB_DISABLE_XET"] = "1"
    # Git knows no HF_ENDPOINT. Source: git-config(1), GIT_CONFIG_COUNT and url.<base>.insteadOf.
    found |= {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ENDPOINT}/.insteadOf",
        "GIT_CONFIG_VALUE_0": f"{HUB}/",
    }
    return {**found, "HF_TOKEN": PLACEHOLDER} if reach.token else found


def _own(urls: Iterable[str]) -> Iterator[Rule]:
    for text in urls:
        url = _url(text)
        if url is not None:
            yield Rule(url[1].lower().removesuffix("."), (url[2],), private=True)


def _url(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None where it names no host."""
    try:
        url = urlsplit(text)
        port = url.port or (80 if url.scheme == "http" else 443)
    except ValueError:
        return None
    return (url.scheme, url.hostname, port) if url.hostname and url.scheme in {"http", "https"} else None


def _proxies(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """https and http, each by its own variable, else by ALL_PROXY; lower case first, as curl and Python do."""
    for scheme in ("https", "http"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
        if value := next((environ[name] for name in names if environ.get(name)), ""):
            yield scheme, value if "://" in value else f"http://{value}"


def _direct(environ: Mapping[str, str]) -> Iterator[str]:
    value = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    yield from (part.strip().lower().lstrip(".") for part in value.split(",") if part.strip())


def _ca_file(environ: Mapping[str, str]) -> str:
    named = (environ.get(name, "") for name in _CA_FILES)
    return next((path for path in (*named, *_SYSTEM_CA_FILES) if path and os.path.isfile(path)), "")
