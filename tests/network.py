"""Refuses sockets that leave this machine, as an audit hook of the interpreter: no client library can go round it."""

import ipaddress
import socket

_CONNECTS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_INTERNET = {socket.AF_INET, socket.AF_INET6}
_RESOLVES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


class NetworkRefused(RuntimeError):
    """A test reached for a host that is not this machine. Not an OSError: code that expects those must not hide it."""


def refuse_the_network(event: str, args: tuple[object, ...]) -> None:
    if event in _CONNECTS:
        connection, address = args[0], args[1]
        internet = isinstance(connection, socket.socket) and connection.family in _INTERNET
        # A connected socket's sendmsg has no address; its connect was judged before.
        if internet and isinstance(address, tuple) and not is_local(address[0]):
            raise NetworkRefused(f"a test may not reach {address[0]}")
    elif event in _RESOLVES and not is_local(args[0]):
        raise NetworkRefused(f"a test may not look up {args[0]!r}")


def is_local(host: object) -> bool:
    """Whether the host is this machine: a loopback address, a wildcard, or the name localhost."""
    name = host.decode(errors="replace") if isinstance(host, (bytes, bytearray)) else host
    if name is None or name in {"", "localhost", "0.0.0.0", "::"}:
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False
