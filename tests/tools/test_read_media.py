import json
import struct
import sys
import zlib
from pathlib import Path

import pytest

from ml_intern.base.errors import ToolFailed
from ml_intern.record.display import ImageDisplay
from ml_intern.record.facts import FileRead
from ml_intern.record.messages import Image
from ml_intern.tools.edit import Edit
from ml_intern.tools.read import Read
from tests.tools.bench import Bench, sha


@pytest.fixture
def read(bench: Bench) -> Read:
    return Read(bench.roots, bench.blobs)


def png(width: int = 3, height: int = 2) -> bytes:
    """A real image: a decoder opens it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x80\x40\x20" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


GIF = b"GIF89a" + struct.pack("<HH", 7, 5) + b"\0\0\0,\0\0\0\0\1\0\1\0\0\2\1D\0;"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0\xff\xc0\0\x0b\x08\0\x05\0\x07\1\1\x11\0\xff\xd9"
WEBP = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0\x06\0\0\x04\0\0"


@pytest.mark.parametrize(
    ("data", "mime", "sides"),
    [
        (png(), "image/png", "3 × 2"),
        (GIF, "image/gif", "7 × 5"),
        (JPEG, "image/jpeg", "7 × 5"),
        (WEBP, "image/webp", "7 × 5"),
    ],
)
async def test_an_image_is_kept_and_handed_on(bench, read, data, mime, sides):
    (bench.workspace / "plot").write_bytes(data)
    result = await bench.call(read, path="plot")
    assert result.images == (Image(sha(data), mime),)
    assert result.display == ImageDisplay(bench.path("plot"), sha(data), mime)
    assert f"{mime}, {sides} pixels, {len(data)} bytes; it follows" in result.text
    assert await bench.blobs.get(sha(data)) == data


async def test_a_model_that_cannot_see_gets_a_sentence(bench):
    (bench.workspace / "plot.png").write_bytes(png())
    result = await bench.call(Read(bench.roots, bench.blobs, sees=False), path="plot.png")
    assert (result.images, result.outcome) == ((), "ok")
    assert "3 × 2 pixels" in result.text
    assert "cannot see images" in result.text


@pytest.mark.parametrize("data", [png(1_569, 1), png(1, 1_569), png() + b"\0" * 3_800_000])
async def test_a_large_image_is_refused_with_a_way_to_make_it_smaller(bench, read, data):
    (bench.workspace / "plot.png").write_bytes(data)
    with pytest.raises(ToolFailed, match=r"too large to look at.*1,568 pixels a side.*thumbnail\(\(1568, 1568\)\)"):
        await bench.call(read, path="plot.png")


async def test_an_image_of_exactly_the_limit_is_shown(bench, read):
    (bench.workspace / "plot.png").write_bytes(png(1_568, 4))
    assert (await bench.call(read, path="plot.png")).images


@pytest.mark.parametrize("data", [png()[:-9], JPEG[:-2], WEBP[:-1], GIF[:-1]])
async def test_half_an_image_never_reaches_a_model(bench, read, data):
    (bench.workspace / "plot").write_bytes(data)
    with pytest.raises(ToolFailed, match="breaks off before its end"):
        await bench.call(read, path="plot")


NOTEBOOK = {
    "nbformat": 4,
    "metadata": {},
    "cells": [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {
            "cell_type": "code",
            "execution_count": 3,
            "source": "print(1)\n1 / 0",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1\n"]},
                {"output_type": "error", "traceback": ["\x1b[31mZeroDivisionError\x1b[0m", "division by zero"]},
                {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<Figure>"}},
            ],
        },
        {"cell_type": "code", "source": [], "outputs": [{"output_type": "stream", "text": "x" * 9_000}]},
    ],
}


async def test_a_notebook_is_shown_as_cells_with_their_outputs(bench, read):
    (bench.workspace / "a.ipynb").write_text(json.dumps(NOTEBOOK))
    result = await bench.call(read, path="a.ipynb")
    rows = [row.partition("\t")[2] for row in result.text.splitlines()[:12]]
    assert rows == [
        *("--- cell 1: markdown", "# Title", "words", ""),
        *("--- cell 2: code [3]", "print(1)", "1 / 0", "--- output of cell 2"),
        *("1", "--- output of cell 2", "ZeroDivisionError", "division by zero"),
    ]
    assert "[image/png; save it to a file to look at it]" in result.text
    assert "characters left out" in result.text
    assert len(result.text) < 6_000
    assert result.facts == (
        FileRead(bench.path("a.ipynb"), sha((bench.workspace / "a.ipynb").read_bytes()), whole=False),
    )


async def test_a_notebook_can_be_read_raw_and_edited(bench, read):
    (bench.workspace / "a.ipynb").write_text(json.dumps(NOTEBOOK, indent=1))
    raw = await bench.call(read, path="a.ipynb", raw=True)
    assert '"cell_type": "markdown"' in raw.text
    await bench.call(Edit(bench.roots), path="a.ipynb", old_str="# Title", new_str="# Other")
    assert "# Other" in (await bench.call(read, path="a.ipynb")).text


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": 3}', ""])
async def test_what_is_only_called_a_notebook_is_read_as_text(bench, read, text):
    (bench.workspace / "a.ipynb").write_text(text)
    assert (await bench.call(read, path="a.ipynb")).text.startswith(f"1\t{text}" if text else "[it is empty]")


@pytest.mark.parametrize("cell", [3, None, {}, {"source": 3, "outputs": 7}, {"outputs": [{"data": []}, 3]}])
async def test_an_odd_cell_costs_only_itself(bench, read, cell):
    (bench.workspace / "a.ipynb").write_text(json.dumps({"cells": [cell, {"cell_type": "raw", "source": "kept"}]}))
    assert "kept" in (await bench.call(read, path="a.ipynb")).text


def pdf(*pages: str) -> bytes:
    font = "<< /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(len(pages)))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    for number, text in enumerate(pages):
        said = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {4 + 2 * number} 0 R "
            f"/Resources << /Font {font} >> >>",
            f"<< /Length {len(said)} >>\nstream\n{said}\nendstream",
        ]
    data, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return data + f"{end}trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF\n".encode()


async def test_a_pdf_is_shown_as_text_by_pages(bench, read):
    (bench.workspace / "a.pdf").write_bytes(pdf("Attention", "Residuals", "Scaling"))
    whole = (await bench.call(read, path="a.pdf")).text
    assert [word in whole for word in ("--- page 1 of 3", "Attention", "Scaling", "[pages 1 to 3 of 3]")] == [True] * 4
    some = (await bench.call(read, path="a.pdf", pages="2")).text
    assert ("Residuals" in some, "Attention" in some, "Scaling" in some) == (True, False, False)
    assert some.endswith("[pages 2 to 2 of 3; go on with pages=3-]")


async def test_a_long_pdf_goes_on_by_pages(bench, read):
    (bench.workspace / "a.pdf").write_bytes(pdf(*(f"page{n}x" for n in range(1, 46))))
    text = (await bench.call(read, path="a.pdf")).text
    assert text.endswith("[pages 1 to 20 of 45; go on with pages=21-]")
    assert "page45x" in (await bench.call(read, path="a.pdf", pages="41-")).text


@pytest.mark.parametrize(
    ("pages", "what"),
    [("4", "has 3 pages"), ("0", "names no pages"), ("3-2", "names no pages"), ("x", "names no pages")],
)
async def test_pages_that_are_not_there_are_told(bench, read, pages, what):
    (bench.workspace / "a.pdf").write_bytes(pdf("a", "b", "c"))
    with pytest.raises(ToolFailed, match=what):
        await bench.call(read, path="a.pdf", pages=pages)


@pytest.mark.parametrize("data", [b"%PDF-1.4\n\0nonsense", pdf("a")[:200] + b"\0"])
async def test_a_broken_pdf_is_told_with_another_way(bench, read, data):
    (bench.workspace / "a.pdf").write_bytes(data)
    with pytest.raises(ToolFailed, match=r"cannot be read as a PDF|breaks off"):
        await bench.call(read, path="a.pdf")


def test_the_reader_of_pdf_is_not_imported_with_the_tool():
    assert "pdf_oxide" not in sys.modules
    assert Path(sys.modules["ml_intern.tools.pdf"].__file__ or "").with_name("pdf_process.py").is_file()
