"""Looking at drift: none in a version's own kind of data, and where the data changed, what changed is named."""

from __future__ import annotations

import json
import shutil
import urllib.request
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import start_http_server
from typer.testing import CliRunner

from cli import app
from panther_core import artifact
from panther_core.artifact import MANIFEST, REFERENCE, load_manifest
from panther_core.base.errors import ArtifactError, BadInput
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.table import TransactionTable, Words
from panther_core.decide.scoring import SURPRISE
from panther_core.model.serving import PantherModel
from tests import ROOT
from tests.payments import write_payments
from trainer.drift.gauges import DriftGauges, markdown
from trainer.drift.look import Drift, drifted, look, newest
from trainer.drift.reference import Reference, load_reference
from trainer.rollout.live_drift import watch

DAYS = 7


def changed(log: TransactionTable) -> TransactionTable:
    """In the newest days everything is bought in a category that training never saw."""
    late = log.time_ms >= newest(log, DAYS, DAY_MS)[0]
    index = np.where(late, len(log.category.words), log.category.index).astype(np.int32)
    return replace(log, category=Words(index, (*log.category.words, "airships")))


@pytest.fixture(scope="module")
def stable(log: TransactionTable, artifact_folder: Path) -> Drift:
    return look(log, artifact_folder, *newest(log, DAYS, DAY_MS), DAY_MS)


def test_nothing_has_drifted_in_the_logs_own_last_days(stable: Drift) -> None:
    assert not stable.drifted
    assert stable.why == []
    assert [shift.name for shift in stable.attributes] == [*SURPRISE]
    assert all(finding.why for finding in stable.findings)


def test_what_changed_is_named(log: TransactionTable, artifact_folder: Path) -> None:
    other, since = changed(log), newest(log, DAYS, DAY_MS)[0]
    found = look(other, artifact_folder, *newest(other, DAYS, DAY_MS), DAY_MS)
    assert found.drifted
    assert {shift.name for shift in found.attributes if shift.drifted} == {"category"}
    names = {finding.check for finding in found.findings if finding.drifted}
    assert {"attribute category", "unk_share"} <= names
    assert any("category" in why for why in found.why)
    assert drifted(other, artifact_folder, since, DAY_MS) == found.why
    assert drifted(log, artifact_folder, since, DAY_MS) == []


def test_labels_that_matured_stand_beside_what_was_expected(log: TransactionTable, artifact_folder: Path) -> None:
    """They are those of the newest stretch that is old enough, of which the version has learnt nothing."""
    since, until = newest(log, DAYS, DAY_MS)
    real = look(log, artifact_folder, since, until, DAY_MS).realised
    assert real is not None
    assert load_manifest(artifact_folder).seen_until <= real.since < real.until <= until - DAY_MS
    rows = (log.time_ms >= real.since) & (log.time_ms < real.until)
    assert (real.rows, real.frauds) == (rows.sum(), (log.label[rows] == 1).sum())
    unlabelled = replace(log, label=np.full(len(log), -1, np.int8))
    assert look(unlabelled, artifact_folder, since, until, DAY_MS).realised is None


def test_fraud_that_scores_know_nothing_of_is_seen_by_labels_alone(
    log: TransactionTable, artifact_folder: Path
) -> None:
    since, until = newest(log, DAYS, DAY_MS)
    label = log.label.copy()
    late = np.flatnonzero(log.time_ms >= since - DAY_MS)
    label[late[::4]] = 1
    found = look(replace(log, label=label), artifact_folder, since, until, DAY_MS)
    assert [finding.check for finding in found.findings if finding.drifted] == ["calibration"]


def test_hours_of_less_than_a_day_are_no_drift(
    log: TransactionTable, artifact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that began this morning has no payment of the night."""
    monkeypatch.setattr("trainer.drift.look._LEAST_ROWS", 50)
    until = int(log.time_ms[-1]) + 1
    found = look(log, artifact_folder, until - 22 * HOUR_MS, until, DAY_MS)
    assert [shift.name for shift in found.attributes] == [name for name in SURPRISE if name != "hour"]
    assert "attribute hour" not in {finding.check for finding in found.findings}


def test_too_few_payments_say_so(log: TransactionTable, artifact_folder: Path) -> None:
    with pytest.raises(BadInput, match="at least 100 payments"):
        drifted(log, artifact_folder, int(log.time_ms[-5]), DAY_MS)


def test_a_training_keeps_what_it_saw(log: TransactionTable, artifact_folder: Path) -> None:
    seen, manifest = load_reference(artifact_folder), load_manifest(artifact_folder)
    assert REFERENCE in manifest.files
    assert len({sum(counts) for counts in seen.codes.values()}) == 1, "every row has a code of each attribute"
    assert seen.alerts / seen.rows == pytest.approx(manifest.metrics["test"]["alert_rate"])
    assert log.time_ms[0] < seen.learnt[0] < seen.learnt[1] < seen.tested[0] < seen.tested[1] <= log.time_ms[-1]


def without_reference(folder: Path, to: Path) -> Path:
    """A version of before the file."""
    shutil.copytree(folder, to)
    (to / REFERENCE).unlink()
    manifest = json.loads((to / MANIFEST).read_bytes())
    del manifest["files"][REFERENCE]
    (to / MANIFEST).write_text(json.dumps(manifest))
    return to


def test_an_older_version_loads_and_says_what_is_missing(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    old = without_reference(artifact_folder, tmp_path / "old")
    PantherModel.load(old)
    with pytest.raises(BadInput, match=r"reference\.json.*panther refresh"):
        drifted(log, old, 0, DAY_MS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unk_share", 1.5),
        ("surprise_std", float("nan")),
        ("rows", 0),
        ("codes", {"amount": [1]}),
        ("scores", [1, 2]),
        ("scores", [-1] * 32),
        ("tested", (5, 4)),
        ("alerts", 10**9),
    ],
)
def test_a_foreign_file_is_refused(artifact_folder: Path, tmp_path: Path, field: str, value: object) -> None:
    fields = msgspec.to_builtins(load_reference(artifact_folder)) | {field: value}
    with pytest.raises(BadInput, match="expected"):
        msgspec.convert(fields, Reference)
    folder = tmp_path / "version"
    shutil.copytree(artifact_folder, folder)
    (folder / REFERENCE).write_bytes(msgspec.json.encode(fields))
    with pytest.raises(ArtifactError, match="sha256"):
        load_reference(folder)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][REFERENCE] = artifact.sha256(folder / REFERENCE)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"expected .*reference\.json"):
        load_reference(folder)


def test_the_command_on_a_file(log: TransactionTable, artifact_folder: Path, tmp_path: Path) -> None:
    for name, table, expected in (("own", log, False), ("other", changed(log), True)):
        (tmp_path / name).mkdir()
        mapping = write_payments(table, tmp_path / name, [str(amount) for amount in table.amount])
        argv = ["drift", "--model", str(artifact_folder), "--data", str(mapping), "--label-delay-days", "1", "--json"]
        done = CliRunner().invoke(app, argv, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert found["drifted"] is expected
        assert {one["name"] for one in found["attributes"] if one["drifted"]} == ({"category"} if expected else set())
        assert bool(found["why"]) is expected
        assert set(found) >= {"version", "window", "unk_share", "surprise", "score_psi", "alert_rate", "expected"}
    shown = CliRunner().invoke(app, argv[:-1], catch_exceptions=False)
    assert shown.exit_code == 0


@pytest.mark.parametrize("argv", [["--data", "x"], ["--metrics-port", "9102"], ["--every", "soon", "--model", "x"]])
def test_options_that_do_not_go_together_are_refused(argv: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["drift", "--log", str(tmp_path), "--model", str(tmp_path), *argv])
    assert done.exit_code == 2


class _Enough(Exception):
    """Ends a watch."""


def test_looks_go_on_after_one_that_failed_and_are_exposed(stable: Drift) -> None:
    gauges, looks = DriftGauges(), iter([stable, BadInput("expected payments, got none"), stable])
    shown: list[Drift] = []

    def look_now() -> Drift:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    def show(found: Drift) -> None:
        shown.append(found)
        if len(shown) == 2:
            raise _Enough

    server, _ = start_http_server(0, "127.0.0.1", gauges.registry)
    try:
        with pytest.raises(_Enough):
            watch(look_now, 0.001, gauges, show)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
    assert "panther_drift_failures_total 1.0" in text
    assert f'panther_drift_psi{{attribute="amount"}} {stable.attributes[0].psi}' in text
    assert f"panther_drift_unk_share {stable.unk_share}" in text
    assert 'panther_drift_drifted{check="surprise"} 0.0' in text
    assert "panther_transactions" not in text, "a worker's metrics are none of this process"


def test_a_first_look_that_fails_ends_the_watch() -> None:
    def fails() -> Drift:
        raise BadInput("expected a live version, found none")

    with pytest.raises(BadInput):
        watch(fails, 0.001, DriftGauges(), lambda found: None)


def test_the_manual_has_every_gauge() -> None:
    page = (ROOT / "docs" / "refresh.md").read_text()
    assert [row for row in markdown() if row not in page] == []
