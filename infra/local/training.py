"""Trains the first model version of a run, or reuses the version that the same data and code made before."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from panther_core.base.console import say
from panther_core.base.times import DAY_MS
from panther_core.data.generator import PROFILE
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable

LABEL_DELAY_MS = DAY_MS  # of generated data, in event time


def train_once(
    folder: Path,
    history: TransactionTable,
    key: str,
    label_delay_ms: int = LABEL_DELAY_MS,
    profile: tuple[ProfileField, ...] | None = PROFILE,
    size: str = "demo",
) -> None:
    """Train version 1 below `folder`, or reuse it if the same data (`key`) and code made it. Deletes later versions."""
    from trainer.fit.train_config import preset
    from trainer.training import train

    root, models = Path(__file__).resolve().parents[2], folder / "models"
    digest = hashlib.sha256(key.encode())
    for source in sorted([*root.glob("panther_core/**/*.py"), *root.glob("trainer/**/*.py")]):
        digest.update(source.read_bytes())
    stamp = models / "made_by.txt"
    fresh = not stamp.exists() or stamp.read_text() != digest.hexdigest()
    for old in models.glob("[0-9]*"):
        if fresh or old.name != "1":
            shutil.rmtree(old)
    if not fresh:
        say("  reused: same data, same code")
        return
    out, config = models / "1", preset(size)
    train(history, out, config=config, version=1, label_delay_ms=label_delay_ms, seed=0, profile=profile)
    stamp.write_text(digest.hexdigest())
