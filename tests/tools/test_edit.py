import asyncio
import contextlib
import threading

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.record.display import DiffDisplay
from ml_intern.record.facts import FileChange
from ml_intern.sandbox import files
from ml_intern.tools import spans
from ml_intern.tools.edit import Edit
from ml_intern.tools.read import Read
from tests.tools.bench import Bench, sha

CODE = "def train(lr):\n    for step in range(10):\n        loss = 1\n    return loss\n"


@pytest.fixture
def read(bench: Bench) -> Read:
    return Read(bench.roots, bench.blobs)


@pytest.fixture
def edit(bench: Bench) -> Edit:
    return Edit(bench.roots)


@pytest.fixture
async def code(bench: Bench, read: Read):
    path = bench.workspace / "a.py"
    path.write_text(CODE)
    await bench.call(read, path="a.py")
    return path


async def test_a_span_is_replaced_and_the_diff_comes_back(bench, edit, code):
    result = await bench.call(edit, path="a.py", old_str="range(10)", new_str="range(20)")
    assert code.read_text() == CODE.replace("10", "20")
    diff = (
        "@@ -1,4 +1,4 @@\n def train(lr):\n-    for step in range(10):\n+    for step in range(20):\n"
        "         loss = 1\n     return loss"
    )
    assert result.text == f"Edited {code} at line 2.\n{diff}"
    assert result.display == DiffDisplay(str(code), diff, 1, 1)
    assert result.facts == (FileChange(str(code), sha(CODE.encode()), sha(code.read_bytes())),)


async def test_the_diffs_line_numbers_are_the_files(bench, read, edit):
    path = bench.workspace / "a.txt"
    path.write_text("".join(f"{n}\n" for n in range(1, 1001)))
    await bench.call(read, path="a.txt", limit=1)
    result = await bench.call(edit, path="a.txt", old_str="\n500\n", new_str="\n500\n500.5\n")
    assert "@@ -498,6 +498,7 @@\n 498\n 499\n 500\n+500.5\n 501\n 502\n 503" in result.text


async def test_one_edit_after_another_needs_no_new_read(bench, edit, code):
    await bench.call(edit, path="a.py", old_str="lr", new_str="rate")
    await bench.call(edit, path="a.py", old_str="rate", new_str="lr, rate")
    assert code.read_text().startswith("def train(lr, rate):")


async def test_every_occurrence_is_replaced_when_asked(bench, edit, code):
    result = await bench.call(edit, path="a.py", old_str="loss", new_str="cost", replace_all=True)
    assert code.read_text() == CODE.replace("loss", "cost")
    assert ", 2 replacements at lines 3, 4." in result.text


async def test_an_empty_new_text_deletes(bench, edit, code):
    await bench.call(edit, path="a.py", old_str="        loss = 1\n", new_str="")
    assert code.read_text() == CODE.replace("        loss = 1\n", "")


async def test_an_ambiguous_span_is_refused_with_the_candidates(bench, edit, code):
    with pytest.raises(ToolFailed) as refused:
        await bench.call(edit, path="a.py", old_str="loss", new_str="cost")
    assert refused.value.what == f"old_str stands 2 times in {code}; nothing was changed."
    assert refused.value.quoted == (
        "1\tdef train(lr):\n2\t    for step in range(10):\n3\t        loss = 1\n4\t    return loss\n---\n"
        "2\t    for step in range(10):\n3\t        loss = 1\n4\t    return loss"
    )
    assert refused.value.remedy == "Take in neighbouring lines until it is unique, or set replace_all."
    assert code.read_text() == CODE


async def test_overlapping_occurrences_are_ambiguous_too(bench, read, edit):
    (bench.workspace / "a.txt").write_text("aaa")
    await bench.call(read, path="a.txt")
    with pytest.raises(ToolFailed, match="stands 2 times"):
        await bench.call(edit, path="a.txt", old_str="aa", new_str="b")


@pytest.mark.parametrize(
    ("old", "told"),
    [
        ("def train(lr):\n  for step in range(10):", "lines 1 to 2 (only the indentation differs)"),
        ("def train(lr):  \n", "lines 1 to 1 (only white space at line ends differs)"),
        ("def  train(lr):", "lines 1 to 1 (only white space differs)"),
        ("DEF train(lr):", "lines 1 to 1 (only upper and lower case"),
        ("2\t    for step in range(10):", "without the line numbers: they are not part of the file"),
        (
            "    for step in range(12):\n        loss = 2",
            "The first difference, line 2:\n  the file has '    for step in range(10):'\n"
            "  old_str has  '    for step in range(12):'",
        ),
        ("step in range(12)", "Nearest, from line 2:\n2\t    for step in range(10):"),
    ],
)
async def test_a_missing_span_is_answered_with_the_nearest_and_what_differs(bench, edit, code, old, told):
    with pytest.raises(ToolFailed) as refused:
        await bench.call(edit, path="a.py", old_str=old, new_str="x")
    assert refused.value.what == f"old_str does not stand in {code}; nothing was changed."
    assert told in (refused.value.quoted or refused.value.remedy)
    assert "they are not part of the file" not in refused.value.quoted
    assert refused.value.remedy == "Copy the span exactly as it stands there:" or not refused.value.quoted
    assert code.read_text() == CODE


async def test_typographic_signs_are_told(bench, read, edit):
    (bench.workspace / "a.md").write_text("a “quoted” word – here\n")
    await bench.call(read, path="a.md")
    with pytest.raises(ToolFailed, match="only quotes, dashes or special spaces differ"):
        await bench.call(edit, path="a.md", old_str='a "quoted" word - here', new_str="x")


async def test_a_span_like_nothing_in_the_file_is_told_plainly(bench, edit, code):
    with pytest.raises(ToolFailed) as refused:
        await bench.call(edit, path="a.py", old_str="zzzzzzzz", new_str="x")
    assert refused.value.what == f"old_str does not stand in {code}; nothing was changed."
    assert refused.value.remedy == "Read the file again to see what it holds."


async def test_equal_and_empty_texts_are_refused(bench, edit, code):
    with pytest.raises(ToolFailed, match="nothing would change"):
        await bench.call(edit, path="a.py", old_str="loss", new_str="loss")
    with pytest.raises(ToolFailed, match=r"old_str is empty\. Name the text to replace; to create a file .* write it"):
        await bench.call(edit, path="a.py", old_str="", new_str="loss")


async def test_a_file_that_was_not_read_or_changed_since_is_refused(bench, edit, code):
    code.write_text(CODE + "# new\n")
    with pytest.raises(ToolFailed, match="has changed since it was read"):
        await bench.call(edit, path="a.py", old_str="range(10)", new_str="x")
    with pytest.raises(ToolFailed, match="exists and has not been read"):
        await bench.call(edit, path="a.py", lane="other", old_str="range(10)", new_str="x")


async def test_a_partial_read_counts_as_read(bench, read, edit):
    (bench.workspace / "a.txt").write_text("one\ntwo\n")
    await bench.call(read, path="a.txt", limit=1)
    await bench.call(edit, path="a.txt", old_str="two", new_str="2")
    assert (bench.workspace / "a.txt").read_text() == "one\n2\n"


@pytest.mark.parametrize(
    ("data", "change", "after"),
    [
        (b"a\r\nb\r\nc\r\n", ("a\nb\n", "1\n2\n3\n"), b"1\r\n2\r\n3\r\nc\r\n"),
        (b"a\r\nb\r\nc\r\n", ("b", "b\nB"), b"a\r\nb\r\nB\r\nc\r\n"),
        (b"a\r\nb\r\nc\r\n", ("\nb", "\nB"), b"a\r\nB\r\nc\r\n"),
        (b"a\r\nb\r\nc\r\n", ("b\r\nc", "B\r\nC"), b"a\r\nB\r\nC\r\n"),
        (b"a\nb\nc\n", ("a\r\nb", "A\r\nB"), b"A\nB\nc\n"),
        (b"a\r\nb\nc\n", ("a\nb\nc", "x\ny"), b"x\r\ny\n"),
        (b"a\nb\r\nc", ("c", "c\nd"), b"a\nb\r\nc\r\nd"),
        (b"a\nb", ("b", "B"), b"a\nB"),
        (b"\xef\xbb\xbfa\r\n", ("a", "b"), b"\xef\xbb\xbfb\r\n"),
        ("\ufeffaé\r\nb".encode("utf-16-le"), ("é\nb", "ü\nc"), "\ufeffaü\r\nc".encode("utf-16-le")),
        ("caf\xe9 one".encode("latin-1"), ("one", "\xfc"), "caf\xe9 \xfc".encode("latin-1")),
        (b"\ta\n\t\tb\n", ("\tb", "\tc\n\t\td"), b"\ta\n\t\tc\n\t\td\n"),
    ],
)
async def test_line_ends_encoding_and_the_files_end_are_kept(bench, read, edit, data, change, after):
    path = bench.workspace / "a.txt"
    path.write_bytes(data)
    await bench.call(read, path="a.txt")
    await bench.call(edit, path="a.txt", old_str=change[0], new_str=change[1])
    assert path.read_bytes() == after


async def test_line_ends_alone_are_not_converted(bench, read, edit):
    (bench.workspace / "a.txt").write_bytes(b"a\nb\n")
    await bench.call(read, path="a.txt")
    with pytest.raises(ToolFailed, match="line ends are kept as the file has them"):
        await bench.call(edit, path="a.txt", old_str="a\nb", new_str="a\r\nb")


async def test_a_character_that_the_encoding_lacks_is_refused(bench, read, edit):
    (bench.workspace / "a.txt").write_bytes(b"caf\xe9")
    await bench.call(read, path="a.txt")
    with pytest.raises(ToolFailed, match="The file is latin-1, which has no '€'"):
        await bench.call(edit, path="a.txt", old_str="caf", new_str="€")


async def test_a_binary_file_is_refused(bench, edit):
    data = b"\x93NUMPY\0\0"
    (bench.workspace / "a.npy").write_bytes(data)
    bench.keep([FileChange(bench.path("a.npy"), None, sha(data))])
    with pytest.raises(ToolFailed, match=r"is a NumPy array \(\.npy\), not text\. Change it with a command\."):
        await bench.call(edit, path="a.npy", old_str="N", new_str="M")


async def test_a_missing_file_is_told(bench, edit):
    with pytest.raises(ToolFailed, match=r"b\.py does not exist"):
        await bench.call(edit, path="b.py", old_str="a", new_str="b")


async def test_a_protected_file_is_refused(bench, edit):
    with pytest.raises(PathRefused, match="is protected"):
        await bench.call(edit, path=".git/config", old_str="a", new_str="b")


async def test_an_edit_that_breaks_python_is_warned_of(bench, edit, code):
    result = await bench.call(edit, path="a.py", old_str="    return loss", new_str="  return loss")
    assert "\nWarning: this is not valid Python: unindent does not match" in result.text


async def test_after_a_crash_an_edit_is_found_or_done_again(bench, edit, code):
    arguments = {"path": "a.py", "old_str": "range(10)", "new_str": "range(20)"}
    prepared = await bench.prepare(edit, **arguments)
    assert prepared.replay == "findable"
    assert await bench.recover(edit, prepared, **arguments) is None
    await edit.run(prepared, bench.context())
    found = await bench.recover(edit, prepared, **arguments)
    assert found is not None
    assert (found.outcome, found.facts) == ("ok", prepared.writes)


@pytest.mark.watch_loop
async def test_a_search_through_a_large_file_does_not_hold_the_loop(bench, read, edit):
    (bench.workspace / "big.txt").write_bytes(b"some words in a line\r\n" * 700_000)
    await bench.call(read, path="big.txt", limit=1)
    with pytest.raises(ToolFailed, match="does not stand"):
        await bench.call(edit, path="big.txt", old_str="some words\nin a line", new_str="x")


@st.composite
def changes(draw):
    """A text with mixed line ends, a span of it that cuts no CRLF in two, what it becomes, and an encoding."""
    lines = draw(st.lists(st.text(st.sampled_from("ab \t“é\u2028"), max_size=6), max_size=8))
    text = "".join(line + draw(st.sampled_from(["\n", "\r\n"])) for line in lines) + "END"
    start = draw(st.integers(0, len(text) - 1))
    end = draw(st.integers(start + 1, len(text)))
    start -= text[start - 1 : start + 1] == "\r\n"
    end += text[end - 1 : end + 1] == "\r\n"
    new = draw(st.text(st.sampled_from("ab\n é"), max_size=6))
    return text, start, end, new, draw(st.sampled_from(["utf-8", "utf-16-le"]))


@given(changes())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_everything_outside_the_span_is_byte_identical(bench, read, edit, change):
    text, start, end, new, codec = change
    old = text[start:end].replace("\r\n", "\n")
    assume(old != new and len(spans.find(text, old)) == 1)
    bom = "" if codec == "utf-8" else "\ufeff"
    before, after = (bom + text[:start]).encode(codec), text[end:].encode(codec)
    path = bench.workspace / "any.txt"
    path.write_bytes((bom + text).encode(codec))
    await bench.call(read, path="any.txt")
    await bench.call(edit, path="any.txt", old_str=old, new_str=new)
    changed = path.read_bytes()
    assert changed.startswith(before)
    assert changed.endswith(after)
    middle = changed[len(before) : len(changed) - len(after)].decode(codec)
    assert middle.replace("\r\n", "\n") == new
    assert ("\r\n" in middle) <= ("\r\n" in text)


async def test_of_edits_side_by_side_none_is_written_over(bench, read, edit, code, monkeypatch):
    for lane in ("task-1", "task-2"):
        await bench.call(read, lane, path="a.py")
    contexts = [bench.context(lane, lane) for lane in ("task-1", "task-2")]
    words = [("range(10)", "range(20)"), ("loss = 1", "loss = 2")]
    prepared = [
        await bench.prepare(edit, context.lane, context.lane, path="a.py", old_str=old, new_str=new)
        for context, (old, new) in zip(contexts, words, strict=True)
    ]
    together, look = threading.Barrier(2), files.sha256

    def look_together(place):
        found = look(place)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.5)
        return found

    monkeypatch.setattr(files, "sha256", look_together)
    done = await asyncio.gather(
        *(edit.run(each, context) for each, context in zip(prepared, contexts, strict=True)), return_exceptions=True
    )
    [refused] = [each for each in done if isinstance(each, ToolFailed)]
    assert "changed by something else" in refused.what
    told = [new for (_, new), each in zip(words, done, strict=True) if not isinstance(each, ToolFailed)]
    assert [new for _, new in words if new in code.read_text()] == told
