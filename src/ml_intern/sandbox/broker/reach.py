"""What a session may reach, and which addresses are refused. Knows no connection.

Sources: the special-purpose registries of RFC 6890, RFC 6052 (NAT64), RFC 3056 (6to4), RFC 4380 (Teredo).
"""

import ipaddress
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ml_intern.sandbox.broker.doors import ENDPOINT

_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMBERS = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}")
_UNICAST = ipaddress.IPv6Network("2000::/3")
_TRANSITIONS = tuple(map(ipaddress.IPv6Network, ("2001::/32", "2002::/16", "64:ff9b::/96", "64:ff9b:1::/48")))
HUB = "https://huggingface.co"
# Hosts that take writes from whoever brings a token: a tunnel cannot see what it carries.
_HUB_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hub-ci.huggingface.co", "www.hf.co"})
_UPLOADS = re.compile(r"cas-server[a-z0-9.-]*\.hf\.co")
_WAY = "Do without it, or ask the person to put what is needed into the workspace."


class Refused(Exception):
    """What is asked for is not allowed: one sentence, what to do, and the HTTP status that says so."""

    def __init__(self, what: str, remedy: str = _WAY, status: int = 403) -> None:
        super().__init__(f"{what} {remedy}")
        self.what = what
        self.status = status


@dataclass(frozen=True, slots=True)
class Rule:
    """A host (`*.hf.co`: everything below) and its ports. `private`: the person named it, so any address will do."""

    host: str
    ports: tuple[int, ...]
    private: bool = False

    def holds(self, host: str, port: int) -> bool:
        """Whether this is one of the rule's hosts, on one of its ports."""
        if port not in self.ports:
            return False
        return host.endswith(self.host[1:]) if self.host.startswith("*.") else host == self.host


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything the broker is told. `proxies`: scheme to the person's own proxy; `direct`: hosts that go without it.

    `hub` is the endpoint behind the reverse proxy, `token` what is added for reads there; `ca_file` "" means the
    system's certificates.
    """

    rules: tuple[Rule, ...] = ()
    offline: bool = False
    proxies: dict[str, str] = field(default_factory=dict[str, str])
    direct: tuple[str, ...] = ()
    hub: str = ""
    token: str = field(default="", repr=False)
    ca_file: str = ""

    def rule(self, host: str, port: int) -> Rule:
        """The rule that lets `host` (as `to_host` gives it) through. Raises Refused."""
        self.refuse_offline(f"{host}:{port}")
        found = [rule for rule in self.rules if rule.holds(host, port)]
        own = (host, port) == self._hub() and not found
        if own or host in _HUB_HOSTS or _UPLOADS.fullmatch(host):
            what = (
                f"{host} belongs to the Hub, which is reached at $HF_ENDPOINT ({ENDPOINT}) and not through the proxy."
            )
            raise Refused(
                what, f"Write {ENDPOINT} in place of {self.hub or HUB}; the Hub's clients do so by themselves."
            )
        if not found:
            raise Refused(self._why_not(host, port))
        return max(found, key=lambda rule: rule.private)

    def door(self) -> tuple[str, int, Rule]:
        """Host, port and rule of the Hub behind its door; nothing else is let through there. Raises Refused."""
        host, port = self._hub()
        return to_host(host), port, Rule(host, (port,), private=self.hub != HUB)

    def _hub(self) -> tuple[str, int]:
        url = urlsplit(self.hub)
        return (url.hostname or "").removesuffix("."), url.port or (443 if url.scheme == "https" else 80)

    def refuse_offline(self, what: str) -> None:
        """Raises Refused where the session runs offline."""
        if self.offline:
            raise Refused(f"{what} is not fetched: this session runs offline.", "Use what is here already.")

    def proxy(self, scheme: str, host: str) -> str:
        """The proxy of the person's network for this host; empty where there is none."""
        bare = host.rstrip(".")
        if any(name in {"*", bare} or bare.endswith(f".{name}") for name in self.direct):
            return ""
        return self.proxies.get(scheme, "")

    def _why_not(self, host: str, port: int) -> str:
        if is_address(host):
            return f"{host} is an address, and commands reach hosts by name only."
        if any(rule.holds(host, known) for rule in self.rules for known in rule.ports):
            return f"{host} may not be reached on port {port}."
        return f"{host} is not among the hosts that commands may reach."


def to_text(reach: Reach) -> str:
    """The reach as JSON. It holds the token: for the broker's own channel only."""
    return json.dumps(asdict(reach))


def to_reach(text: str | bytes) -> Reach:
    """The reach that `to_text` wrote. Raises ValueError, KeyError, TypeError."""
    values: dict[str, Any] = json.loads(text)
    rules = tuple(Rule(str(one["host"]), tuple(one["ports"]), bool(one["private"])) for one in values.pop("rules"))
    return Reach(rules, direct=tuple(values.pop("direct")), **values)


def to_host(text: str) -> str:
    """A host as rules name it: lower case, without a final dot or brackets. Raises Refused (400) if it is none."""
    host = text.lower().removesuffix(".")
    if host.startswith("[") and host.endswith("]") and is_address(host[1:-1]):
        return host[1:-1]
    if not _NAME.fullmatch(host):
        raise Refused(f"{text[:80]!r} is no host.", "Name a host.", 400)
    return host


def is_address(host: str) -> bool:
    """Whether it is an address in any writing that a resolver takes: dotted, short, octal, hexadecimal, IPv6."""
    if _NUMBERS.fullmatch(host):
        return True
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def why_refused(address: str) -> str:
    """Why this address is not one of the public internet; empty if it is."""
    if "%" in address:
        return "it belongs to one link only"
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped or any(found in network for network in _TRANSITIONS):
            return "it hides an IPv4 address"
        if found not in _UNICAST:
            return "it is not public"
    if found.is_multicast:
        return "it is a group's"
    return "" if found.is_global and not found.is_reserved else "it is not public"
