"""`ml-intern skills` and `ml-intern memory`: their flags. What they do is imported when they run. Knows no file."""

import sys

import click


@click.command()
@click.option("--cwd", metavar="FOLDER", help="The workspace (default: here).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def skills(cwd: str | None, as_json: bool) -> None:
    """List the skills (folders with a SKILL.md) that a session here is told of, and what is wrong with others."""
    from ml_intern.cli import skills as door

    sys.exit(door.show(cwd, as_json))


@click.command()
@click.option("--cwd", metavar="FOLDER", help="The workspace (default: here).")
@click.option("--edit", is_flag=True, help="Open it in $EDITOR.")
@click.option("--clear", is_flag=True, help="Begin anew; the old one is kept as MEMORY.md.old (.old2, ...).")
def memory(cwd: str | None, edit: bool, clear: bool) -> None:
    """Show the workspace's MEMORY.md: what sessions here found to work and to fail."""
    from ml_intern.cli import memory as door

    sys.exit(door.show(cwd, edit=edit, clear=clear))
