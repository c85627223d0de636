"""The head that is served: its parts fitted and blended, its threshold, and what it is worth on the test rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core import artifact
from panther_core.base.files import written_whole
from panther_core.base.odds import sigmoid
from panther_core.base.stage_clock import StageClock
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import TransactionTable
from panther_core.decide.rules import RuleModel
from panther_core.evaluation import alert_metrics, fraud_metrics
from panther_core.model import blend as blends
from panther_core.model.bulk import EncodedHistory
from panther_core.model.head import ContextHead
from panther_core.model.serving import PantherModel
from panther_core.state.features import WIDTH
from panther_core.state.history import History
from trainer.fit.calibrate import platt, threshold_for, threshold_in_a_wave
from trainer.fit.cold import LENGTHS, cut_inputs
from trainer.fit.dataset import Split
from trainer.fit.evaluate import hit_rates
from trainer.fit.finetune import HeadInputs, all_logits, finetune, head_inputs, sample_negatives
from trainer.fit.rules import fit_rules
from trainer.fit.train_config import TrainConfig
from trainer.heads.blending import FittedBlend, fit_blend, second_half
from trainer.report.fraud import ScoredRows
from trainer.report.measure import BOOSTING, BOOSTING_PANTHER, MODEL, RULES, TESTED, WITHOUT
from trainer.report.verdict import thresholds

_FIRST, _COLD_ROWS = 5, 5000  # a user's first events, which are judged apart; on so many rows
_WAVE = 1.5  # times the alert budget, so that a wave that is stronger yet stays within twice the budget


@dataclass(frozen=True)
class ServedHead:
    """Results of fitting the fraud head: figures for the manifest, and test rows and scores for the report."""

    metrics: dict[str, Any]
    threshold: float
    typical: tuple[float, ...]
    rules: RuleModel
    blend: FittedBlend
    encoded: EncodedHistory
    test: NDArray[np.int64]
    judged: ScoredRows
    surprise: NDArray[np.float32]
    """Of the test rows [N, A], nats (scoring.SURPRISE)."""


def fit_served_head(
    model: PantherModel,
    config: TrainConfig,
    table: TransactionTable,
    schema: AttributeSchema,
    risk: MerchantRisk,
    history: History,
    rows: Split,
    seed: int,
    clock: StageClock,
) -> ServedHead:
    """Fine-tune and calibrate the heads of a pretrained model in place, fit the rules, and measure all on the test
    rows.

    `schema`, `risk` and `history`: those of `table` (trainer.fit.dataset.prepare_events).
    """
    kept, label = history.kept, table.label
    validation, test = rows.validation[kept[rows.validation]], rows.test[kept[rows.test]]
    chosen = sample_negatives(label, rows.finetune[kept[rows.finetune]], config, seed)
    weighing = second_half(history.user[validation], label[validation])  # the first picks the best epoch
    judged = sample_negatives(label, validation[~weighing], config, seed)  # a sample is enough for that
    encoded = model.encode_history(history)
    inputs = {
        name: head_inputs(model, history, encoded, part)
        for name, part in (("chosen", chosen), ("judged", judged), ("validation", validation), ("test", test))
    }
    events = table.events(schema, risk)
    events["seller"] = history.seller
    cut = partial(cut_inputs, model, schema, events, history)
    again = chosen[np.random.default_rng(seed).random(len(chosen)) < config.cold_share]
    inputs["chosen"] = inputs["chosen"].and_then(cut(again, LENGTHS, seed)) if len(again) else inputs["chosen"]
    labels = {"judged": label[judged], "validation": label[validation], "test": label[test]}
    labels["chosen"] = np.concatenate([label[chosen], label[again]])
    clock.mark("encode")

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
    blend = fit_blend(model.head, model.context, rules, inputs, labels, history.user[validation], weighing, seed)
    score = sigmoid(blend.logits(model.head, inputs["validation"]))
    few, lengths = np.random.default_rng(seed).permutation(len(validation))[:_COLD_ROWS], tuple(range(_FIRST))
    early = sigmoid(blend.logits(model.head, cut(validation[few], lengths, seed)))
    # frauds come in waves: alerts stay within _WAVE budgets in one as strong as the strongest that training saw, too
    denser = max(1.0, _odds(label[rows.finetune]) / _odds(labels["validation"]))
    threshold = max(
        threshold_for(score, config.alert_budget),
        threshold_for(early, config.alert_budget),  # users' first events must not flood anybody
        threshold_in_a_wave(score, labels["validation"], denser, _WAVE * config.alert_budget),
        threshold_in_a_wave(early, labels["validation"][few], denser, _WAVE * config.alert_budget),
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
    scores[RULES] = rules.score(history.features[test]).astype(np.float64)
    first = test[np.random.default_rng(seed).permutation(len(test))[:_COLD_ROWS]]
    cold = sigmoid(blend.logits(model.head, cut(first, lengths, seed)))
    metrics = {
        "validation": fraud_metrics(score, label[validation]),
        **{
            TESTED[name]: fraud_metrics(of, label[test]) | alert_metrics(of >= own.get(name, threshold), label[test])
            for name, of in scores.items()
        },
        "test_first_events": alert_metrics(cold >= threshold, label[first]) | {"rows": len(first)},
        "thresholds": thresholds(score, scores[MODEL], label[test], table.amount[test], table.time_ms[test]),
        "blend": {member.name: member.weight for member in blend.blend.config.members},
        "test_next": hit_rates(model, history, encoded, test),
        "validation_ap_by_epoch": epochs,
    }
    honest = label[validation] == 0
    typical = tuple(inputs["validation"].surprise[honest].mean(axis=0).astype(float).tolist())
    clock.mark("evaluate")
    judged_rows = ScoredRows(label[test], history.user[test], table.time_ms[test], scores)
    return ServedHead(metrics, threshold, typical, rules, blend, encoded, test, judged_rows, inputs["test"].surprise)


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
