"""The learning curve of a pretraining: a CSV file with a line of losses and validation figures for each epoch."""

from __future__ import annotations

import csv
from pathlib import Path

from panther_core.base.errors import InvalidFile
from panther_core.base.files import written_whole


class LearningCurve:
    """Writes the curve to `path` (None: nowhere). When a pretraining resumes after `done` epochs, their lines are
    kept."""

    def __init__(self, path: Path | None, done: int) -> None:
        self._path, self._lines = path, []
        if path and done:
            self._lines = [line for line in read_curve(path) if line["epochs"] <= done]
        elif path:
            path.unlink(missing_ok=True)

    def add(self, figures: dict[str, float]) -> None:
        """Add an epoch's figures, and write the whole file."""
        self._lines.append(dict(figures))
        if self._path is None:
            return
        with written_whole(self._path) as part, part.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(figures))
            writer.writeheader()
            writer.writerows(self._lines)


def read_curve(path: Path) -> list[dict[str, float]]:
    """The lines of a curve; [] when the file does not exist. Raises InvalidFile."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file, strict=True)]
    except (ValueError, TypeError, csv.Error) as error:
        raise InvalidFile(f"{path}: expected numbers under names, got {error}: remove it and train anew") from None
