"""Training: every event is predicted once, runs are reproducible and resumable, losses are what they say."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cli.models import app
from panther_core.artifact import load_manifest, load_schema, load_vocabulary
from panther_core.base.errors import ArtifactError, BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.schema import CODE
from panther_core.data.table import TransactionTable
from panther_core.data.vocabulary import fit_vocabulary
from panther_core.evaluation import fraud_metrics
from panther_core.model.codes import as_tensor
from panther_core.model.panther import Panther
from panther_core.model.serving import PantherModel
from panther_core.state.history import History
from tests.panther_core.model.conftest import CONFIG as MODEL
from tests.panther_core.model.conftest import SCHEMA, make_model, random_codes, random_history
from trainer import training as pipeline
from trainer.fit import losses
from trainer.fit.calibrate import platt, threshold_for, threshold_in_a_wave
from trainer.fit.checkpoint import Best, Checkpoint
from trainer.fit.curve import read_curve
from trainer.fit.evaluate import Validation, hit_rates
from trainer.fit.pretrain import Batches, PretrainOptions, pretrain
from trainer.fit.train_config import TrainConfig, preset
from trainer.training import train

CONFIG = TrainConfig(model=MODEL, batch_positions=128, epochs=3)


@pytest.fixture
def history() -> History:
    return random_history(np.random.default_rng(0), [1, 3, 40, 17, 0, 16, 8])


def test_every_event_is_predicted_exactly_once_an_epoch(history: History) -> None:
    batches = Batches(history, CONFIG, seed=0)
    targets = np.concatenate([batch.target_N.numpy() for batch in batches.epoch(0)]).view(np.uint64)
    np.testing.assert_array_equal(np.sort(targets), np.sort(history.code))
    again = np.concatenate([batch.target_N.numpy() for batch in batches.epoch(0)]).view(np.uint64)
    np.testing.assert_array_equal(targets, again)


def fresh() -> Panther:
    return make_model(MODEL).panther


def test_a_resumed_run_equals_an_uninterrupted_one(history: History, tmp_path: Path) -> None:
    whole, judge = fresh(), Validation(history, np.arange(len(history.code)), 50, MODEL.length, seed=0)
    pretrain(whole, history, CONFIG, 1, PretrainOptions(validation=judge, curve=tmp_path / "whole.csv"))

    class Crash(Exception):
        pass

    class Crashing(Checkpoint):
        def save(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, epochs: int, best: Best) -> None:
            super().save(model, optimiser, epochs, best)
            if epochs == 2:
                raise Crash

    with pytest.raises(Crash):
        pretrain(fresh(), history, CONFIG, 1, PretrainOptions(Crashing(tmp_path, "key"), judge, tmp_path / "curve.csv"))
    resumed = fresh()
    result = pretrain(
        resumed, history, CONFIG, 1, PretrainOptions(Checkpoint(tmp_path, "key"), judge, tmp_path / "curve.csv")
    )
    assert result["epochs"] == 3
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    whole_curve, curve = read_curve(tmp_path / "whole.csv"), read_curve(tmp_path / "curve.csv")
    assert [line["epochs"] for line in curve] == [1, 2, 3]
    for name in ("next_token_loss", "attribute_loss", "contrast", "validation_hr@10"):
        assert [line[name] for line in curve] == [line[name] for line in whole_curve], name
    assert Checkpoint(tmp_path, "other").load(fresh(), torch.optim.AdamW(whole.parameters()), Best()) == 0


def test_pretraining_keeps_the_best_epoch_and_stops_after_its_patience(history: History) -> None:
    class Judge(Validation):
        def __init__(self) -> None:
            self.given, self.seen = [0.1, 0.5, 0.4, 0.3, 0.6], []

        def hit_rate(self, panther: Panther) -> float:
            self.seen.append({name: value.clone() for name, value in panther.state_dict().items()})
            return self.given[len(self.seen) - 1]

    judge, model = Judge(), fresh()
    config = msgspec.structs.replace(CONFIG, epochs=5, patience=2)
    result = pretrain(model, history, config, 1, PretrainOptions(validation=judge))
    assert (result["epochs"], result["best_epoch"], result["best_hr@10"]) == (4, 2, 0.5)
    for name, value in judge.seen[1].items():
        assert torch.equal(model.state_dict()[name], value), name


def test_the_validation_rank_is_that_of_the_bulk_encoding(history: History) -> None:
    model, rows = make_model(MODEL), np.arange(len(history.code))
    bulk = hit_rates(model, history, model.encode_history(history), rows)
    assert Validation(history, rows, len(rows), MODEL.length, seed=0).hit_rate(model.panther) == bulk["hr@10"]


def test_pretraining_learns_a_pattern() -> None:
    rng = np.random.default_rng(0)
    history = random_history(rng, [60] * 20)
    cycle = random_codes(rng, 4)
    history.code[:] = cycle[history.history_len % 4]  # everybody repeats the same four payments
    vocabulary, _ = fit_vocabulary(SCHEMA, history.code.view(CODE))
    model = make_model(MODEL, vocabulary)
    config = msgspec.structs.replace(CONFIG, epochs=12, learning_rate=1e-2)
    pretrain(model.panther, history, config, seed=0)
    hits = hit_rates(model, history, model.encode_history(history), np.arange(len(history.code)))
    assert hits["hr@1"] > 0.95


def test_sampled_softmax_estimates_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    panther = fresh()
    rng = np.random.default_rng(1)
    h, code = torch.randn(64, MODEL.d), as_tensor(random_codes(rng, 64), torch.device("cpu"))
    with torch.no_grad():
        panther.log_temperature.fill_(0.5)
        full = losses.next_token(panther, h, code, torch.Generator())
        monkeypatch.setattr(losses, "FULL_SOFTMAX", 20)
        generator = torch.Generator().manual_seed(0)
        estimate = torch.stack([losses.next_token(panther, h, code, generator) for _ in range(200)]).mean()
    assert float(estimate) == pytest.approx(float(full), abs=0.05)


def test_contrast_pulls_together_users_with_shared_facts() -> None:
    profile = torch.tensor([[1, 2], [1, 2], [2, 1], [2, 1]])
    near = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    mixed = torch.tensor([[1.0, 0], [0, 1], [1, 0], [0, 1]])
    assert losses.profile_contrast(near, profile, 0.1) < losses.profile_contrast(mixed, profile, 0.1)
    assert float(losses.profile_contrast(near, torch.zeros(4, 2, dtype=torch.long), 0.1)) == 0


def test_threshold_keeps_the_alert_budget() -> None:
    score = np.random.default_rng(0).random(10_000)
    assert (np.round(score, 6) >= threshold_for(score, 0.005)).sum() == 50
    assert (np.full(100, 0.3) >= threshold_for(np.full(100, 0.3), 0.005)).sum() == 0


def test_a_wave_of_frauds_keeps_twice_the_budget() -> None:
    rng = np.random.default_rng(0)
    label = (np.arange(10_000) < 30).astype(np.int8)
    score = np.where(label == 1, rng.beta(3, 2, 10_000), rng.beta(1, 30, 10_000))
    calm = threshold_for(score, 0.01)
    for denser, binds in ((1.0, False), (10.0, True)):
        found = threshold_in_a_wave(score, label, denser, 0.02)
        assert (found > calm) == binds
        later = np.where(np.arange(10_000) < 30 * denser, rng.beta(3, 2, 10_000), rng.beta(1, 30, 10_000))
        assert (later >= max(found, calm)).mean() <= 0.02
    none = np.zeros(10_000, np.int8)
    assert threshold_in_a_wave(score, none, 1.0, 0.02) == threshold_for(score, 0.02)
    assert threshold_in_a_wave(score, label, 1.0, 1.5) == 0, "a budget for everybody needs no threshold"


def test_platt_recovers_a_known_calibration() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=50_000)
    label = (rng.random(50_000) < 1 / (1 + np.exp(-(2 * logit - 3)))).astype(np.int8)
    scale, bias = platt(logit, label)
    assert scale == pytest.approx(2, abs=0.1)
    assert bias == pytest.approx(-3, abs=0.1)


def test_fraud_metrics_of_a_perfect_and_a_blind_score() -> None:
    label = np.zeros(1000, np.int8)
    label[:5] = 1
    perfect = fraud_metrics(label.astype(float), label)
    assert perfect["average_precision"] == perfect["auc"] == perfect["recall_top_1pct"] == 1
    assert fraud_metrics(-label.astype(float), label)["recall_top_1pct"] == 0


def test_same_seed_same_artifact_and_continuing_keeps_schema_and_vocabulary(
    artifact_folder: Path, log: TransactionTable, tmp_path: Path
) -> None:
    from panther_core.data.generator import PROFILE

    options = {"config": preset("tiny"), "label_delay_ms": DAY_MS, "seed": 0, "profile": PROFILE}
    again = train(log, tmp_path / "1", **options)
    assert again.files == load_manifest(artifact_folder).files
    config = msgspec.structs.replace(preset("refresh"), epochs=1, head_epochs=1)
    later = train(
        log.take(slice(500, None)), tmp_path / "2", config=config, version=2, label_delay_ms=DAY_MS,
        continue_from=artifact_folder,
    )  # fmt: skip
    assert (later.version, later.config) == (2, again.config)
    assert load_schema(tmp_path / "2") == load_schema(artifact_folder)
    assert load_vocabulary(tmp_path / "2") == load_vocabulary(artifact_folder)
    PantherModel.load(tmp_path / "2")


class Stopped(Exception):
    """What a killed training is to these tests."""


def stopped_after_pretraining(monkeypatch: pytest.MonkeyPatch, log: TransactionTable, out: Path) -> None:
    """Leaves a checkpoint of all epochs in `out`, and no version."""

    def stop(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "fit_served_head", stop)
        with pytest.raises(Stopped):
            train(log, out, config=preset("tiny"), label_delay_ms=DAY_MS)


def test_only_the_same_data_is_gone_on_with(
    log: TransactionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after_pretraining(monkeypatch, log, tmp_path)
    again = train(log, tmp_path, config=preset("tiny"), label_delay_ms=DAY_MS)
    assert again.metrics["pretrain"]["events_per_s"] == 0  # nothing was left to do
    stopped_after_pretraining(monkeypatch, log, tmp_path)
    with pytest.raises(ArtifactError):
        load_manifest(tmp_path)  # a version that is being replaced is none
    others = replace(log, user=replace(log.user, index=np.random.default_rng(0).permutation(log.user.index)))
    anew = train(others, tmp_path, config=preset("tiny"), label_delay_ms=DAY_MS)
    assert anew.metrics["pretrain"]["events_per_s"] > 0
    assert len(read_curve(tmp_path / "pretrain.csv")) == 2


def test_heads_are_fitted_without_the_events_features(
    log: TransactionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which are held for a fifth of a log, 436 bytes each; an empty slice of them would hold them all."""
    real, features, alive = pipeline.head_data, list[weakref.ref[object]](), list[object]()

    def noted(model: PantherModel, table: object, schema: object, risk: object, history: History, *rest: Any) -> Any:
        features.extend(weakref.ref(column) for column in (history.features, history.seller))
        return real(model, table, schema, risk, history, *rest)

    def stop(*_: object) -> None:
        alive.extend(column() is not None for column in features)
        raise Stopped

    monkeypatch.setattr(pipeline, "head_data", noted)
    monkeypatch.setattr(pipeline, "fit_served_head", stop)
    with pytest.raises(Stopped):
        train(log, tmp_path, config=preset("tiny"), label_delay_ms=DAY_MS)
    assert alive == [False, False]


def test_a_damaged_checkpoint_says_so(log: TransactionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped_after_pretraining(monkeypatch, log, tmp_path)
    file = tmp_path / "checkpoint" / "pretrain.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match=r"whole checkpoint in .*pretrain.safetensors.*remove it"):
        train(log, tmp_path, config=preset("tiny"), label_delay_ms=DAY_MS)


def test_the_command_keeps_versions_and_names_them(artifact_folder: Path, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["train", "--data", "generator", "--out", str(artifact_folder)])
    assert isinstance(refused.exception, BadInput)
    assert "--overwrite" in str(refused.exception)
    argv = [
        "train",
        "--data",
        "generator",
        "--preset",
        "tiny",
        "--users",
        "200",
        "--days",
        "40",
        "--label-delay-days",
        "2",
        "--epochs",
        "0",
    ]
    done = CliRunner().invoke(app, [*argv, "--out", str(tmp_path / "7"), "--json"])
    assert done.exit_code == 0, done.output
    assert load_manifest(tmp_path / "7").version == 7
    assert not (tmp_path / "7" / "pretrain.csv").exists()
    itself = CliRunner().invoke(
        app, [*argv, "--out", str(tmp_path / "7"), "--overwrite", "--continue-from", str(tmp_path / "7")]
    )
    assert isinstance(itself.exception, BadInput)
    assert load_manifest(tmp_path / "7").version == 7
    for option, value in (("--start", "2025-01-02"), ("--top", "5")):
        base = ["--continue-from", str(artifact_folder)] if option == "--top" else []
        wrong = CliRunner().invoke(app, [*argv, "--out", str(tmp_path / "8"), option, value, *base])
        assert isinstance(wrong.exception, BadInput)


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(BadInput, match="finetune_from < validation_from"):
        TrainConfig(validation_from=0.9)
    with pytest.raises(BadInput, match="demo"):
        preset("fast")
