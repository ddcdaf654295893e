"""What is known of files: what a model read, when, and what the session wrote. Knows no disk; never undone."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ml_intern.record.events import Compacted, Entry, FileChange, FileRead, ToolFinished


@dataclass(frozen=True, slots=True)
class FileFact:
    """`sha` is the content the model last saw or wrote; `seen` whether it still stands in what lane `lane` can see."""

    sha: str
    seq: int
    seen_by: frozenset[str]


@dataclass(frozen=True, slots=True)
class Files:
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
                path: replace(fact, seen_by=fact.seen_by - {entry.lane}) if fact.seq <= upto else fact
                for path, fact in files.known.items()
            }
            return replace(files, known=known)
        case _:
            return files


def _seen(files: Files, path: str, sha: str, entry: Entry) -> Mapping[str, FileFact]:
    before = files.known.get(path)
    others = before.seen_by if before is not None and before.sha == sha else frozenset[str]()
    return {**files.known, path: FileFact(sha, entry.seq, others | {entry.lane})}


def _changed(files: Files, change: FileChange, entry: Entry) -> Files:
    """What a model wrote itself it knows; after a command's change it must look again."""
    known = dict(files.known)
    if change.after is None or change.after == "?":
        known.pop(change.path, None)
    else:
        seen_by = frozenset({entry.lane}) if change.authored else frozenset[str]()
        known[change.path] = FileFact(change.after, entry.seq, seen_by)
    return Files(known, {**files.changed, change.path: change.after})
