import hashlib
import os

import pytest

from ml_intern.base.errors import PathRefused, ToolFailed
from ml_intern.record.effects import Reads
from ml_intern.record.facts import FileRead
from ml_intern.tools.changes import MOST_BYTES
from ml_intern.tools.read import Read
from tests.tools.bench import Bench, sha


@pytest.fixture
def read(bench: Bench) -> Read:
    return Read(bench.roots, bench.blobs)


async def test_lines_are_numbered_from_one_with_a_tab(bench, read):
    (bench.workspace / "a.txt").write_text("one\n\nthree")
    result = await bench.call(read, path="a.txt")
    assert result.text == "1\tone\n2\t\n3\tthree"
    assert result.facts == (FileRead(bench.path("a.txt"), sha(b"one\n\nthree"), whole=True),)


async def test_a_read_says_where_it_looks_and_may_run_beside_others(bench, read):
    prepared = await bench.prepare(read, path="sub/../a.txt")
    assert prepared.effects == (Reads(bench.path("a.txt")),)
    assert prepared.replay == "pure"
    assert await bench.recover(read, prepared, path="a.txt") is None


async def test_a_page_says_which_lines_it_holds_and_how_to_go_on(bench, read):
    (bench.workspace / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 101)))
    result = await bench.call(read, path="a.txt", offset=11, limit=5)
    assert result.text.splitlines() == [
        *(f"{n}\tline {n}" for n in range(11, 16)),
        "[lines 11 to 15 of 100 in all; go on with offset=16]",
    ]
    assert result.facts == (FileRead(bench.path("a.txt"), result.facts[0].sha, whole=False),)


async def test_pages_joined_give_the_whole_file(bench, read):
    lines = [f"{'x' * (n % 700)}{n}" for n in range(3_000)]
    (bench.workspace / "a.txt").write_text("\n".join(lines) + "\n")
    seen, offset = [], 1
    while offset:
        result = await bench.call(read, path="a.txt", offset=offset)
        assert len(result.text) <= 50_200
        *rows, last = result.text.splitlines()
        going_on = last.startswith("[lines")
        seen += [row.partition("\t") for row in (rows if going_on else [*rows, last])]
        offset = int(last.rpartition("=")[2].rstrip("]")) if going_on else 0
    assert [(int(number), text) for number, _, text in seen] == list(enumerate(lines, 1))


async def test_two_thousand_lines_are_the_default(bench, read):
    (bench.workspace / "a.txt").write_text("x\n" * 2_001)
    result = await bench.call(read, path="a.txt")
    assert result.text.endswith("2000\tx\n[lines 1 to 2,000 of 2,001 in all; go on with offset=2001]")


async def test_a_long_line_is_clipped_and_the_file_does_not_count_as_seen_whole(bench, read):
    (bench.workspace / "a.txt").write_text("x" * 4_001 + "\nend\n")
    result = await bench.call(read, path="a.txt")
    assert result.text == f"1\t{'x' * 4_000} [... clipped after 4,000 characters]\n2\tend"
    assert not result.facts[0].whole


async def test_a_line_of_exactly_the_limit_is_whole(bench, read):
    (bench.workspace / "a.txt").write_text("x" * 4_000 + "\r\n")
    result = await bench.call(read, path="a.txt")
    assert result.text == f"1\t{'x' * 4_000}\n[lines end in CRLF]"
    assert result.facts[0].whole


async def test_an_offset_past_the_end_is_told(bench, read):
    (bench.workspace / "a.txt").write_text("a\nb\n")
    with pytest.raises(ToolFailed, match=r"a\.txt ends with line 2\. Ask for an offset up to that\."):
        await bench.call(read, path="a.txt", offset=3)


async def test_offset_zero_is_the_first_line(bench, read):
    (bench.workspace / "a.txt").write_text("a\nb\n")
    assert (await bench.call(read, path="a.txt", offset=0, limit=1)).text.startswith("1\ta\n[lines 1 to 1 of 2")


async def test_an_empty_file_is_told_and_counts_as_read(bench, read):
    (bench.workspace / "a.txt").write_bytes(b"")
    result = await bench.call(read, path="a.txt")
    assert result.text == "[it is empty]"
    assert result.facts == (FileRead(bench.path("a.txt"), sha(b""), whole=True),)


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        (b"\xef\xbb\xbfhi\n", "hi", "UTF-8 with a byte-order mark"),
        ("\ufeffhé\n".encode("utf-16-le"), "hé", "UTF-16-LE with a byte-order mark"),
        ("\ufeffhé\n".encode("utf-16-be"), "hé", "UTF-16-BE with a byte-order mark"),
        ("café\n".encode("latin-1"), "café", "read as Latin-1 (it is not UTF-8)"),
        (b"a" * 70_000 + "\ncafé\n".encode("latin-1"), None, "read as Latin-1 (it is not UTF-8)"),
    ],
    ids=["utf-8 bom", "utf-16-le", "utf-16-be", "latin-1", "latin-1 far down"],
)
async def test_other_encodings_are_read_and_told(bench, read, data, text, note):
    (bench.workspace / "a.txt").write_bytes(data)
    result = await bench.call(read, path="a.txt")
    assert result.text.endswith(f"[{note}]")
    assert text is None or result.text == f"1\t{text}\n[{note}]"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
        (b"PK\x03\x04\x00\x00", "a ZIP archive (or .npz, .pt, .docx, .xlsx)"),
        (b"\x10\0\0\0\0\0\0\0{}", "a safetensors file"),
        (b"text and \0", "a binary file"),
        (bytes(range(1, 255)), "a binary file"),
        (b"plain\n" * 30_000 + b"\0", "a binary file"),
    ],
)
async def test_a_binary_file_is_refused_with_its_kind_and_size(bench, read, data, kind):
    (bench.workspace / "a.bin").write_bytes(data)
    with pytest.raises(ToolFailed) as refused:
        await bench.call(read, path="a.bin")
    assert refused.value.what == f"{bench.path('a.bin')} is {kind} of {len(data):,} bytes, not text."
    assert refused.value.remedy == "Look into it with a command."


async def test_a_folder_is_listed_with_sizes(bench, read):
    (bench.workspace / "data").mkdir()
    (bench.workspace / "data/sub").mkdir()
    (bench.workspace / "data/a.csv").write_text("12345")
    (bench.workspace / "data/link").symlink_to("a.csv")
    result = await bench.call(read, path="data")
    assert result.text.splitlines() == [
        f"{bench.path('data')}/: 3 entries",
        "a.csv  (5 bytes)",
        "link  (link)",
        "sub/",
    ]
    assert result.facts == ()


async def test_a_folder_may_hold_names_that_are_no_text(bench, read):
    os.mkdir(os.fsencode(bench.workspace / "odd"))
    for name in (b"\xff\xfe", b"two\nlines", b"\x1b[31m"):
        with open(os.path.join(os.fsencode(bench.workspace / "odd"), name), "wb"):
            pass
    text = (await bench.call(read, path="odd")).text
    assert text.encode().decode().splitlines()[1:] == [
        "\\x1b[31m  (0 bytes)",
        "two\\nlines  (0 bytes)",
        "��  (0 bytes)",
    ]


async def test_a_large_folder_is_cut(bench, read):
    (bench.workspace / "many").mkdir()
    for number in range(520):
        (bench.workspace / f"many/{number:03}").touch()
    lines = (await bench.call(read, path="many")).text.splitlines()
    assert lines[0].endswith("/: 520 entries")
    assert lines[-1] == "[... 20 more; list them with a command]"


async def test_a_missing_file_is_told_with_the_nearest_names(bench, read):
    (bench.workspace / "train.py").touch()
    with pytest.raises(ToolFailed, match=r"trian\.py does not exist\. Nearest in .*:\ntrain\.py$"):
        await bench.call(read, path="trian.py")


@pytest.mark.parametrize("path", ["/etc/shadow", "../" * 9 + "etc/shadow", "/root/.ssh/id_rsa", "/proc/1/environ"])
async def test_a_path_outside_the_roots_is_refused_before_anything_is_opened(bench, read, path):
    with pytest.raises(PathRefused, match="outside what this session may see"):
        await bench.prepare(read, path=path)


async def test_a_link_is_refused_with_its_target(bench, read, tmp_path):
    (tmp_path / "secret").write_text("planted")
    (bench.workspace / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(PathRefused, match=r"is a link to .*secret"):
        await bench.call(read, path="link")


async def test_a_fifo_is_refused_and_does_not_block(bench, read):
    os.mkfifo(bench.workspace / "pipe")
    with pytest.raises(PathRefused, match="is a FIFO"):
        await bench.call(read, path="pipe")


@pytest.mark.watch_loop
async def test_a_file_of_five_gigabytes_is_answered_in_windows(bench, read):
    with (bench.workspace / "big.log").open("wb") as file:
        file.write(b"first\nsecond\n" + b"x" * 100_000)
        file.truncate(5 << 30)
    result = await bench.call(read, path="big.log", limit=2)
    assert result.text == (
        "1\tfirst\n2\tsecond\n[lines 1 to 2 of 5,368,709,120 bytes in all; go on with offset=3; "
        "over 16 MB: change it with a command, it cannot be edited]"
    )
    assert result.facts == ()


async def test_the_end_of_a_large_file_is_found_across_windows(bench, read):
    line = "é" * 50 + "\n"
    count = MOST_BYTES // len(line.encode()) + 5_000
    (bench.workspace / "big.log").write_text(line * count + "last")
    result = await bench.call(read, path="big.log", offset=count)
    assert result.text.startswith(f"{count}\t{'é' * 50}\n{count + 1}\tlast\n[over 16 MB")


async def test_a_kept_output_is_paged_by_its_address(bench, read):
    text = "".join(f"{'é' * 30} {n}\n" for n in range(30_000))
    address = await bench.blobs.put(text.encode())
    result = await bench.call(read, path=f"blob:{address}", offset=25_000, limit=2)
    assert result.text == (
        f"25000\t{'é' * 30} 24999\n25001\t{'é' * 30} 25000\n"
        f"[lines 25,000 to 25,001 of {len(text.encode()):,} bytes in all; go on with offset=25002]"
    )
    assert result.facts == ()


@pytest.mark.parametrize("address", ["blob:", "blob:abc", "blob:../../etc", "blob:" + "g" * 64])
async def test_a_mangled_address_is_refused(bench, read, address):
    with pytest.raises(ToolFailed, match="is no address of a kept output"):
        await bench.prepare(read, path=address)


async def test_an_unknown_address_is_the_calls_failure_not_the_stores(bench, read):
    with pytest.raises(ToolFailed, match="No output is kept under"):
        await bench.call(read, path=f"blob:{hashlib.sha256(b'').hexdigest()}")
