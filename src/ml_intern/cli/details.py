"""What a finished call showed, as lines: logs, diffs, tables, long texts. Draws kinds of display, knows no tool."""

from typing import assert_never

from ml_intern.base.text import visible, visible_line
from ml_intern.record.display import (
    DiffDisplay,
    Display,
    ImageDisplay,
    LinkDisplay,
    LogDisplay,
    PlanDisplay,
    TableDisplay,
    TextDisplay,
)

INDENT = "          "


def detail_lines(display: Display, most: int | None) -> list[str]:
    """The lines below a call's title, indented; beyond `most` the middle is left out and counted."""
    match display:
        case LogDisplay(text=text) | DiffDisplay(diff=text) | TextDisplay(text=text):
            lines = text.splitlines()
        case TableDisplay(columns=columns, rows=rows):
            lines = table_lines([columns, *rows])
        case LinkDisplay(url=url):
            lines = [visible_line(url)]
        case PlanDisplay() | ImageDisplay():
            lines = []
        case _ as never:
            assert_never(never)
    return [f"{INDENT}{visible(line)}" for line in _cut(lines, most)]


def _cut(lines: list[str], most: int | None) -> list[str]:
    if most is None or len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], f"... {len(lines) - 2 * half:,} lines more (--full shows them) ...", *lines[-half:]]


def table_lines(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell. No cell begins a line of its own."""
    rows = [tuple(visible_line(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
