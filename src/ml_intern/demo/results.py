"""What the demo left behind, for a person: the figures are read from its files. Knows no model and no session."""

import json
from pathlib import Path

from ml_intern.base.errors import ToolFailed

FILES = ("report.md", "plot.png", "metrics.json", "model.joblib", "heldout.json", "train.py")


def figures(folder: Path) -> list[str]:
    """Both models on the held-out part, from `metrics.json`: mean ± standard deviation.

    Raises:
        ToolFailed: the file does not hold them.
    """
    path = folder / "metrics.json"
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            f"  {each['name']:<24} macro-F1 {_spread(each['macro_f1'])}   accuracy {_spread(each['accuracy'])}"
            for each in metrics["models"].values()
        ]
        held_out, seeds = metrics["split"]["held_out"], len(metrics["seeds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolFailed(f"{path} does not hold the figures.", "Run the demo again.") from error
    return [f"On {held_out} held-out images, mean ± standard deviation over {seeds} seeds (metrics.json):", *rows]


def left_in(folder: Path) -> str:
    """The folder and the files that a person wants to see first."""
    return f"{folder}: {', '.join(name for name in FILES if (folder / name).is_file())}"


def _spread(of: dict[str, float]) -> str:
    return f"{of['mean']:.4f} ± {of['sd']:.4f}"
