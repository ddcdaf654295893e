"""What the bytes of a file are: text in which encoding, or what kind of binary. Knows no tool and no file system."""

import codecs

from msgspec import Struct

from ml_intern.base.errors import ToolFailed

SNIFFED_BYTES = 65_536
"""How much of a file's head decides what it is."""

# (how the file begins, what it is); for people, not a wall.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive (or .npz, .pt, .docx, .xlsx)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program or library (ELF)"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"GGUF", "a GGUF model"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"RIFF", "a RIFF file (audio, video or WebP)"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CONTROLS = bytes(sorted({*range(32)} - {*b"\t\n\r\f\b\x1b"}))
_FEW_CONTROLS = 0.02


class Encoding(Struct, frozen=True):
    """How a text file is written: Python's codec, and the byte-order mark before it."""

    codec: str = "utf-8"
    bom: bytes = b""

    @property
    def note(self) -> str:
        """What a reader should know of it; empty for plain UTF-8."""
        name = "Latin-1 (it is not UTF-8)" if self.codec == "latin-1" else self.codec.upper()
        if self.bom:
            return f"{name} with a byte-order mark"
        return "" if self.codec == "utf-8" else f"read as {name}"

    def decode(self, data: bytes) -> str:
        """The text of a whole file, without its byte-order mark.

        Raises:
            ToolFailed: the encoding that its head shows does not hold to its end.
        """
        try:
            return data[len(self.bom) :].decode(self.codec)
        except UnicodeDecodeError as error:
            raise ToolFailed(
                f"The file is not valid {self.codec.upper()}: {error.reason} at byte {error.start + len(self.bom)}.",
                "Repair it with a command first.",
            ) from error

    def encode(self, text: str) -> bytes:
        """The whole file that holds `text`.

        Raises:
            ToolFailed: a character that this encoding lacks.
        """
        try:
            return self.bom + text.encode(self.codec)
        except UnicodeEncodeError as error:
            raise ToolFailed(
                f"The file is {self.codec}, which has no {text[error.start]!r}.",
                "Leave that character out, or convert the file to UTF-8 with a command (iconv) first.",
            ) from error


class Binary(Struct, frozen=True):
    """No text; `kind` says what it seems to be."""

    kind: str


def sniff(head: bytes, *, whole: bool) -> Encoding | Binary:
    """What a file is that begins with `head`; `whole` when that is all of it."""
    for bom, codec in _BOMS:
        if head.startswith(bom) and not head.startswith(codecs.BOM_UTF32_LE):
            return Encoding(codec, bom)
    for magic, kind in _MAGIC:
        if head.startswith(magic) and (b"\0" in head or not _is_utf8(head, whole=whole)):
            return Binary(kind)
    if head[8:9] == b"{" and b"\0" in head[:8]:
        return Binary("a safetensors file")
    if b"\0" not in head and _is_utf8(head, whole=whole):
        return Encoding()
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return Binary("a binary file") if controls > len(head) * _FEW_CONTROLS or b"\0" in head else Encoding("latin-1")


def _is_utf8(head: bytes, *, whole: bool) -> bool:
    try:
        # A character may be cut where the head ends.
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return True
