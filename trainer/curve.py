"""One line of figures an epoch, as CSV: for the report, and for anybody's spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path


class Curve:
    """Appends to `path` (None: nowhere); lines of epochs that are not done, left by an interrupted run, go away."""

    def __init__(self, path: Path | None, done: int) -> None:
        self._path, self._lines = path, [line for line in read_curve(path) if line["epochs"] <= done] if path else []

    def add(self, figures: dict[str, float]) -> None:
        """Write the file anew with one line more."""
        self._lines.append(dict(figures))
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(figures))
            writer.writeheader()
            writer.writerows(self._lines)


def read_curve(path: Path) -> list[dict[str, float]]:
    """The lines of a curve, [] where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
