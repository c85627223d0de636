"""The head that is served: its parts fitted and blended, its threshold, and what it is worth on the test rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core import artifact
from panther_core.base.files import written_whole
from panther_core.base.odds import sigmoid
from panther_core.base.stage_clock import StageClock
from panther_core.data.table import TransactionTable
from panther_core.decide.rules import RuleModel
from panther_core.evaluation import alert_metrics, fraud_metrics
from panther_core.model import blend as blends
from panther_core.model.head import ContextHead
from panther_core.model.serving import PantherModel
from panther_core.state.features import WIDTH
from trainer.fit.calibrate import platt, threshold_for, threshold_in_a_wave
from trainer.fit.dataset import Split
from trainer.fit.finetune import HeadInputs, all_logits, finetune
from trainer.fit.rules import fit_rules
from trainer.fit.train_config import TrainConfig
from trainer.heads.blending import FittedBlend, fit_blend
from trainer.heads.head_data import HeadData
from trainer.report.fraud import ScoredRows
from trainer.report.measure import BOOSTING, BOOSTING_PANTHER, MODEL, RULES, TESTED, WITHOUT
from trainer.report.verdict import thresholds

_WAVE = 1.5  # times the alert budget, so that a wave that is stronger yet stays within twice the budget


@dataclass(frozen=True)
class ServedHead:
    """Results of fitting the fraud head: figures for the manifest, and test rows and scores for the report."""

    metrics: dict[str, Any]
    threshold: float
    typical: tuple[float, ...]
    rules: RuleModel
    blend: FittedBlend
    test: NDArray[np.int64]
    judged: ScoredRows
    surprise: NDArray[np.float32]
    """Of the test rows [N, A], nats (scoring.SURPRISE)."""


def fit_served_head(
    model: PantherModel,
    config: TrainConfig,
    table: TransactionTable,
    user: NDArray[np.int32],
    rows: Split,
    data: HeadData,
    seed: int,
    clock: StageClock,
) -> ServedHead:
    """Fine-tune and calibrate the heads of a pretrained model in place, fit the rules, and measure all on the test
    rows.

    `user`: number [N] of each row's user (History).
    """
    inputs, labels = data.inputs, data.labels
    validation, test, weighing = data.rows.validation, data.rows.test, data.rows.weighing
    label = table.label

    epochs = finetune(model.head, inputs["chosen"], labels["chosen"], inputs["judged"], labels["judged"], config, seed)
    model.context = model.context or ContextHead(config.model, WIDTH)
    finetune(model.context, inputs["chosen"], labels["chosen"], inputs["judged"], labels["judged"], config, seed)
    logit = all_logits(model.head, inputs["validation"])
    scale, bias = platt(logit, labels["validation"])
    model.head.scale.fill_(scale)
    model.head.bias.fill_(bias)
    rules = fit_rules(
        _features(inputs["chosen"]), labels["chosen"], _features(inputs["validation"]), labels["validation"]
    )
    blend = fit_blend(model.head, model.context, rules, inputs, labels, user[validation], weighing, seed)
    score = sigmoid(blend.logits(model.head, inputs["validation"]))
    early = sigmoid(blend.logits(model.head, inputs["early"]))
    # frauds come in waves: alerts stay within _WAVE budgets in one as strong as the strongest that training saw, too
    denser = max(1.0, _odds(label[rows.finetune]) / _odds(labels["validation"]))
    threshold = max(
        threshold_for(score, config.alert_budget),
        threshold_for(early, config.alert_budget),  # users' first events must not flood anybody
        threshold_in_a_wave(score, labels["validation"], denser, _WAVE * config.alert_budget),
        threshold_in_a_wave(early, labels["early"], denser, _WAVE * config.alert_budget),
    )
    clock.mark("fine-tune")

    scores = {MODEL: sigmoid(blend.logits(model.head, inputs["test"]))}
    own = dict[str, float]()
    for name, head in ((BOOSTING, blends.BOOSTING), (BOOSTING_PANTHER, blends.BOOSTING_PANTHER)):
        held, tested = (blend.alone(head, inputs[part]) for part in ("validation", "test"))
        scale, bias = platt(held, labels["validation"])
        scores[name] = sigmoid(scale * tested + bias)
        # each baseline at its own threshold for the same budget; the rules at the model's threshold, which the worker
        # applies to them when they take the model's place
        own[name] = threshold_for(sigmoid(scale * held + bias), config.alert_budget)
    scores[WITHOUT] = sigmoid(blend.logits_without(inputs["test"]))
    own[WITHOUT] = threshold_for(sigmoid(blend.logits_without(inputs["validation"])), config.alert_budget)
    scores[RULES] = rules.score(_features(inputs["test"])).astype(np.float64)
    cold = sigmoid(blend.logits(model.head, inputs["cold"]))
    metrics = {
        "validation": fraud_metrics(score, label[validation]),
        **{
            TESTED[name]: fraud_metrics(of, label[test]) | alert_metrics(of >= own.get(name, threshold), label[test])
            for name, of in scores.items()
        },
        "test_first_events": alert_metrics(cold >= threshold, labels["cold"]) | {"rows": len(cold)},
        "thresholds": thresholds(score, scores[MODEL], label[test], table.amount[test], table.time_ms[test]),
        "blend": {member.name: member.weight for member in blend.blend.config.members},
        "test_next": data.next_tokens,
        "validation_ap_by_epoch": epochs,
    }
    honest = label[validation] == 0
    typical = tuple(inputs["validation"].surprise[honest].mean(axis=0).astype(float).tolist())
    clock.mark("evaluate")
    judged_rows = ScoredRows(label[test], user[test], table.time_ms[test], scores)
    return ServedHead(metrics, threshold, typical, rules, blend, test, judged_rows, inputs["test"].surprise)


def _odds(label: NDArray[np.int8]) -> float:
    return float((label == 1).sum() / max(1, (label == 0).sum()))


def _features(inputs: HeadInputs) -> NDArray[np.float32]:
    """The context features [N, F] among dense inputs."""
    return inputs.dense_NX[:, :WIDTH].numpy()


def write_blend(out: Path, fitted: FittedBlend) -> None:
    """Write the blend's weights, and both boosted heads as text, also one that the blend lacks: what is served is
    compared with them later (infra.demo, `panther bench stream`)."""
    with written_whole(out / artifact.BLEND) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(fitted.blend.config), indent=2))
    for name, text in fitted.texts.items():
        with written_whole(out / artifact.BOOSTED[name]) as part:
            part.write_text(text)
