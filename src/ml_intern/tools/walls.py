"""Which wall a command ran into, told from what it printed, and the way around. Knows no command, judges nothing."""

import itertools
import re

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.sandbox import files
from ml_intern.sandbox.paths import Roots, place

# Texts: a pattern is made when a command first prints something, not at the start.
_READ_ONLY = r"Read-only file system|\[Errno 30\]|os error 30"
_NO_NETWORK = (
    r"Temporary failure in name resolution|Could not resolve host|Name or service not known|Network is unreachable"
    r"|No route to host|getaddrinfo|nodename nor servname|\[Errno -[23]\]|\[Errno 101\]|os error 101"
    r"|Failed to establish a new connection|bad address"
)
_FORBIDDEN = r"Operation not permitted|must be superuser|effective uid is not 0|mount: .*permission denied"
_NO_PROCESS = r"fork: retry|Cannot fork|fork: Resource temporarily unavailable|can't start new thread"
_PINNED = r"Device or resource busy|\[Errno 16\]"
# (what is said of a path, whether it was to be written)
_REFUSALS = (("No such file or directory", False), ("Permission denied", True))
_LOOKED_AT = 100


def walls_in(output: str, roots: Roots) -> tuple[str, ...]:
    """A sentence for each wall that shows in `output`, with the way around it. Blocks."""
    found: list[str] = []
    if re.search(_READ_ONLY, output) or re.search(_PINNED, output):
        found.append(
            f"only {roots.workspace}, ~ and /tmp can be written, and in them not what is protected (.git/hooks, "
            ".git/config, shell start files, editor, agent and CI settings). Write elsewhere, or tell the person."
        )
    if re.search(_NO_NETWORK, output):
        found.append(
            "commands have no network, only localhost of this session and, where HTTPS_PROXY is set, through it, "
            "package indexes, GitHub and the Hub (reads). Packages come from a script's PEP 723 header: "
            "name them in `dependencies` and run the script with `uv run`."
        )
    if re.search(_FORBIDDEN, output):
        found.append(
            "the sandbox forbids mounts, namespaces, tracing, kernel settings and other users' rights. "
            "There is no sudo. Do without."
        )
    if re.search(_NO_PROCESS, output):
        found.append("the command reached its limit of processes. Start fewer at a time.")
    return (*found, *_outside(output, roots))


def _outside(output: str, roots: Roots) -> tuple[str, ...]:
    """A path, or a link's target, outside the roots does not exist for a command: what file tools say of it."""
    for words, write in _REFUSALS:
        if words not in output:
            # Found out at the speed of memory: the pattern begins anew at each word.
            continue
        pattern = rf"(?P<path>[^\s:'\"‘’]+)['\"’]?: {words}|{words}: ['\"](?P<named>[^'\"]+)"
        for match in itertools.islice(re.finditer(pattern, output), _LOOKED_AT):
            try:
                files.stat(place(roots, match["path"] or match["named"], roots.workspace, write=write))
            except PathRefused as refused:
                return (f"{refused.what} {refused.remedy}",)
            except ToolFailed:
                # Not there, or not ours to look at: no wall of the sandbox.
                continue
    return ()
