"""How full the window of a lane's model is: what the next request will about hold, and how much it should.

A guess that decides when to make room, never what may be spent. Knows no tokeniser.
"""

from msgspec import Struct

from ml_intern.record.events import ModelChosen
from ml_intern.record.folds.transcript import Transcript
from ml_intern.record.view import View
from ml_intern.record.weights import weight_of

LEAST_REPLY = 2_048
"""Tokens of a reply, below which it is not worth asking for one."""
LEAST_SHARE = 0.1
"""Of the room, by which a transcript must have grown since it was compacted before that is worth doing again."""
_MOST_OUTPUT = 16_384
_USUAL_DENSITY = 3.5
_DENSITIES = (1.2, 4.5)
_SHRINK = 0.7


class Room(Struct, frozen=True):
    """Tokens: the `window` that is served, what of it a request may fill (`limit`), and what it now will (`held`).

    `density` is bytes a token, `head` the tokens of what stands before the conversation.
    """

    window: int
    limit: int
    held: int
    head: int
    density: float

    @property
    def is_full(self) -> bool:
        """Whether the next request is more than should be sent."""
        return self.held > self.limit

    @property
    def free(self) -> int:
        """Tokens that a conversation may fill."""
        return max(0, self.limit - self.head)

    def bytes_of(self, share: float) -> int:
        """The bytes that a share of the conversation's room is worth."""
        return int(self.free * share * self.density)


def model_of(view: View, lane: str) -> ModelChosen | None:
    """The model that answers this lane."""
    asked = view.lane(lane).memory.asked
    models = view.settings.models
    return models.get(asked.role if asked is not None else "main") or models.get("main")


def window_of(view: View, lane: str, model: ModelChosen | None) -> int | None:
    """The window of `model` as far as it is known: what is said to be served, or less, where that overflowed. What was
    answered is no window's end: who says less is wrong, and to believe it would be to make room for ever.
    """
    if model is None:
        return None
    memory = view.lane(lane).memory
    known = [each for each in (model.window, memory.windows.get(model.model)) if each]
    return min((each for each in known if each > memory.answered.get(model.model, 0)), default=None)


def reply_room(model: ModelChosen, window: int) -> int:
    """Tokens of the window that are kept for the reply."""
    return min(model.max_output or _MOST_OUTPUT, _MOST_OUTPUT, window // 4)


def room_of(view: View, lane: str, head_bytes: int) -> Room | None:
    """How full it is, below a head of so many bytes; None where nobody knows the window."""
    model = model_of(view, lane)
    window = window_of(view, lane, model)
    if model is None or window is None:
        return None
    memory, transcript = view.lane(lane).memory, view.lane(lane).transcript
    density = density_of(transcript, head_bytes)
    share = view.settings.limits.compact_at * _SHRINK**memory.overflows
    head, held = int(head_bytes / density), expected_tokens(transcript, head_bytes)
    # Where the head takes most of the window, the conversation has half of what is left.
    limit = max(int((window - reply_room(model, window)) * share), head + (window - head) // 3)
    return Room(window, limit, held, head, density)


def fits_shorter(view: View, lane: str) -> bool:
    """Whether the request that was too long is not so once less is asked for the reply; a guess, as all of it."""
    asked, window = view.lane(lane).memory.asked, window_of(view, lane, model_of(view, lane))
    if asked is None or window is None:
        return False
    sent = asked.expected or asked.bound
    return reply_left(window, sent) >= LEAST_REPLY and sent + asked.max_output > window


def reply_left(window: int, prompt: int) -> int:
    """Tokens of the window that a prompt of about so many leaves for the reply."""
    return window - prompt * 21 // 20 - 256


def density_of(transcript: Transcript, head_bytes: int) -> float:
    """Bytes a token, as the provider counted last; a usual one where none did, or its count cannot be meant."""
    measured = transcript.measured
    if measured is None or measured.tokens <= 0:
        return _USUAL_DENSITY
    least, most = _DENSITIES
    return min(most, max(least, (head_bytes + measured.weight) / measured.tokens))


def expected_tokens(transcript: Transcript, head_bytes: int) -> int:
    """About how many prompt tokens the next request holds.

    The provider's count of the prefix, where it is one that can be meant (some count only what was not cached).
    """
    density = density_of(transcript, head_bytes)
    guess = int((head_bytes + transcript.weight) / density)
    counted = transcript.counted
    if counted is None or counted.tokens < guess // 3:
        return guess
    fresh = sum(weight_of(line.message) for line in transcript.lines.since(counted.lines))
    return counted.tokens + int(fresh / density)


def is_full(view: View, lane: str, head_bytes: int) -> bool:
    """Whether room should be made before the model is asked, and can be: what was just compacted has to grow first."""
    if view.lane(lane).memory.wanted:
        return len(view.lane(lane).transcript.lines) > 1
    room = room_of(view, lane, head_bytes)
    if room is None or not room.is_full:
        return False
    transcript, memory = view.lane(lane).transcript, view.lane(lane).memory
    # What was compacted for another model, whose window may have been larger, is no measure for this one.
    model = model_of(view, lane)
    weighed = memory.weighed if model is not None and memory.weighed_for in {"", model.model} else 0
    return transcript.weight - weighed >= room.bytes_of(LEAST_SHARE) and len(transcript.lines) > 1
