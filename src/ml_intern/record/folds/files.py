"""What is known of files: what a model read, when, and what the session wrote. Knows no disk; never undone."""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from ml_intern.record.clearing import Cleared, Compacted
from ml_intern.record.events import Entry, ToolFinished
from ml_intern.record.facts import FileChange, FileRead


class FileFact(Struct, frozen=True):
    """`sha` is the content a model last saw or wrote; `seen_by`: the lanes that still see it, since which entry."""

    sha: str
    seen_by: Mapping[str, int]


class Files(Struct, frozen=True):
    """By path: what was read or written, and the session's own changes in order."""

    known: Mapping[str, FileFact] = field(default_factory=dict[str, FileFact])
    changed: Mapping[str, str | None] = field(default_factory=dict[str, str | None])

    def read_as(self, path: str, lane: str) -> str | None:
        """The hash under which `lane` last saw `path`, or None if it never did or a compaction took it away."""
        fact = self.known.get(path)
        return fact.sha if fact is not None and lane in fact.seen_by else None


def fold_files(files: Files, entry: Entry) -> Files:
    """The files after `entry`."""
    match entry.event:
        case ToolFinished(facts=facts):
            for fact in facts:
                match fact:
                    case FileRead(path=path, sha=sha):
                        files = replace(files, known=_seen(files, path, sha, entry))
                    case FileChange():
                        files = _changed(files, fact, entry)
                    case _:
                        pass
            return files
        case Compacted(upto=upto):
            known = {
                path: _forgotten(fact, entry.lane) if fact.seen_by.get(entry.lane, upto + 1) <= upto else fact
                for path, fact in files.known.items()
            }
            return replace(files, known=known)
        case Cleared(entries=entries):
            known = {
                path: _forgotten(fact, entry.lane) if fact.seen_by.get(entry.lane) in entries else fact
                for path, fact in files.known.items()
            }
            return replace(files, known=known)
        case _:
            return files


def _seen(files: Files, path: str, sha: str, entry: Entry) -> Mapping[str, FileFact]:
    before = files.known.get(path)
    others = before.seen_by if before is not None and before.sha == sha else dict[str, int]()
    return {**files.known, path: FileFact(sha, {**others, entry.lane: entry.seq})}


def _forgotten(fact: FileFact, lane: str) -> FileFact:
    return replace(fact, seen_by={other: seq for other, seq in fact.seen_by.items() if other != lane})


def _changed(files: Files, change: FileChange, entry: Entry) -> Files:
    """What a model wrote itself it knows; after a command's change it must look again."""
    known = dict(files.known)
    if change.after is None or change.after == "?":
        known.pop(change.path, None)
    else:
        known[change.path] = FileFact(change.after, {entry.lane: entry.seq} if change.authored else {})
    return Files(known, {**files.changed, change.path: change.after})
