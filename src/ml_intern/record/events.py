"""Every event a session can hold, with the rules of their order. Knows no store, no model, no tool.

An event is stored inside an `Entry` that numbers it. Old entries are turned into today's by `upcast.py`. In one lane:

    UserSaid (ModelAsked (ModelReplied | ModelFailed RetryPlanned? | ModelStopped)
              (ToolHeld ToolAnswered)* ToolStarted? ToolFinished ...)* TurnEnded

Every `ModelAsked` is closed by exactly one of the three; every call of a `ModelReplied` by exactly one `ToolFinished`,
with or without a `ToolStarted`.
"""

from typing import Literal

from msgspec import Struct

from ml_intern.record.clearing import Cleared, CompactAsked, Compacted, Undone
from ml_intern.record.display import Display
from ml_intern.record.effects import Effect
from ml_intern.record.facts import Fact, FileChange
from ml_intern.record.ground import GroundSet
from ml_intern.record.guarding import GuardsSet, Lifted, Paused
from ml_intern.record.hooks import HookRan
from ml_intern.record.messages import Image, Prices, Reply, Usage

VERSION = 1

Mode = Literal["plan", "ask", "auto", "yolo"]
"""From the strictest to the loosest."""
LOOKING: Mode = "plan"
"""The mode in which calls may only look."""
OnAsk = Literal["deny", "hold"]
Replay = Literal["pure", "idempotent", "findable", "unsafe"]
Outcome = Literal["ok", "failed", "invalid", "denied", "stopped", "lost"]
Ending = Literal["done", "failed", "budget", "limit", "held", "denied", "interrupted", "overflow"]
Decision = Literal["allow", "ask", "deny"]
Origin = Literal["flag", "user", "workspace", "answer"]
Role = Literal["main", "research", "compaction", "title", "judge"]
Effort = Literal["off", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model is to think, from the least to the most."""


class SessionStarted(Struct, frozen=True, tag_field="type", tag="session_started"):
    """First of every record. A fork names session and entry it was copied from; up to `foreign_upto` a file told it."""

    session: str
    workspace: str
    product: str
    forked_from: str | None = None
    forked_upto: int | None = None
    foreign_upto: int = 0


class OwnerTook(Struct, frozen=True, tag_field="type", tag="owner_took"):
    """A process took the session under `epoch`: at start, at every resume, at a take-over."""

    epoch: int
    door: str
    pid: int
    host: str


class ModelChosen(Struct, frozen=True, tag_field="type", tag="model_chosen"):
    """From here on `role` is answered by this model. Window, limit and prices are what folds rely on;
    None is unknown. `bill_to` is the organisation of the Hub that pays; empty: who owns the key.

    `chain` are the models of the role in their order, this one among them; empty: there is but this one. `why` says for
    a person why another one answers from here on; empty: it was chosen. `effort` is what it is asked for.
    """

    role: Role
    model: str
    window: int | None
    max_output: int | None
    prices: Prices | None
    payer: str
    base_url: str = ""
    bill_to: str = ""
    chain: tuple[str, ...] = ()
    why: str = ""
    effort: Effort | None = None


class CapSet(Struct, frozen=True, tag_field="type", tag="cap_set"):
    """The hard budget of the session in micro-dollars. Only a person raises it."""

    cap: int
    by: str


class ModeSet(Struct, frozen=True, tag_field="type", tag="mode_set"):
    """How calls are judged from here on, and what becomes of a held call when nobody is there."""

    mode: Mode
    on_ask: OnAsk


class LimitsSet(Struct, frozen=True, tag_field="type", tag="limits_set"):
    """Most model replies and most seconds of one turn. None: no limit.

    `compact_at` is the share of the model's window, less what its reply may take, at which the transcript is compacted.
    All work ends at `due`, a deadline that was set at `since` (both milliseconds since 1970).
    """

    max_steps: int | None
    max_time_s: float | None
    due: int | None = None
    since: int | None = None
    compact_at: float = 0.8


class RuleGiven(Struct, frozen=True):
    """A rule of policy as a person wrote it, and where: `--allow`/`--deny`, the user's file, the workspace's file; or
    made of the answer to a held call.
    """

    decision: Decision
    text: str
    origin: Origin


class RulesSet(Struct, frozen=True, tag_field="type", tag="rules_set"):
    """From here on calls are judged by these rules, too, and the model sees only these tools (None: all)."""

    rules: tuple[RuleGiven, ...]
    tools: tuple[str, ...] | None = None


class Granted(Struct, frozen=True, tag_field="type", tag="granted"):
    """A person allowed what `rules` cover, within bounds: so many calls, so many micro-dollars in all, until this
    instant (milliseconds since 1970), in this or the next turn only. None: without that bound. A call counts once.
    """

    grant: str
    rules: tuple[RuleGiven, ...]
    times: int | None = None
    total: int | None = None
    until: int | None = None
    turn: bool = False
    command: str = ""


class GrantEnded(Struct, frozen=True, tag_field="type", tag="grant_ended"):
    """The grant holds no longer, and why: its line is gone from the settings file."""

    grant: str
    why: str


class BriefSet(Struct, frozen=True, tag_field="type", tag="brief_set"):
    """What the model is told besides the conversation: `append` follows the system text, `schema` is the JSON Schema
    (as text) that its answer must fit. Empty: none.
    """

    append: str
    schema: str


class UserSaid(Struct, frozen=True, tag_field="type", tag="user_said"):
    """A person's message. Opens a turn, steers the open one (`now`), or waits for its end (`after`).

    `seen` is the last sequence number its door had shown: calls held at or before it are answered "no" with this text.
    """

    command: str
    text: str
    images: tuple[Image, ...] = ()
    when: Literal["now", "after"] = "now"
    seen: int = 0


class StopAsked(Struct, frozen=True, tag_field="type", tag="stop_asked"):
    """The turn is to end now: a person said so, or its time is up. What runs is stopped, what did not start won't."""

    command: str
    reason: Literal["interrupted", "limit"] = "interrupted"


class Nudged(Struct, frozen=True, tag_field="type", tag="nudged"):
    """A guard speaks to the model. `about` is `WHAT=STATE` where each state of something is told once."""

    guard: str
    text: str
    about: str = ""


class ModelAsked(Struct, frozen=True, tag_field="type", tag="model_asked"):
    """An attempt begins; `reserved` is its worst case, `bound` the most prompt tokens it can hold, `expected` about how
    many it does (0: not told). `head` is the hash of system text and tools: a token count that was reported for this
    attempt holds for requests of the same head.
    """

    attempt: str
    role: Role
    model: str
    reserved: int
    bound: int
    max_output: int
    head: str
    expected: int = 0


class ModelReplied(Struct, frozen=True, tag_field="type", tag="model_replied"):
    """The attempt succeeded. The server says that it was `served_by` this model, a router `served_at` which provider.
    `bound`: usage was not reported, `cost` is the reservation. `overrun`: usage went beyond it.
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
    role: Role = "main"
    served_at: str = ""


class ModelFailed(Struct, frozen=True, tag_field="type", tag="model_failed"):
    """The attempt failed, or was found open after a crash (`kind` = "lost"). Nothing of a broken stream is kept."""

    attempt: str
    kind: str
    what: str
    remedy: str
    transient: bool
    cost: int
    retry_after_s: float | None = None
    bound: bool = False


class ModelStopped(Struct, frozen=True, tag_field="type", tag="model_stopped"):
    """A person stopped the stream; the text so far is kept, calls and thinking are not."""

    attempt: str
    text: str
    cost: int
    bound: bool = False


class RetryPlanned(Struct, frozen=True, tag_field="type", tag="retry_planned"):
    """The next attempt starts at `due` (milliseconds since 1970), not before."""

    due: int
    failures: int


class ToolHeld(Struct, frozen=True, tag_field="type", tag="tool_held"):
    """The call waits for a person. `binding` is the hash of all that the approval covers."""

    call: str
    binding: str
    reason: str
    effects: tuple[Effect, ...]
    quote: int
    payer: str
    display: Display


class ToolAnswered(Struct, frozen=True, tag_field="type", tag="tool_answered"):
    """A person answered a held call; flushed before anything follows from it."""

    command: str
    call: str
    approve: bool
    text: str
    by: str


class ToolStarted(Struct, frozen=True, tag_field="type", tag="tool_started"):
    """The effect may begin: everything it may cost is reserved, and this is on disk.

    `inputs` are the name and the hash of everything that prepare looked at, `writes` what the call will do to files.
    `grants` are the permissions that it uses up one of.
    """

    call: str
    binding: str
    effects: tuple[Effect, ...]
    replay: Replay
    reserved: int = 0
    payer: str = ""
    inputs: tuple[tuple[str, str], ...] = ()
    writes: tuple[FileChange, ...] = ()
    grants: tuple[str, ...] = ()


class ToolFinished(Struct, frozen=True, tag_field="type", tag="tool_finished"):
    """The call is answered. `text` is what the model reads; `blob` holds the whole output where `text` was clipped.

    `frame` marks text of others: the model reads all but the first `own_lines` between two lines with it. Empty: ours.
    """

    call: str
    outcome: Outcome
    text: str
    display: Display
    facts: tuple[Fact, ...] = ()
    images: tuple[Image, ...] = ()
    cost: int = 0
    blob: str | None = None
    total_ms: int = 0
    frame: str = ""
    own_lines: int = 0


class LaneOpened(Struct, frozen=True, tag_field="type", tag="lane_opened"):
    """A sub-agent begins in this entry's lane, for `call` of `parent`; `budget`: its share in micro-dollars, if any."""

    parent: str
    call: str
    agent: str
    task: str
    tools: tuple[str, ...]
    max_steps: int
    budget: int | None = None


class LaneClosed(Struct, frozen=True, tag_field="type", tag="lane_closed"):
    """The sub-agent of this lane is done; its report went to the parent's call."""

    outcome: Outcome


class Renamed(Struct, frozen=True, tag_field="type", tag="renamed"):
    """The session has a new title."""

    title: str
    by: Literal["user", "product"]


class TurnEnded(Struct, frozen=True, tag_field="type", tag="turn_ended"):
    """The lane rests. `what` is one sentence for a person, `remedy` what to do.

    `waiting`: so many follow-ups, said before a person's stop, wait for the turn after this one.
    """

    reason: Ending
    what: str = ""
    remedy: str = ""
    waiting: int = 0


class SessionClosed(Struct, frozen=True, tag_field="type", tag="session_closed"):
    """The session was closed by a person: its commands were ended. A later resume may open it again."""


Event = (
    SessionStarted
    | OwnerTook
    | ModelChosen
    | CapSet
    | ModeSet
    | LimitsSet
    | RulesSet
    | Granted
    | GrantEnded
    | GuardsSet
    | BriefSet
    | GroundSet
    | UserSaid
    | StopAsked
    | Nudged
    | Paused
    | Lifted
    | ModelAsked
    | ModelReplied
    | ModelFailed
    | ModelStopped
    | RetryPlanned
    | ToolHeld
    | ToolAnswered
    | ToolStarted
    | ToolFinished
    | HookRan
    | Compacted
    | Cleared
    | CompactAsked
    | Undone
    | LaneOpened
    | LaneClosed
    | Renamed
    | TurnEnded
    | SessionClosed
)

FLUSHED = (ModelAsked, ToolStarted, ToolAnswered, CapSet, Granted, GrantEnded)
"""On disk, not only in the page cache, before `Log.add` returns: something outside follows from them."""


class Entry(Struct, frozen=True):
    """One numbered event: `seq` counts from 1 without gaps, `at` is milliseconds since 1970, `v` the schema's."""

    seq: int
    at: int
    lane: str
    event: Event
    v: int = VERSION
