"""One turn of the refresh loop: read the log back, continue training, export, load into the running Triton, switch.

The workers go on meanwhile: the new version is loaded and answers before they hear of it, and each user moves to it
at their next event.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from trainer.fit.train_config import preset
from trainer.rollout import deploy
from trainer.rollout.announce import announce
from trainer.rollout.kafka_log import read_log
from trainer.rollout.retire import StillInUse, retire
from trainer.training import train

_PATIENCE_S = 120.0  # for the workers' sweeps


@dataclass(frozen=True)
class Refreshed:
    """Which version replaced which, and the data that the new version learnt from."""

    previous: int
    version: int
    transactions: int
    labelled: int
    threshold: float
    unloaded: list[int]
    metrics: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def versions(models_dir: Path) -> list[int]:
    """Versions of the artifacts in a folder, ascending."""
    return sorted(
        int(p.name) for p in models_dir.glob("*") if deploy.is_version(p.name) and (p / "manifest.json").exists()
    )


def refresh_once(
    kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, label_delay_ms: int, seed: int = 0
) -> Refreshed:
    """Train the next version and switch to it. Raises BadInput where there is no version to start from, or no data."""
    models = Path(settings.models_dir)
    known = versions(models)
    if not known:
        raise BadInput(f"expected a trained model in {models}, found none: run `panther models train` first")
    previous, version = known[-1], known[-1] + 1
    log = asyncio.run(read_log(kafka, settings))
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
    unloaded: list[int] = []
    try:
        unloaded = retire(kafka, settings, triton_repository, _PATIENCE_S)
    except StillInUse as error:  # the switch is done all the same; `panther models retire` tries again
        say(f"  {error}")
    labelled = int((log.label >= 0).sum())
    return Refreshed(previous, version, len(log), labelled, manifest.threshold, unloaded, manifest.metrics)


def switch(kafka: KafkaSettings, settings: PantherSettings, triton_repository: Path, version: int) -> None:
    """Install a version on Triton, then announce it to the workers."""
    folder = Path(settings.models_dir) / str(version)
    manifest, _ = deploy.install(settings, triton_repository, folder)
    asyncio.run(announce(kafka, manifest, str(folder.resolve())))
