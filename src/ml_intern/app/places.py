"""Where things lie on this machine (XDG folders). Knows no file's content."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct
from platformdirs import PlatformDirs

APP = "ml-intern"
DATA_VARIABLE = "ML_INTERN_DATA"
CONFIG_VARIABLE = "ML_INTERN_CONFIG"


class Places(Struct, frozen=True):
    """`data` must not be lost (sessions); `cache` may be (environments of scripts, probes)."""

    data: Path
    cache: Path

    @property
    def environments(self) -> Path:
        """The store of built script environments, shared by all sessions."""
        return self.cache / "environments"

    @property
    def accelerators(self) -> Path:
        """What was last found of this machine's accelerators."""
        return self.cache / "accelerators.json"

    @property
    def level(self) -> Path:
        """What the last probe of the sandbox found."""
        return self.cache / "level.json"


def find_places(environ: Mapping[str, str] = os.environ) -> Places:
    """The folders of this user; ML_INTERN_DATA overrides where sessions are kept."""
    folders = PlatformDirs(APP, appauthor=False)
    data = environ.get(DATA_VARIABLE)
    return Places(Path(data).absolute() if data else Path(folders.user_data_dir), Path(folders.user_cache_dir))


def settings_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's own settings, whether they are there or not; ML_INTERN_CONFIG names another file."""
    given = environ.get(CONFIG_VARIABLE)
    return Path(given).absolute() if given else _configuration(environ) / "settings.toml"


def skills_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where this user keeps skills for all workspaces, whether it is there or not."""
    return _configuration(environ) / "skills"


def _configuration(environ: Mapping[str, str]) -> Path:
    given = environ.get("XDG_CONFIG_HOME", "")
    return Path(given) / APP if os.path.isabs(given) else Path(PlatformDirs(APP, appauthor=False).user_config_dir)
