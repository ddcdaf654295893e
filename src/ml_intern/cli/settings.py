"""`ml-intern settings`: each setting, its value, and where it was said; settings of another product taken over.

Knows no session.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ml_intern.app.adopted import MOST_BYTES, Adopted
from ml_intern.app.adopted import adopt as taken_over
from ml_intern.app.options import strangers
from ml_intern.app.places import settings_file
from ml_intern.app.settings import workspace_of
from ml_intern.app.sources import WORKSPACE_FILE, parsed
from ml_intern.app.standing import Row, Standing, rows, stand
from ml_intern.base.errors import BadSettings
from ml_intern.base.text import visible_line
from ml_intern.cli.files import new_file, old_file
from ml_intern.headless.exits import Exit
from ml_intern.headless.streams import complain


def show(cwd: str | None, as_json: bool) -> Exit:
    """Print the table, then the rules, then what is ignored."""
    try:
        workspace = workspace_of(cwd)
        standing = stand(workspace, os.environ)
        lines = _json_lines(rows(standing), standing) if as_json else _lines(rows(standing), standing, workspace)
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    for line in (*strangers(os.environ), *filter(None, [standing.note])):
        sys.stderr.write(f"{visible_line(line)}\n")
    return Exit.DONE


def adopt(file: str | None, *, write: bool, force: bool) -> Exit:
    """Print, or write, the settings that a config of the other product comes to; tell what it has besides."""
    path = settings_file(os.environ)
    try:
        _require_free(path, write=write, force=force)
        found = _adopted(file, path)
        if write:
            _replace(path, found.toml.encode())
    except BadSettings as error:
        complain(error)
        return Exit.BAD_SETTINGS
    sys.stdout.write(f"{visible_line(str(path))} holds it. `ml-intern settings` shows it.\n" if write else found.toml)
    sys.stderr.write("".join(f"{line}\n" for line in found.told))
    return Exit.DONE


def _require_free(path: Path, *, write: bool, force: bool) -> None:
    if write and not force and path.exists():
        what = f"{path} is there already."
        raise BadSettings(what, "Leave --write out and take over by hand, or add --force: it is kept beside.")


def _adopted(file: str | None, path: Path) -> Adopted:
    """What the config comes to; checked as the settings file at `path` will be.

    Raises:
        BadSettings: it is no such config, or cannot be read.
    """
    name = file or _config_file(os.environ)
    with old_file(name) as source:
        data = source.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise BadSettings(f"{name} is too long for a config.", "Name another file.")
    found = taken_over(data, name, os.environ)
    parsed(path, "user", found.toml.encode())
    return found


def _config_file(environ: Mapping[str, str]) -> str:
    """Where that product looks for the user's config.

    Raises:
        BadSettings: there is none.
    """
    path = Path(environ.get("ML_INTERN_CLI_CONFIG") or Path.home() / ".config/ml-intern/cli_agent_config.json")
    if not path.exists():
        raise BadSettings(f"There is no {path}.", "Name the config: ml-intern settings import FILE.")
    return str(path)


def _replace(path: Path, data: bytes) -> None:
    """The file is new and whole, or as it was; an older one is kept as `*.old`."""
    old = path.with_name(f"{path.name}.old")
    is_there = path.exists()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_there:
            path.replace(old)
    except OSError as error:
        raise BadSettings(f"{path} cannot be written ({error.strerror}).", "Look at who owns the folder.") from error
    try:
        with new_file(path) as file:
            file.write(data)
    except BadSettings:
        if is_there:
            old.replace(path)
        raise


def _lines(found: list[Row], standing: Standing, workspace: Path) -> list[str]:
    cells = [(row.option.name, row.shown or "(none)", row.origin) for row in found]
    cells += [(f"rules.{rule.decision}", rule.text, rule.origin) for rule in standing.rules]
    cells += [(f"hooks.{hook.on}", hook.command, hook.origin) for hook in standing.hooks]
    widths = [max(len(cell[column]) for cell in cells) for column in (0, 1)]
    files = [("your file", settings_file(os.environ)), ("the workspace's", workspace / WORKSPACE_FILE)]
    table = [f"{name:<{widths[0]}}  {value:<{min(widths[1], 40)}}  {origin}" for name, value, origin in cells]
    places = [f"{whose}: {path}{'' if path.exists() else ' (not there)'}" for whose, path in files]
    return [visible_line(line) for line in (*table, *places)]


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
    hooks = [{"name": f"hooks.{hook.on}", "value": hook.command, "origin": hook.origin} for hook in standing.hooks]
    return [json.dumps(each, ensure_ascii=False) for each in (*settings, *rules, *hooks)]
