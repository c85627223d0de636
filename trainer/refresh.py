"""One turn of the refresh loop: read the log back, continue training, export, load into the running Triton, switch.

The workers go on meanwhile: the new version is loaded and answers before they hear of it, and each user moves to it
at their next event (DESIGN section 7). Champion against challenger and shadow scoring come with the full loop.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from panther_core.artifact import load_manifest
from panther_core.errors import BadInput
from panther_core.settings import KafkaSettings, PantherSettings
from trainer import deploy
from trainer.announce import announce
from trainer.config import preset
from trainer.kafka_log import read_log
from trainer.pipeline import train


@dataclass(frozen=True)
class Refreshed:
    """Which version replaced which, and what the new one learnt from."""

    previous: int
    version: int
    transactions: int
    labelled: int
    threshold: float
    metrics: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def versions(models_dir: Path) -> list[int]:
    """Versions of the artifacts in a folder, ascending."""
    return sorted(int(p.name) for p in models_dir.glob("*") if p.name.isdigit() and (p / "manifest.json").exists())


def refresh_once(
    kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, label_delay_ms: int, seed: int = 0
) -> Refreshed:
    """Make and switch to the next version. Raises BadInput when there is no version to start from, or no data."""
    models = Path(settings.models_dir)
    known = versions(models)
    if not known:
        raise BadInput(f"expected a trained model in {models}, found none: run `panther models train` first")
    previous, version = known[-1], known[-1] + 1
    log = asyncio.run(read_log(kafka))
    manifest = train(
        log,
        models / str(version),
        config=preset("refresh"),
        version=version,
        label_delay_ms=label_delay_ms,
        seed=seed,
        continue_from=models / str(previous),
    )
    switch(kafka, settings, triton_repository, version)
    for old in known[:-1]:  # the previous one stays: it is the way back
        deploy.unload(settings.triton_url, triton_repository, old)
    labelled = int((log.label >= 0).sum())
    return Refreshed(previous, version, len(log), labelled, manifest.threshold, manifest.metrics)


def switch(kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, version: int) -> None:
    """Export a version to the Triton repository, load it, check that it answers, then announce it to the workers."""
    folder = Path(settings.models_dir) / str(version)
    manifest = load_manifest(folder)
    deploy.export(folder, triton_repository)
    try:
        deploy.load(settings.triton_url, manifest)
    except BaseException:
        for name in deploy.MODELS:  # a version that does not load must not be found by the next load either
            shutil.rmtree(triton_repository / name / str(version), ignore_errors=True)
        raise
    asyncio.run(announce(kafka, manifest, str(folder.resolve())))
