"""What a refresh goes on from, and which number it takes. The whole turn: tests/e2e/test_stream.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.events import ModelUpdate
from tests.trainer.log.test_store import paid, write
from trainer.log.store import LogStore
from trainer.rollout.refresh import _alone, _folder_of, _newest, _next_number, refresh_once


def update(version: int, artifact: str = "gone") -> ModelUpdate:
    return ModelUpdate(name="panther", version=version, threshold=0.5, schema_fingerprint="x", artifact=artifact)


def test_it_goes_on_from_the_live_version_and_not_from_the_newest_folder(artifact_folder: Path) -> None:
    """A trial with a high number, or a version that was rolled back from, is no base."""
    models = artifact_folder.parent
    (models / "900").mkdir(exist_ok=True)
    assert _folder_of(update(1), models) == artifact_folder, "its announced path is on another machine"
    assert _folder_of(update(1, str(artifact_folder)), models / "elsewhere") == artifact_folder
    with pytest.raises(BadInput, match="artifact of the live version 7"):
        _folder_of(update(7, str(artifact_folder)), models)


def test_a_number_is_never_used_twice(tmp_path: Path) -> None:
    for name in ("1", "2", "900", "not a version"):
        (tmp_path / name).mkdir()
    assert _next_number(tmp_path, [update(1)]) == 901
    (tmp_path / "900").rmdir()
    history = [update(1), update(2), update(5), update(1)]  # 5 was rolled back from, and its folder is gone
    assert _next_number(tmp_path, history) == 6


def test_two_refreshes_never_run_together(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(BadInput, match="no other refresh"), _alone(tmp_path):
        pass
    with _alone(tmp_path):
        pass


def test_labels_that_come_after_their_payments_are_forgotten_are_refused_at_once(tmp_path: Path) -> None:
    settings = PantherSettings(models_dir=str(tmp_path), retention_days=5)
    with pytest.raises(BadInput, match="PANTHER_RETENTION_DAYS of 5"):
        refresh_once(KafkaSettings(), settings, tmp_path, 7 * DAY_MS)


def test_the_newest_days_of_an_ingested_log(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    write(store, [paid(0), paid(1, day=8), paid(2, day=9)])
    assert _newest(tmp_path, None, {}).transaction_id.tolist() == ["t0", "t1", "t2"]
    assert _newest(tmp_path, 2, {}).transaction_id.tolist() == ["t1", "t2"]
    with pytest.raises(BadInput, match="panther ingest"):
        _newest(tmp_path / "none", 2, {})
