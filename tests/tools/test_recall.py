import pytest

from ml_intern.base.errors import ToolFailed
from ml_intern.record.codec import encode
from ml_intern.record.display import TextDisplay
from ml_intern.record.effects import is_read_only
from ml_intern.record.events import Compacted, Entry, Event, ModelReplied, Nudged, ToolFinished, UserSaid
from ml_intern.record.messages import Call, Reply, Text
from ml_intern.tools.recall import Recall
from tests.tools.bench import Bench


class Past:
    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def add(self, *events: Event, lane: str = "main") -> None:
        for event in events:
            self.kept.append(encode(Entry(len(self.kept) + 1, 1_700_000_000_000, lane, event)))

    def call(self, tool: str, arguments: str, text: str, blob: str | None = None) -> None:
        key = f"c{len(self.kept)}"
        self.add(ModelReplied("a", Reply((Text("I look."), Call(key, key, tool, arguments))), None, 0, "calls"))
        self.add(ToolFinished(key, "ok", text, TextDisplay(""), blob=blob))

    async def lines(self, after: int = 0) -> list[bytes]:
        return self.kept[after:]


@pytest.fixture
def past() -> Past:
    past = Past()
    past.add(UserSaid("1", "Raise the accuracy\nof the classifier"))
    past.call("bash", '{"command": "python train.py\\necho accuracy"}', "epoch 1\naccuracy 0.91\n")
    past.call("recall", '{"query": "accuracy"}', "#1 user ... accuracy")
    past.add(Nudged("loop", "The accuracy does not move."), Compacted(3, "So far: accuracy 0.91."))
    return past


@pytest.fixture
def recall(bench: Bench, past: Past) -> Recall:
    return Recall(past, bench.blobs)


def heads(text: str) -> list[str]:
    return [line.partition(",")[0] for line in text.splitlines() if line.startswith("#")]


async def test_words_are_found_newest_first_with_number_kind_and_line(bench, recall):
    text = (await bench.call(recall, query="ACCURACY")).text
    assert heads(text) == ["#7 note", "#6 note", "#3 answer of bash", "#2 call of bash", "#1 user"]
    assert "  2: accuracy 0.91" in text
    assert "  2: echo accuracy" in text
    assert text.splitlines()[-1] == "[7 entries searched]"


async def test_all_words_must_occur_in_any_order(bench, recall):
    assert heads((await bench.call(recall, query="0.91 epoch")).text) == ["#3 answer of bash"]
    assert "nothing found" in (await bench.call(recall, query="0.91 unheard")).text


async def test_a_word_is_no_expression_unless_it_is_said_to_be_one(bench, recall):
    assert "nothing found" in (await bench.call(recall, query="0.9.")).text
    found = await bench.call(recall, query=r"accuracy 0\.9.", regex=True)
    assert heads(found.text) == ["#7 note", "#3 answer of bash"]


async def test_a_search_does_not_find_itself(bench, recall):
    assert all("recall" not in head for head in heads((await bench.call(recall, query="accuracy")).text))


async def test_what_was_asked_aside_is_no_part_of_what_was_said(bench, past, recall):
    past.add(ModelReplied("a", Reply((Text("Raising accuracy"),)), None, 0, "stop", role="title"))
    past.add(ModelReplied("b", Reply((Text("## Accuracy so far"),)), None, 0, "stop", role="compaction"))
    assert heads((await bench.call(recall, query="accuracy", kinds=["reply"])).text) == []
    assert heads((await bench.call(recall, query="raising")).text) == []


async def test_kinds_bound_a_search(bench, recall):
    assert heads((await bench.call(recall, query="accuracy", kinds=["user", "call"])).text) == [
        "#2 call of bash",
        "#1 user",
    ]


async def test_pages_joined_give_every_result_once(bench, recall):
    seen = []
    for offset in range(5):
        text = (await bench.call(recall, query="accuracy", limit=1, offset=offset)).text
        seen += heads(text)
        assert (f"go on with offset={offset + 1}]" in text) == (offset < 4)
    assert [head.split()[0] for head in seen] == ["#7", "#6", "#3", "#2", "#1"]


async def test_long_outputs_are_searched_whole_and_named_by_their_address(bench, past, recall):
    whole = "".join(f"line {n}\n" for n in range(1, 50_001)) + "the needle\n"
    blob = await bench.blobs.put(whole.encode())
    past.call("bash", "{}", "line 1\n[... clipped ...]\n", blob)
    text = (await bench.call(recall, query="needle")).text
    assert f"blob:{blob}" in text.splitlines()[0]
    assert text.splitlines()[1] == "  50001: the needle"


async def test_an_output_that_is_gone_is_searched_as_it_was_shown(bench, past, recall):
    past.call("bash", "{}", "the needle", "0" * 64)
    assert heads((await bench.call(recall, query="needle")).text) == ["#9 answer of bash"]


async def test_an_entry_is_shown_whole_and_paged(bench, past, recall):
    assert (await bench.call(recall, seq=1)).text.splitlines()[1:] == ["2\tRaise the accuracy", "3\tof the classifier"]
    past.add(UserSaid("2", "\n".join(f"row {n}" for n in range(3_000))))
    text = (await bench.call(recall, seq=8)).text
    assert text.endswith("[go on with seq=8, offset=2000]")
    assert (await bench.call(recall, seq=8, offset=2000)).text.startswith("2001\trow 1999")


@pytest.mark.parametrize("arguments", [{}, {"query": " "}, {"seq": 99}, {"query": "(", "regex": True}])
async def test_what_cannot_be_looked_for_is_told(bench, recall, arguments):
    with pytest.raises(ToolFailed) as refused:
        await bench.call(recall, **arguments)
    assert refused.value.remedy


async def test_a_search_only_looks(bench, recall):
    prepared = await bench.prepare(recall, query="x")
    assert (is_read_only(prepared.effects), prepared.replay) == (True, "pure")
    assert await bench.recover(recall, prepared, query="x") is None


@pytest.mark.watch_loop(limit_s=0.2)
async def test_ten_thousand_entries_do_not_stop_the_event_loop(bench, past, recall):
    for number in range(5_000):
        past.call("bash", "{}", f"output {number} " * 20)
    assert heads((await bench.call(recall, query="output 4999")).text)[0] == "#10007 answer of bash"
