"""A Jupyter notebook as text: its cells in order, what they printed below them. Knows no file system.

https://nbformat.readthedocs.io/en/latest/format_description.html
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from ml_intern.base.text import clip, plain

SUFFIX = ".ipynb"
_OUTPUT_CHARS = 4_000


def notebook(text: str) -> str | None:
    """The cells of a notebook (nbformat 4); None where `text` is none."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(cells := cast("dict[str, Any]", found).get("cells"), list):
        return None
    parts = [_cell(number, _object(cell)) for number, cell in enumerate(cast("list[Any]", cells), 1)]
    return "\n\n".join(parts) + "\n" if parts else ""


def _cell(number: int, cell: dict[str, Any]) -> str:
    kind = str(cell.get("cell_type", "?"))
    count = f" [{cell['execution_count']}]" if cell.get("execution_count") else ""
    rows = [f"--- cell {number}: {kind}{count}", _joined(cell.get("source")).rstrip("\n")]
    for output in _list(cell.get("outputs")):
        if said := "\n".join(_output(_object(output))).strip("\n"):
            rows.append(f"--- output of cell {number}\n{clip(plain(said), _OUTPUT_CHARS).text}")
    return "\n".join(rows)


def _output(output: dict[str, Any]) -> Iterator[str]:
    match output.get("output_type"):
        case "stream":
            yield _joined(output.get("text"))
        case "error":
            yield _joined([f"{row}\n" for row in _list(output.get("traceback"))])
        case _:
            data = _object(output.get("data"))
            if "text/plain" in data:
                yield _joined(data["text/plain"])
            pictures = [kind for kind in data if kind.startswith("image/")]
            yield from (f"[{kind}; save it to a file to look at it]" for kind in pictures)


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _joined(value: object) -> str:
    """Text stands there whole, or as a list of lines."""
    return "".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value or "")
