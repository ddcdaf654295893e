"""`ml-intern skills`: those that a session here would be told of, and why others are left out. Knows no session."""

import json
import sys

from msgspec.structs import asdict

from ml_intern.app.joined import Skills, find_skills
from ml_intern.app.places import skills_folder
from ml_intern.app.settings import workspace_of
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import one_line, visible_line
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain

_WIDTH = 100


def show(cwd: str | None, as_json: bool) -> Exit:
    """Print each with its source, description and place; what is left out is told on stderr."""
    try:
        workspace = workspace_of(cwd)
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    found = find_skills(workspace, skills_folder())
    lines = _json(found) if as_json else _table(found)
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if not as_json:
        told = [f"left out: {each.path}: {each.what}" for each in (*found.faults, *found.shadowed)]
        if not found.usable and not told:
            told = [
                f"No skills: put folders with a SKILL.md into .agents/skills of the workspace, or {skills_folder()}."
            ]
        sys.stderr.write("".join(f"{visible_line(line)}\n" for line in told))
    return Exit.DONE


def _table(found: Skills) -> list[str]:
    width = max((len(each.name) for each in found.usable), default=0)
    lines = [f"{each.name:<{width}}  {each.source:<9}  {one_line(each.description, _WIDTH)}" for each in found.usable]
    return [visible_line(line) for line in lines]


def _json(found: Skills) -> list[str]:
    rows = [*({**asdict(each), "fault": None} for each in found.usable)]
    faults = [{"name": None, "path": each.path, "fault": each.what} for each in (*found.faults, *found.shadowed)]
    return [json.dumps(row, ensure_ascii=False) for row in (*rows, *faults)]
