"""What a run was asked for, from flags and environment, checked before anything starts.
Knows no door and no adapter.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from ml_intern.base.errors import BadSettings
from ml_intern.base.money import Micro, usd
from ml_intern.record.events import Mode, OnAsk

DEFAULT_BUDGET = "5.00"
DEFAULT_STEPS = 300
MODES: tuple[Mode, ...] = ("ask", "auto")
ON_ASK: tuple[OnAsk, ...] = ("deny", "hold")

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


class Launch(Struct, frozen=True):
    """One run. None: not said, so a resumed session keeps what it had and a new one takes the default."""

    cwd: Path
    model: str | None = None
    base_url: str | None = None
    price: str | None = None
    mode: Mode | None = None
    on_ask: OnAsk | None = None
    budget: Micro | None = None
    max_steps: int | None = None
    max_time_s: float | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Flags(Struct, frozen=True):
    """The command line as it was written, one field per flag."""

    cwd: str | None = None
    model: str | None = None
    base_url: str | None = None
    price: str | None = None
    mode: str | None = None
    on_ask: str | None = None
    budget: str | None = None
    max_steps: int | None = None
    max_time: str | None = None


def make_launch(flags: Flags, environ: Mapping[str, str] = os.environ) -> Launch:
    """The run that these flags and variables ask for; a flag wins over its variable.

    Raises:
        BadSettings: one of them is wrong; the sentence names it.
    """
    workspace = Path(flags.cwd or os.getcwd()).resolve()
    if not workspace.is_dir():
        raise BadSettings(f"--cwd {flags.cwd}: there is no such folder.", "Name a folder that exists.")
    if flags.max_steps is not None and flags.max_steps < 1:
        raise BadSettings(f"--max-steps {flags.max_steps} leaves nothing to do.", "Give a whole number of 1 or more.")
    budget = flags.budget or environ.get("ML_INTERN_BUDGET")
    return Launch(
        cwd=workspace,
        model=flags.model or environ.get("ML_INTERN_MODEL") or None,
        base_url=flags.base_url or environ.get("ML_INTERN_BASE_URL") or None,
        price=flags.price,
        mode=_mode(flags.mode or environ.get("ML_INTERN_MODE")),
        on_ask=_on_ask(flags.on_ask),
        budget=usd(budget) if budget else None,
        max_steps=flags.max_steps,
        max_time_s=_seconds(flags.max_time) if flags.max_time else None,
        environ=dict(environ),
    )


def _mode(mode: str | None) -> Mode | None:
    if not mode:
        return None
    found: Mode | None = next((each for each in MODES if each == mode), None)
    if found is None:
        raise BadSettings(f"There is no mode {mode!r}.", f"Choose one of: {', '.join(MODES)}.")
    return found


def _on_ask(on_ask: str | None) -> OnAsk | None:
    if not on_ask:
        return None
    found: OnAsk | None = next((each for each in ON_ASK if each == on_ask), None)
    if found is None:
        raise BadSettings(f"--on-ask {on_ask} is not known.", f"Choose one of: {', '.join(ON_ASK)}.")
    return found


def _seconds(text: str) -> float:
    """Seconds of `90`, `90s`, `15m`, `1.5h`, `1h30m`."""
    found = _DURATION.fullmatch(text.strip().lower())
    hours, minutes, seconds = (float(part or 0) for part in found.groups()) if found else (0.0, 0.0, 0.0)
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise BadSettings(f"--max-time {text} is not a length of time.", "Write it as 90s, 15m, 2h or 1h30m.")
    return total
