"""A worker's name on `models.progress`, which outlives a restart."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from panther_core.base.files import written_whole

_NAME = re.compile("[0-9a-f]{12}")


def worker_name(data_dir: Path) -> str:
    """Name of the worker that keeps its states in `data_dir`, made at its first start.

    One that starts again is the same worker to whoever counts words on a version, and its newest word is the one that
    counts.
    """
    path = data_dir / "worker-name"
    try:
        if _NAME.fullmatch(found := path.read_text(errors="replace")):
            return found
    except FileNotFoundError:
        pass
    name = uuid.uuid4().hex[:12]
    with written_whole(path) as part:
        part.write_text(name)
    return name
