"""Which sandbox level a run gets: the best of this machine, or what a person named. Knows no session."""

from ml_intern.app.places import Places
from ml_intern.base.errors import BadSettings, LevelTooLow
from ml_intern.sandbox.levels import Level, Probe, probe, probe_walls, require

NAMES = tuple(level.name.lower() for level in (Level.FULL, Level.WALLS, Level.NONE))


def find_walls(name: str | None, places: Places) -> Probe:
    """The walls that were found by trying them. Blocks.

    `name` stands on the command line or in ML_INTERN_LEVEL, where only a person writes; no settings file names a level.

    Raises:
        BadSettings: there is no such level.
        LevelTooLow: the machine does not have it, or it is too low for a run without a person.
    """
    match name:
        case None:
            found, least = probe(places.level), Level.WALLS
        case "full":
            found, least = probe(places.level), Level.FULL
        case "walls":
            found, least = probe_walls(), Level.WALLS
        case "none":
            what = "At level none commands could do whatever you can, and nobody watches this run."
            raise LevelTooLow(what, "Leave --level out, and see `ml-intern doctor` for what the sandbox needs here.")
        case _:
            raise BadSettings(f"There is no sandbox level {name!r}.", f"Choose one of: {', '.join(NAMES[:2])}.")
    require(found, least)
    return found
