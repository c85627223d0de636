"""Model versions for tests that need several: copies of one artifact under other numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from panther_core.data.events import ModelUpdate


def as_version(number: int, artifact: Path, folder: Path, **changes: object) -> Path:
    """Copy an artifact to the new folder under another number, and with other values in its manifest."""
    shutil.copytree(artifact, folder)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": number} | changes))
    return folder


def switches(folder: Path, *numbers: int) -> list[ModelUpdate]:
    """A history on `models.updates` that makes these versions live, each from the folder of its number in `folder`."""
    return [
        ModelUpdate(
            name="panther", version=number, threshold=0.5, schema_fingerprint="x", artifact=str(folder / str(number))
        )
        for number in numbers
    ]
