"""What the served artifact scores: trained as `panther models train` does, refreshed as `panther refresh` does, and
replayed over the log through the engine, whose scores are the stream's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offline.replay.request import replayer_of
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.data.table import TransactionTable
from panther_core.entities.arrays import Floats
from trainer.fit.dataset import known_at
from trainer.fit.train_config import preset
from trainer.training import train

SERVED = "served"
_CHUNK = 100_000  # transactions replayed at once


def served_scores(
    table: TransactionTable,
    moments: Sequence[int],
    ends: Sequence[int],
    label_delay_ms: int,
    folder: Path,
    seed: int = 0,
    first: str = "default",
) -> list[Floats]:
    """Scores of the whole table by the version of each moment, up to the row before its end.

    `moments`: times of the trainings, ascending; the first trains from random weights by the preset `first`, each later
    one goes on from the version before. `folder`: gets the versions and what each scored, and is gone on from where it
    has them. Raises BadInput where it has those of another log, or of other times.
    """
    out, note = [], folder / "log.json"
    of: dict[str, Any] = {
        "rows": len(table),
        "until_ms": int(table.time_ms[-1]),
        "frauds": int((table.label == 1).sum()),
        "moments": [*moments],
        "ends": [*ends],
        "label_delay_ms": label_delay_ms,
        "seed": seed,
        "first": first,
    }
    if not note.exists():
        with written_whole(note) as part:
            part.write_text(json.dumps(of))
    elif json.loads(note.read_text()) != of:
        raise BadInput(f"expected versions trained on {of} in {folder}, got those of {note.read_text()}: remove it")
    for version, (moment_ms, end) in enumerate(zip(moments, ends, strict=True), 1):
        scored = folder / f"{version}.npy"
        if not scored.exists():
            models = folder / "models"
            if not (models / str(version) / "manifest.json").exists():
                seen = known_at(table, moment_ms, label_delay_ms)
                say(f"  version {version}: {len(seen):,} transactions")
                before = models / str(version - 1) if version > 1 else None
                train(
                    seen,
                    models / str(version),
                    config=preset("refresh" if before else first),
                    version=version,
                    label_delay_ms=label_delay_ms,
                    seed=seed,
                    continue_from=before,
                )
            replayer = replayer_of(models, version, label_delay_ms=label_delay_ms)
            chunks = (table.take(slice(low, min(low + _CHUNK, end))) for low in range(0, end, _CHUNK))
            scores = np.concatenate([replayer.decide(chunk).decision["score"] for chunk in chunks])
            with written_whole(scored) as part, part.open("wb") as file:
                np.save(file, scores, allow_pickle=False)
        out.append(np.load(scored, allow_pickle=False))
    return out
