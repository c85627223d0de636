"""Training: every event is predicted once, runs are reproducible and resumable, losses are what they say."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from panther_core.artifact import load_manifest, load_schema, load_vocabulary
from panther_core.errors import BadInput
from panther_core.evaluation import fraud_metrics
from panther_core.history import History
from panther_core.model.codes import as_tensor
from panther_core.model.panther import Panther
from panther_core.model.serving import PantherModel
from panther_core.schema import CODE, fit_vocabulary
from panther_core.table import TransactionTable
from tests.fixtures_model import DAY_MS
from tests.model.conftest import CONFIG as MODEL
from tests.model.conftest import SCHEMA, make_model, random_codes, random_history
from trainer import losses
from trainer.calibrate import platt, threshold_for
from trainer.checkpoint import Checkpoint
from trainer.config import TrainConfig, preset
from trainer.evaluate import hit_rates
from trainer.pipeline import train
from trainer.pretrain import Batches, pretrain

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
    whole = fresh()
    pretrain(whole, history, CONFIG, seed=1)

    class Crash(Exception):
        pass

    class Crashing(Checkpoint):
        def save(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> None:
            super().save(model, optimiser, epochs)
            if epochs == 2:
                raise Crash

    with pytest.raises(Crash):
        pretrain(fresh(), history, CONFIG, seed=1, checkpoint=Crashing(tmp_path, "key"))
    resumed = fresh()
    result = pretrain(resumed, history, CONFIG, seed=1, checkpoint=Checkpoint(tmp_path, "key"))
    assert result["epochs"] == 3
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)
    assert Checkpoint(tmp_path, "other").load(fresh(), torch.optim.AdamW(whole.parameters())) == 0


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
    assert hits["hr_1"] > 0.95


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
    from panther_core.generator import PROFILE

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


def test_config_says_what_is_wrong() -> None:
    with pytest.raises(BadInput, match="finetune_from < validation_from"):
        TrainConfig(validation_from=0.9)
    with pytest.raises(BadInput, match="demo"):
        preset("fast")
