"""Finds what joins a session's system text (instructions, skills and memory, of the workspace and of this user) and
records it with where the session begins. Knows no model and no tool.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ml_intern.agent.frame import budget, clipped
from ml_intern.agent.prompt import MEMORY
from ml_intern.agent.skills import FILE, Fault, Skill, listed, read_skill
from ml_intern.app.options import KINDS
from ml_intern.app.places import skills_folder
from ml_intern.app.settings import Launch
from ml_intern.base.errors import MlInternError
from ml_intern.base.text import size, visible_line
from ml_intern.record.ground import GroundSet, Joined, Kind, Machine
from ml_intern.record.log import Log
from ml_intern.sandbox import files
from ml_intern.sandbox.leaves import INSTRUCTIONS, Leaf, Unread, at, read_leaf

WORKSPACE_FOLDERS = (".agents/skills", ".ml-intern/skills")
SKILLS_BYTES = 8_192
MEMORY_BYTES = 16_384
_MOST_SKILLS = 100
_FILES: tuple[tuple[Kind, str, int], ...] = (("instructions", INSTRUCTIONS, 32_768), ("memory", MEMORY, MEMORY_BYTES))


class Skills(Struct, frozen=True):
    """Those that can be used, and why others cannot; `shadowed`: the user has one of the same name."""

    usable: tuple[Skill, ...] = ()
    faults: tuple[Fault, ...] = ()
    shadowed: tuple[Fault, ...] = ()


class Found(Struct, frozen=True):
    """Texts that join, and sentences for a person on those that do not; `hint` matters least of these."""

    joined: tuple[Joined, ...] = ()
    notes: tuple[str, ...] = ()
    hint: str = ""


def find_joined(workspace: Path, own_skills: Path, kinds: Iterable[Kind], window: int | None) -> Found:
    """What there is of `kinds`, each within what a model's `window` (tokens; None: unknown) leaves for it. Blocks."""
    wanted, joined, notes, hint = frozenset(kinds), list[Joined](), list[str](), ""
    for kind, name, most in _FILES:
        leaf = read_leaf(os.path.realpath(workspace), name) if kind in wanted else None
        if isinstance(leaf, Unread):
            notes.append(f"{name} was left out: {leaf.why}")
        elif leaf is not None and leaf.text.strip():
            text = clipped(leaf.text, budget(window, most), name)
            joined.append(Joined(kind, name, leaf.sha, text, 0 if text == leaf.text else leaf.size))
    if "skills" in wanted:
        skills = find_skills(workspace, own_skills)
        if many := len(skills.faults):
            hint = f"{many} skill{' was' if many == 1 else 's were'} left out; `ml-intern skills` says why."
        lines = listed(skills.usable, budget(window, SKILLS_BYTES))
        name = f"{len(skills.usable)} skill{'' if len(skills.usable) == 1 else 's'}"
        joined += [Joined("skills", name, "", lines)] if lines else []
    return Found(tuple(joined), tuple(visible_line(note) for note in notes), hint)


def find_skills(workspace: Path, own: Path) -> Skills:
    """Skills of this user (folder `own`), then of the workspace; of two with one name the first counts. Blocks."""
    base = os.path.realpath(workspace)
    found = [*_below(os.path.realpath(own), "", "yours", os.path.realpath(own))]
    for folder in WORKSPACE_FOLDERS:
        found += _below(base, folder, "workspace", folder)
    usable: dict[str, Skill] = {}
    faults: list[Fault] = []
    shadowed: list[Fault] = []
    for each in found:
        if isinstance(each, Fault):
            faults.append(each)
        elif each.name in usable:
            first = usable[each.name]
            fault = Fault(each.path, f"{first.path} has the same name and comes first.")
            (shadowed if first.source == "yours" else faults).append(fault)
        else:
            usable[each.name] = each
    return Skills(tuple(usable.values()), tuple(faults), tuple(shadowed))


def _below(base: str, folder: str, source: str, shown: str) -> Iterator[Skill | Fault]:
    """The skills in the folders below `base`/`folder`, which models and people know as `shown`."""
    try:
        where = at(base, os.path.join(base, folder)) if folder else at(base, base)
        if files.stat(where) is None:
            return
        names = [entry for entry in files.listing(where) if not os.fsencode(entry.name).startswith(b".")]
    except MlInternError as error:
        yield Fault(shown, error.what)
        return
    folders = [entry for entry in names if entry.facts.kind in {"folder", "link"}]
    for entry in folders[:_MOST_SKILLS]:
        name = os.fsencode(entry.name).decode(errors="replace")
        path = os.path.join(shown, name, FILE)
        if entry.facts.kind == "link":
            yield Fault(os.path.join(shown, name), "It is a link, which commands could not follow; copy the folder.")
            continue
        leaf = read_leaf(base, os.path.join(folder, entry.name, FILE))
        match leaf:
            case None:
                yield Fault(os.path.join(shown, name), f"It has no {FILE}.")
            case Unread(why=why):
                yield Fault(path, why[0].upper() + why[1:])
            case Leaf(text=text):
                yield read_skill(text, name, path, source)
    if len(folders) > _MOST_SKILLS:
        yield Fault(shown, f"It holds {len(folders)} folders; only the first {_MOST_SKILLS} were looked at.")


def ground_again(ground: GroundSet, machine: Machine, kinds: tuple[Kind, ...] | None) -> GroundSet:
    """The ground of a session that goes on: as it was, but for another machine, and without what was turned off."""
    kept = ground.machine
    same = kept is not None and _fixed(kept) == _fixed(machine)
    still = ground.kinds if kinds is None else tuple(kind for kind in ground.kinds if kind in kinds)
    joined = tuple(each for each in ground.joined if each.kind in still)
    return replace(ground, machine=kept if same else machine, kinds=still, joined=joined)


def _fixed(machine: Machine) -> tuple[object, ...]:
    return machine.cores, round(machine.memory_bytes / 1e9), machine.accelerators


def joined_words(ground: GroundSet) -> str:
    """What joined, for a line to a person; empty: nothing."""
    words = [each.path if each.kind == "skills" else f"{each.path} ({_told(each)})" for each in ground.joined]
    return f"told {', '.join(words)}" if words else ""


def _told(each: Joined) -> str:
    """How much of a file is told."""
    told = size(len(each.text.encode()))
    return f"{told} of {size(each.size)}" if each.size else told


async def set_ground(log: Log, launch: Launch, machine: Machine) -> Found:
    """Record where the session begins, once; what was found for it.

    Raises:
        SessionError: the record can no longer be written.
    """
    view, kinds = log.view, KINDS if launch.join is None else launch.join
    assert view.started is not None
    ground, found = view.settings.ground, Found()
    if ground is None:
        chosen = view.settings.models.get("main")
        window = chosen.window if chosen is not None else None
        workspace = Path(view.started.workspace)
        found = await asyncio.to_thread(find_joined, workspace, skills_folder(launch.environ), kinds, window)
        wanted = GroundSet(machine, found.joined, view.purse.cap, view.settings.limits.due, kinds)
    else:
        wanted = ground_again(ground, machine, launch.join)
    if wanted != ground:
        await log.add(wanted)
    return found
