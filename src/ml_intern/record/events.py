"""Every event a session can hold, with the rules of their order. Knows no store, no model, no tool.

An event is stored inside an `Entry` that numbers it. Old entries are turned into today's by `upcast.py`. In one lane:

    UserSaid (ModelAsked (ModelReplied | ModelFailed RetryPlanned? | ModelStopped)
              (ToolHeld ToolAnswered)* ToolStarted? ToolFinished ...)* TurnEnded

Every `ModelAsked` is closed by exactly one of the three; every call of a `ModelReplied` by exactly one `ToolFinished`,
with or without a `ToolStarted`.
"""

from dataclasses import dataclass
from typing import Literal

from ml_intern.record.display import Display
from ml_intern.record.effects import Effect
from ml_intern.record.facts import Fact, FileChange
from ml_intern.record.messages import Image, Prices, Reply, Usage

VERSION = 1

Mode = Literal["plan", "ask", "auto", "yolo"]
OnAsk = Literal["deny", "hold"]
Replay = Literal["pure", "idempotent", "findable", "unsafe"]
Outcome = Literal["ok", "failed", "invalid", "denied", "stopped", "lost"]
Ending = Literal["done", "failed", "budget", "limit", "held", "denied", "interrupted", "overflow"]
Role = Literal["main", "research", "compaction", "title", "judge"]


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """First event of every record. A fork names the session and the sequence number it was copied from."""

    session: str
    workspace: str
    product: str
    forked_from: str | None = None
    forked_upto: int | None = None
    type: Literal["session_started"] = "session_started"


@dataclass(frozen=True, slots=True)
class OwnerTook:
    """A process took the session under `epoch`: at start, at every resume, at a take-over."""

    epoch: int
    door: str
    pid: int
    host: str
    type: Literal["owner_took"] = "owner_took"


@dataclass(frozen=True, slots=True)
class ModelChosen:
    """From here on `role` is answered by this model. Window, limit and prices are what folds rely on;
    None is unknown.
    """

    role: Role
    model: str
    window: int | None
    max_output: int | None
    prices: Prices | None
    payer: str
    base_url: str = ""
    type: Literal["model_chosen"] = "model_chosen"


@dataclass(frozen=True, slots=True)
class CapSet:
    """The hard budget of the session in micro-dollars. Only a person raises it."""

    cap: int
    by: str
    type: Literal["cap_set"] = "cap_set"


@dataclass(frozen=True, slots=True)
class ModeSet:
    """How calls are judged from here on, and what becomes of a held call when nobody is there."""

    mode: Mode
    on_ask: OnAsk
    type: Literal["mode_set"] = "mode_set"


@dataclass(frozen=True, slots=True)
class LimitsSet:
    """Most model replies and most seconds of one turn. None: no limit."""

    max_steps: int | None
    max_time_s: float | None
    type: Literal["limits_set"] = "limits_set"


@dataclass(frozen=True, slots=True)
class UserSaid:
    """A person's message. Opens a turn, steers the open one (`now`), or waits for its end (`after`).

    `seen` is the last sequence number its door had shown: calls held at or before it are answered "no" with this text.
    """

    command: str
    text: str
    images: tuple[Image, ...] = ()
    when: Literal["now", "after"] = "now"
    seen: int = 0
    type: Literal["user_said"] = "user_said"


@dataclass(frozen=True, slots=True)
class StopAsked:
    """The turn is to end now: a person said so, or its time is up. What runs is stopped,
    what did not start will not.
    """

    command: str
    reason: Literal["interrupted", "limit"] = "interrupted"
    type: Literal["stop_asked"] = "stop_asked"


@dataclass(frozen=True, slots=True)
class Nudged:
    """A guard speaks to the model."""

    guard: str
    text: str
    type: Literal["nudged"] = "nudged"


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """An attempt begins; `reserved` is its worst case, `bound` the most prompt tokens it can hold.

    `head` is the hash of system text and tools: a token count reported for this attempt holds for requests of the
    same head.
    """

    attempt: str
    role: Role
    model: str
    reserved: int
    bound: int
    max_output: int
    head: str
    type: Literal["model_asked"] = "model_asked"


@dataclass(frozen=True, slots=True)
class ModelReplied:
    """The attempt succeeded. `bound`: usage was not reported, `cost` is the reservation. `overrun`:
    usage went beyond it.
    """

    attempt: str
    reply: Reply
    usage: Usage | None
    cost: int
    finish: Literal["stop", "calls", "length", "filter", "other"]
    served_by: str = ""
    first_ms: int = 0
    total_ms: int = 0
    bound: bool = False
    overrun: bool = False
    type: Literal["model_replied"] = "model_replied"


@dataclass(frozen=True, slots=True)
class ModelFailed:
    """The attempt failed, or was found open after a crash (`kind` = "lost"). Nothing of a broken stream is kept."""

    attempt: str
    kind: str
    what: str
    remedy: str
    transient: bool
    cost: int
    retry_after_s: float | None = None
    bound: bool = False
    type: Literal["model_failed"] = "model_failed"


@dataclass(frozen=True, slots=True)
class ModelStopped:
    """A person stopped the stream; the text so far is kept, calls and thinking are not."""

    attempt: str
    text: str
    cost: int
    bound: bool = False
    type: Literal["model_stopped"] = "model_stopped"


@dataclass(frozen=True, slots=True)
class RetryPlanned:
    """The next attempt starts at `due` (milliseconds since 1970), not before."""

    due: int
    failures: int
    type: Literal["retry_planned"] = "retry_planned"


@dataclass(frozen=True, slots=True)
class ToolHeld:
    """The call waits for a person. `binding` is the hash of all that the approval covers."""

    call: str
    binding: str
    reason: str
    effects: tuple[Effect, ...]
    quote: int
    payer: str
    display: Display
    type: Literal["tool_held"] = "tool_held"


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A person answered a held call; flushed before anything follows from it."""

    command: str
    call: str
    approve: bool
    text: str
    by: str
    type: Literal["tool_answered"] = "tool_answered"


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The effect may begin: everything it may cost is reserved, and this is on disk.

    `inputs` are the name and the hash of everything that prepare looked at, `writes` what the call will do to files.
    """

    call: str
    binding: str
    effects: tuple[Effect, ...]
    replay: Replay
    reserved: int = 0
    payer: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    writes: tuple[FileChange, ...] = ()
    type: Literal["tool_started"] = "tool_started"


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """The call is answered. `text` is what the model reads; `blob` holds the whole output where `text` was clipped."""

    call: str
    outcome: Outcome
    text: str
    display: Display
    facts: tuple[Fact, ...] = ()
    images: tuple[Image, ...] = ()
    cost: int = 0
    blob: str | None = None
    total_ms: int = 0
    type: Literal["tool_finished"] = "tool_finished"


@dataclass(frozen=True, slots=True)
class Compacted:
    """Entries of this lane up to `upto` are seen by the model as `summary` from here on. They stay in the record."""

    upto: int
    summary: str
    type: Literal["compacted"] = "compacted"


@dataclass(frozen=True, slots=True)
class Undone:
    """Entries of this lane after `upto` are hidden from transcript and plan; money, answers and file facts stay."""

    command: str
    upto: int
    type: Literal["undone"] = "undone"


@dataclass(frozen=True, slots=True)
class LaneOpened:
    """A sub-agent begins in the lane that carries this entry, for `call` of lane `parent`."""

    parent: str
    call: str
    agent: str
    task: str
    tools: tuple[str, ...]
    max_steps: int
    type: Literal["lane_opened"] = "lane_opened"


@dataclass(frozen=True, slots=True)
class LaneClosed:
    """The sub-agent of this lane is done; its report went to the parent's call."""

    outcome: Outcome
    type: Literal["lane_closed"] = "lane_closed"


@dataclass(frozen=True, slots=True)
class Renamed:
    """The session has a new title."""

    title: str
    by: Literal["user", "product"]
    type: Literal["renamed"] = "renamed"


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The lane rests. `what` is one sentence for a person, `remedy` what to do."""

    reason: Ending
    what: str = ""
    remedy: str = ""
    type: Literal["turn_ended"] = "turn_ended"


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session was closed by a person: its commands were ended. A later resume may open it again."""

    type: Literal["session_closed"] = "session_closed"


Event = (
    SessionStarted
    | OwnerTook
    | ModelChosen
    | CapSet
    | ModeSet
    | LimitsSet
    | UserSaid
    | StopAsked
    | Nudged
    | ModelAsked
    | ModelReplied
    | ModelFailed
    | ModelStopped
    | RetryPlanned
    | ToolHeld
    | ToolAnswered
    | ToolStarted
    | ToolFinished
    | Compacted
    | Undone
    | LaneOpened
    | LaneClosed
    | Renamed
    | TurnEnded
    | SessionClosed
)

FLUSHED = (ModelAsked, ToolStarted, ToolAnswered, CapSet)
"""Events that are on disk, not only in the page cache, before `Log.add` returns:
something outside follows from them.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One numbered event: `seq` counts from 1 without gaps, `at` is milliseconds since 1970,
    `v` the schema's version.
    """

    seq: int
    at: int
    lane: str
    event: Event
    v: int = VERSION
