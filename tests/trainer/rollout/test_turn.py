"""The steps of a turn after its training: what its shadow says decides before the switch, and whose signature it has.

On a real stack: tests/e2e/test_refresh_turns.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from panther_core.artifact import MANIFEST, load_manifest
from panther_core.base.errors import BadInput, SignatureRefused
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.events import ModelUpdate
from panther_core.data.table import TransactionTable
from panther_core.signature import sign, signed_manifest
from tests.fixtures_keys import make_keys
from tests.trainer.rollout.test_refresh import update
from tests.trainer.rollout.test_watch import shadow
from trainer.rollout import deploy
from trainer.rollout import turn as module
from trainer.rollout.challenge import Judged
from trainer.rollout.checks import Check
from trainer.rollout.go_live import Taken
from trainer.rollout.journal import Turn
from trainer.rollout.refresh_report import Report
from trainer.rollout.shadow_report import ShadowReport
from trainer.rollout.turn import Run, Wanted

_HELD = Check("average_precision", True, 0.1, 0.2, (0.05, 0.15), "it beats the champion")


class Around:
    """What a turn calls, in place of a broker and a server; `live`: the versions that were promoted, in turn."""

    def __init__(self, run: Run) -> None:
        self.run, self.live, self.unloaded = run, [1], list[int]()

    async def updates(self, _kafka: KafkaSettings) -> list[ModelUpdate]:
        return [update(version) for version in self.live]

    def promote(self, *_: object, **__: object) -> Taken:
        self.live.append(2)
        return Taken(2, "2", 1, 1, [])


@pytest.fixture
def around(tmp_path: Path, artifact_folder: Path, log: TransactionTable, monkeypatch: pytest.MonkeyPatch) -> Around:
    """A turn from version 1 to version 2, which is trained and held every check of the gate."""
    for version in ("1", "2"):
        folder = shutil.copytree(artifact_folder, tmp_path / version)
        manifest = msgspec.structs.replace(load_manifest(artifact_folder), version=int(version))
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    settings = PantherSettings(models_dir=str(tmp_path))
    out = Around(Run(KafkaSettings(), settings, tmp_path, Wanted(DAY_MS, shadow_s=10), Turn(1, 2)))
    monkeypatch.setattr(Run, "_read", lambda _: log)
    monkeypatch.setattr(Run, "_mirror", lambda *_: None)
    monkeypatch.setattr(module, "mirror", lambda *_: None)
    monkeypatch.setattr(module, "updates", out.updates)
    monkeypatch.setattr(module, "promote", out.promote)
    monkeypatch.setattr(module, "retire", lambda *_: [])
    monkeypatch.setattr(module, "judge_challenger", lambda *_: Judged([_HELD], np.zeros(0)))
    monkeypatch.setattr(deploy, "install", lambda _settings, _repository, folder: (load_manifest(folder), 0.0))
    monkeypatch.setattr(deploy, "unload", lambda _url, _repository, version, _key: out.unloaded.append(version))
    return out


def shadowed(around: Around, monkeypatch: pytest.MonkeyPatch, found: ShadowReport | BadInput) -> tuple[bool, Report]:
    """Run the turn with a shadow that finds this."""

    def follow(*_: object) -> ShadowReport:
        assert around.live == [1], "before the switch"
        if isinstance(found, BadInput):
            raise found
        return found

    monkeypatch.setattr(module, "shadow_for", follow)
    done = around.run.judged(update(1))
    assert done.promoted is (around.live == [1, 2])
    assert around.unloaded == ([] if done.promoted else [2])
    return done.promoted, Report.read(around.run.folder)


def test_a_challenger_whose_shadow_alerts_too_often_does_not_go_live(
    around: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shadow(1000, alerts=200)
    promoted, report = shadowed(around, monkeypatch, found)
    assert not promoted
    assert [(check.check, check.held) for check in report.gate] == [
        ("average_precision", True),
        ("shadow_alert_rate", False),
    ]
    assert report.shadow == found


def test_one_whose_shadow_does_what_was_expected_goes_live(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted, report = shadowed(around, monkeypatch, shadow(1000, alerts=5))
    assert promoted
    assert [check.check for check in report.gate] == ["average_precision", "shadow_alert_rate"]


def test_the_report_says_that_no_payment_came(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    promoted, report = shadowed(around, monkeypatch, BadInput("expected decisions of version 2, found none"))
    assert promoted
    assert [check.check for check in report.gate] == ["average_precision", "shadow_decisions"]
    assert report.gate[-1].why.startswith("0 decisions to judge it by")
    assert report.shadow is None


def test_a_version_that_workers_refuse_is_taken_back_at_once(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be the live one for whoever looks, while they decide with the one before it."""
    back = list[tuple[object, ...]]()

    def refuse(*_: object, **__: object) -> Taken:
        around.live.append(2)
        return Taken(2, "2", 2, 1, ["expected the artifact at /models/2"])

    monkeypatch.setattr(module, "promote", refuse)
    monkeypatch.setattr(module, "take_back", lambda _kafka, _settings, _repository, *how: back.append(how))
    run = Run(around.run.kafka, around.run.settings, around.run.repository, Wanted(DAY_MS), around.run.turn)
    done = run.judged(update(1))
    ((version, why, to),) = back
    assert (version, to) == (2, 1)
    assert "expected the artifact at /models/2" in str(why)
    assert done.rolled_back
    assert [(check.check, check.held) for check in Report.read(run.folder).watch] == [("live_taken", False)]


def test_a_turn_signs_with_the_key_that_it_is_given(around: Around, tmp_path: Path) -> None:
    """Also where it was cut off after it had signed with another one; and goes on from what is signed alone."""
    before, now = make_keys(tmp_path / "before"), make_keys(tmp_path / "now")
    sign(tmp_path / "2", before.private)
    settings = around.run.settings.model_copy(update={"models_key": now.public})
    run = Run(KafkaSettings(), settings, tmp_path, Wanted(DAY_MS, sign_key=now.private), Turn(1, 2))
    with pytest.raises(SignatureRefused, match=r"found no manifest\.json\.minisig"):
        run.judged(update(1))
    sign(tmp_path / "1", now.private)
    assert run.judged(update(1)).promoted
    assert signed_manifest(tmp_path / "2", now.public).version == 2
