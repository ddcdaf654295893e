"""`ml-intern settings`: each setting, its value, and where it was said. Knows no session."""

import json
import os
import sys

from ml_intern.app.settings import workspace_of
from ml_intern.app.standing import Row, Standing, rows, stand
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible
from ml_intern.headless.exits import Exit


def show(cwd: str | None, as_json: bool) -> Exit:
    """Print the table, then the rules, then what is ignored."""
    try:
        standing = stand(workspace_of(cwd), os.environ)
        lines = (_json_lines if as_json else _lines)(rows(standing), standing)
    except BadSettings as error:
        sys.stderr.write(f"ml-intern: {visible(error.what)}\n{visible(error.remedy)}\n")
        return Exit.BAD_SETTINGS
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if standing.note:
        sys.stderr.write(f"{visible(standing.note)}\n")
    return Exit.DONE


def _lines(found: list[Row], standing: Standing) -> list[str]:
    cells = [(row.option.name, row.shown or "(none)", row.origin) for row in found]
    cells += [(f"rules.{rule.decision}", rule.text, rule.origin) for rule in standing.rules]
    widths = [max(len(cell[column]) for cell in cells) for column in (0, 1)]
    return [visible(f"{name:<{widths[0]}}  {value:<{min(widths[1], 40)}}  {origin}") for name, value, origin in cells]


def _json_lines(found: list[Row], standing: Standing) -> list[str]:
    settings = [
        {
            "name": row.option.name,
            "value": row.shown or None,
            "origin": row.origin,
            "default": row.option.default or None,
            "variable": row.option.variable,
            "flag": row.option.flag,
        }
        for row in found
    ]
    rules = [{"name": f"rules.{rule.decision}", "value": rule.text, "origin": rule.origin} for rule in standing.rules]
    return [json.dumps(each, ensure_ascii=False) for each in (*settings, *rules)]
