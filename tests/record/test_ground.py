"""Where a session began, and what was told once, is folded from the record."""

from ml_intern.record.codec import decode
from ml_intern.record.copies import Copy, imported
from ml_intern.record.events import Entry, Nudged, SessionStarted
from ml_intern.record.ground import GroundSet, Joined, Machine
from ml_intern.record.log import replay
from ml_intern.record.view import View

GROUND = GroundSet(Machine(8, 1, 1), (Joined("memory", "MEMORY.md", "0", "x"),), 5, None, ("memory",))


def numbered(*events):
    return [Entry(seq, seq, "main", event) for seq, event in enumerate(events, 1)]


def test_the_last_ground_holds_and_the_last_state_that_was_told():
    told = [Nudged("ground", "a", "cap=5"), Nudged("ground", "b", "a=b/AGENTS.md=told"), Nudged("ground", "c", "cap=8")]
    settings = replay(numbered(GroundSet(), GROUND, *told, Nudged("silence", "d"))).settings
    assert settings.ground == GROUND
    assert settings.told == {"cap": "8", "a=b/AGENTS.md": "told"}
    assert (View().settings.ground, View().settings.told) == (None, {})


def test_an_import_brings_no_text_that_joins_the_prompt():
    made = imported(numbered(SessionStarted("s", "/w", "0"), GROUND), Copy("n", 1), "/here")
    assert replay(made).settings.ground is None


def test_a_nudge_of_before_is_about_nothing():
    line = b'{"seq":1,"at":1,"lane":"main","event":{"guard":"g","text":"t","type":"nudged"},"v":1}'
    assert decode(line).event == Nudged("g", "t", "")
