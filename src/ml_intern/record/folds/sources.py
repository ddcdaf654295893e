"""What one sub-agent has read, for the sources of its report: files with their hash, pages without. Knows no tool."""

from collections.abc import Mapping

from ml_intern.record.effects import Reaches, Reads
from ml_intern.record.events import Event, ToolFinished
from ml_intern.record.facts import FileRead, Source
from ml_intern.record.folds.calls import Calls

Sources = Mapping[str, str]
"""By path or address: the file's hash when it was read, "" for a page."""


def fold_sources(sources: Sources, event: Event, calls: Calls) -> Sources:
    """The sources after `event`; `calls` are those that were open before it."""
    match event:
        case ToolFinished(call=key, outcome="ok", facts=facts):
            fresh = {**_pages(key, calls)}
            for fact in facts:
                match fact:
                    case FileRead(path=target, sha=sha) | Source(target=target, sha=sha):
                        fresh[target] = sha
                    case _:
                        pass
            return {**sources, **fresh} if fresh else sources
        case _:
            return sources


def _pages(key: str, calls: Calls) -> dict[str, str]:
    """The addresses that the call reads, and the hosts that it reaches."""
    started = calls[key].started if key in calls else None
    effects = started.effects if started is not None else ()
    pages = [effect.target for effect in effects if isinstance(effect, Reads) and "://" in effect.target]
    return dict.fromkeys([*pages, *(effect.host for effect in effects if isinstance(effect, Reaches))], "")
