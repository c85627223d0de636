"""The model versions that there are: in the folder of artifacts, on Triton, and ever announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from panther_core.artifact import Manifest
from panther_core.data.events import ModelUpdate
from trainer.rollout.aliases import aliases, manifest_in, versions_in


def versions(folder: Path, history: Iterable[ModelUpdate], loaded: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Each version, by number: `artifact`, `trained` (day), `average_precision` on the training's test slice,
    `threshold` (that it had last where it was live: an alert budget moves it), `faults` that its training found,
    `live`, `loaded` (every model of it is in service), and `alias`: the one of trainer.rollout.aliases that stands for
    it, or None. A version that went live is shown from where it was promoted, if it lies there still.

    Of a version whose artifact cannot be read here only what Kafka and Triton say is known.
    """
    announced = list(history)
    thresholds = {update.version: {"threshold": update.threshold} for update in announced}
    here = versions_in(folder)
    places = {found.version: place for place, found in here.items()}
    for number, place in {update.version: Path(update.artifact) for update in announced}.items():
        found = manifest_in(place)
        if number not in places or (found is not None and found.version == number):
            places[number] = place
    named = {number: alias for alias, number in aliases(announced, here).items()}
    served = set.intersection(*map(set, loaded.values())) if loaded else set()
    live = announced[-1].version if announced else None
    return [
        {"version": number, "artifact": str(places[number]) if number in places else None}
        | _trained(manifest_in(places[number]) if number in places else None)
        | thresholds.get(number, {})
        | {"live": number == live, "loaded": number in served, "alias": named.get(number)}
        for number in sorted({*places, *served})
    ]


def _trained(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"trained": None, "average_precision": None, "threshold": None, "faults": []}
    test = manifest.metrics.get("test")
    found = test.get("average_precision") if isinstance(test, dict) else None
    return {
        "trained": f"{datetime.fromtimestamp(manifest.created_at / 1000, UTC):%Y-%m-%d %H:%M}",
        "average_precision": round(found, 4) if isinstance(found, float) else None,
        "threshold": manifest.threshold,
        "faults": manifest.metrics.get("faults", []),
    }
