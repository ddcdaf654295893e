"""A process of its own: a PDF comes on stdin, the text of some pages goes to stdout as JSON. Knows nothing of ours.

A parser of files from anywhere may hang, grow or crash: here it takes nobody with it.
"""

import json
import resource
import sys
from importlib import import_module
from typing import Any

_MEMORY_BYTES = 4 << 30
_CPU_S = 60


def main(first: int, most: int) -> None:
    """Write `{"count": pages, "pages": [text, ...]}` for `most` pages from `first` (counted from 1) on."""
    for which, bound in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(which, (bound, bound))
    library: Any = import_module("pdf_oxide")
    document = library.PdfDocument.from_bytes(sys.stdin.buffer.read())
    count = int(document.page_count)
    pages = [str(document.to_markdown(index)) for index in range(first - 1, min(count, first - 1 + most))]
    sys.stdout.write(json.dumps({"count": count, "pages": pages}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
