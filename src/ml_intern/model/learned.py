"""What servers were found not to take of a model's requests, remembered for a while. Knows no wire.

A cache: what is lost is learned again by one refused request (docs/decisions/0008).
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ml_intern.record.folds.memory import told_window

HOUR_S = 3600.0
DAY_S = 86400.0
REMOTE_S = 7 * DAY_S
LOOPBACK_S = HOUR_S
"""A server of this machine may be started anew with other flags."""


class Learned(Struct, frozen=True, omit_defaults=True):
    """What is known of one model at one address. The defaults: nothing was refused.

    `tools`: it takes tools; `marks`: marks of what is to be cached; `most_output`: tokens of its longest reply;
    `efforts`: the efforts that it takes, None: no other than was asked for; `adaptive`: whether it thinks by effort,
    not within a budget; `window`: tokens that it holds.
    """

    tools: bool = True
    marks: bool = True
    most_output: int | None = None
    efforts: tuple[str, ...] | None = None
    adaptive: bool | None = None
    window: int | None = None


class _Kept(Struct, frozen=True):
    at: float
    learned: Learned


class Lesson:
    """What one session knows of one model's server. `file` None: nothing is remembered beyond it."""

    def __init__(
        self, file: Path | None = None, model: str = "", base_url: str = "", *, lasts_s: float = REMOTE_S
    ) -> None:
        self.learned = Learned()
        self._file = file
        self._model = model
        self._base_url = base_url
        self._lasts_s = lasts_s
        self._known = Learned()

    def load(self) -> None:
        """Take over what an earlier session learned. Blocks."""
        kept = _read(self._file).get(self._key)
        if kept is not None and 0 <= time.time() - kept.at < self._lasts_s:
            self.learned = self._known = kept.learned

    def overflowed(self, what: str) -> None:
        """Take in what the words of a request that was too long name as the window."""
        if (window := told_window(what)) is not None:
            self.learned = replace(self.learned, window=window)

    def told(self) -> list[str]:
        """What this session learned, a line each for a person; nothing of what was known before."""
        new, old = self.learned, self._known
        facts = (
            (new.tools != old.tools, "takes no tools, so they are put into words"),
            (new.marks != old.marks, "takes no cache marks, so none are sent"),
            (new.most_output != old.most_output, f"gives at most {new.most_output or 0:,} tokens a reply"),
        )
        if new.efforts != old.efforts and new.efforts is not None:
            only = f"takes only these efforts: {', '.join(new.efforts)}"
            facts = (*facts, (True, only if new.efforts else "takes no effort, so it thinks as it does by itself"))
        if new.adaptive != old.adaptive:
            facts = (*facts, (True, f"thinks {'by effort' if new.adaptive else 'within a budget'}"))
        if new.window != old.window and new.window is not None:
            facts = (*facts, (True, f"holds {new.window:,} tokens"))
        where = f"{self._model} at {self._base_url}" if self._base_url else self._model
        lasting = f"{self._lasts_s / DAY_S:.0f} days" if self._lasts_s >= DAY_S else f"{self._lasts_s / HOUR_S:.0f} h"
        return [f"learned: {where} {fact} (kept for {lasting})" for is_new, fact in facts if is_new]

    def save(self) -> None:
        """Keep what is new for later sessions. Blocks. A cache that cannot be written is no reason to fail."""
        if self._file is None or self.learned == self._known:
            return
        kept = {**_read(self._file), self._key: _Kept(time.time(), self.learned)}
        beside = self._file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(kept))
            beside.replace(self._file)

    @property
    def _key(self) -> str:
        return json.dumps([self._model, self._base_url])


def _read(file: Path | None) -> dict[str, _Kept]:
    if file is None:
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, _Kept])
    except (OSError, ValueError):
        return {}
