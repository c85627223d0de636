"""Which version an alias stands for, and which folder a word names."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from panther_core.artifact import load_manifest
from panther_core.base.errors import ArtifactError, BadInput
from tests.versions import as_version, switches
from trainer.rollout.aliases import aliases, resolve


@pytest.mark.parametrize(
    ("live", "there", "expected"),
    [
        ([], [], {}),
        ([], [1, 2], {"challenger": 2}),
        ([1], [1], {"champion": 1}),
        ([1, 2], [1, 2, 3, 4], {"champion": 2, "previous": 1, "challenger": 4}),
        ([1, 3], [1, 2, 3], {"champion": 3, "previous": 1}),
        ([1, 2, 1], [1, 2], {"champion": 1}),
        ([1, 2, 4, 2], [1, 2, 3, 4], {"champion": 2, "previous": 1}),
        ([5], [], {"champion": 5}),
    ],
    ids=["none", "none live", "one", "all", "older one refused", "rolled back", "rolled back once", "elsewhere"],
)
def test_aliases_follow_from_what_is_live(
    artifact_folder: Path, live: list[int], there: list[int], expected: dict[str, int]
) -> None:
    manifest = load_manifest(artifact_folder)
    versions = {Path(str(number)): msgspec.structs.replace(manifest, version=number) for number in there}
    assert aliases(switches(Path("/gone"), *live), versions) == expected


def test_a_word_is_an_alias_a_number_or_a_folder(artifact_folder: Path, tmp_path: Path) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models.mkdir()
    for number in (1, 2, 3):
        as_version(number, artifact_folder, models / str(number))
    elsewhere.mkdir()
    as_version(2, artifact_folder, elsewhere / "2")
    (models / "damaged").mkdir()
    (models / "damaged" / "manifest.json").write_text("{")
    history = switches(tmp_path / "gone", 1) + switches(elsewhere, 2)
    words = ("champion", "previous", "challenger", "1", "2", str(models / "3"))
    assert {word: resolve(word, models, history) for word in words} == {
        "champion": elsewhere / "2",  # where it was promoted from
        "previous": models / "1",  # the folder that was promoted is gone
        "challenger": models / "3",
        "1": models / "1",
        "2": elsewhere / "2",
        str(models / "3"): models / "3",
    }
    with pytest.raises(BadInput, match=r"that is the previous, found none \(there are: champion 1, challenger 3\)"):
        resolve("previous", models, history[:1])
    with pytest.raises(BadInput, match="expected the artifact of version 9 in"):
        resolve("9", models, history)
    with pytest.raises(ArtifactError, match=r"damaged/manifest\.json"):
        resolve(str(models / "damaged"), models, history)
