"""What people call versions: champion, previous, challenger.

Computed from `models.updates` and the folder of models, and stored nowhere: no alias can contradict what is live.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from panther_core.artifact import MANIFEST, Manifest, load_manifest
from panther_core.base.errors import ArtifactError, BadInput
from panther_core.data.events import ModelUpdate
from trainer.rollout.announce import before_live

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ALIASES = (CHAMPION, PREVIOUS, CHALLENGER)


def manifest_in(folder: Path) -> Manifest | None:
    """The manifest of the version in a folder; None where there is none that can be used."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        return load_manifest(folder)
    except (ArtifactError, OSError):
        return None


def versions_in(models_dir: Path) -> dict[Path, Manifest]:
    """The folders of `models_dir` that hold a version, with their manifests."""
    places = sorted(models_dir.iterdir()) if models_dir.is_dir() else []
    return {place: manifest for place in places if (manifest := manifest_in(place)) is not None}


def aliases(history: list[ModelUpdate], versions: Mapping[Path, Manifest]) -> dict[str, int]:
    """The version that each alias stands for; an alias without a version is missing.

    `champion` is live; `previous` is what a rollback goes to; `challenger` is the newest version among `versions` that
    was never live, if it is newer than each that was.
    """
    out: dict[str, int] = {}
    if history:
        out[CHAMPION] = history[-1].version
        with suppress(BadInput):  # there is none to go back to
            out[PREVIOUS] = before_live(history).version
    newest = max((manifest.version for manifest in versions.values()), default=0)
    if newest > max((update.version for update in history), default=0):
        out[CHALLENGER] = newest
    return out


def resolve(word: str, models_dir: Path, history: list[ModelUpdate]) -> Path:
    """The folder of a version that is named by an alias, its number, or its folder. Raises BadInput.

    A version that went live is looked for where it was promoted from, then in `models_dir`.
    """
    number = int(word) if word.isascii() and word.isdigit() else None
    if word not in ALIASES and number is None:
        if manifest_in(Path(word)) is None:
            load_manifest(Path(word))  # says what is wrong with it
        return Path(word)
    versions = versions_in(models_dir)
    if number is None:
        known = aliases(history, versions)
        if (number := known.get(word)) is None:
            there = ", ".join(f"{name} {found}" for name, found in known.items()) or "no aliases"
            raise BadInput(
                f"expected a version that is the {word}, found none (there are: {there}): panther models list"
            )
    announced = [Path(update.artifact) for update in reversed(history) if update.version == number]
    for place in (*announced, *versions):
        manifest = versions.get(place) or manifest_in(place)
        if manifest is not None and manifest.version == number:
            return place
    raise BadInput(
        f"expected the artifact of version {number} in {models_dir}"
        f"{' or ' + str(announced[0]) if announced else ''}, found none: `panther models list`, or name its folder"
    )
