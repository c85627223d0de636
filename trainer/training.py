"""From a table of transactions to a model version on disk: split, pretrain, fine-tune, evaluate, write.

Over 300 lines, because the order of the stages, and what each hands to the next, is to be read in one place.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from panther_core import artifact
from panther_core.artifact import Manifest
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.base.odds import sigmoid
from panther_core.base.stage_clock import StageClock
from panther_core.base.times import DAY_MS
from panther_core.data import token_report
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import CODE, AttributeSchema, ProfileField
from panther_core.data.table import TransactionTable
from panther_core.data.vocabulary import Combinations, Vocabulary, fit_vocabulary
from panther_core.decide.rules import RuleModel
from panther_core.evaluation import alert_metrics, fraud_metrics
from panther_core.model.blend import Name
from panther_core.model.bulk import EncodedHistory
from panther_core.model.head import ContextHead
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.state.features import NAMES, WIDTH
from panther_core.state.history import History
from trainer.fit.calibrate import platt, threshold_for
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.cold import LENGTHS, cut_inputs
from trainer.fit.dataset import Split, before, prepare_events, split
from trainer.fit.evaluate import Validation, hit_rates
from trainer.fit.finetune import HeadInputs, all_logits, finetune, head_inputs, sample_negatives
from trainer.fit.parallel import join
from trainer.fit.pretrain import PretrainOptions, pretrain
from trainer.fit.rules import fit_rules
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.sizing import minutes, sized
from trainer.fit.train_config import TrainConfig
from trainer.heads.blending import FittedBlend, fit_blend, second_half
from trainer.report.fraud import ScoredRows
from trainer.report.measure import BOOSTING, BOOSTING_PANTHER, MODEL, RULES, TESTED, WITHOUT, Finished, write_report
from trainer.report.verdict import days_of, faults, lines, thresholds

NAME = "panther"
Floats = NDArray[np.float64]
_FIRST, _COLD_ROWS = 5, 5000  # a user's first events, which are judged apart; on so many test rows


class PretrainedElsewhere(Exception):
    """Ends a parallel training in all processes but the first, which fine-tunes alone and writes the artifact."""


def train(
    table: TransactionTable,
    out: Path,
    *,
    config: TrainConfig,
    version: int = 1,
    label_delay_ms: int = 7 * DAY_MS,
    seed: int = 0,
    continue_from: Path | None = None,
    profile: tuple[ProfileField, ...] | None = None,
) -> Manifest:
    """Train model `version` on `table` (time order, labels where known) and write the artifact into `out`.

    `continue_from`: an artifact whose schema, vocabulary, risk table and weights training starts from. `profile`: codes
    of profile facts; fitted on the table when not given. A run with the arguments of an interrupted one resumes its
    pretraining. Raises BadInput when a time slice lacks labels or `out` is `continue_from`.
    """
    if continue_from is not None and continue_from.resolve() == out.resolve():
        raise BadInput(f"expected another folder than {continue_from}, which is gone on from: give a new --out")
    clock = StageClock()
    rows, config = split(table, config, label_delay_ms), sized(config, len(table))
    if config.sized:
        say(
            f"  training on {len(table):,} transactions: at most {minutes(config, len(table)):.0f} minutes on two cores"
        )
    start = _prepare(table, rows, config, profile, seed, continue_from)
    config, schema, vocabulary, model = start.config, start.schema, start.vocabulary, start.model
    clock.mark("prepare")

    checkpoint = Checkpoint(out / "checkpoint", _key(start, seed, continue_from))
    losses = _pretrain(start, rows, out, checkpoint, seed)
    clock.mark("pretrain")

    head = _fraud_head(start, table, rows, seed, clock)
    with written_whole(out / artifact.WEIGHTS) as part:
        save_file({n: t.contiguous() for n, t in model.state_dict().items()}, part)
    _write_blend(out, head.blend)
    manifest = Manifest(
        name=NAME,
        version=version,
        created_at=time.time_ns() // 1_000_000,
        config=config.model,
        context_length=config.model.length,
        cached_width=cached_width(config.model),
        feature_names=NAMES,
        typical_surprise=head.typical,
        threshold=head.threshold,
        alert_budget=config.alert_budget,
        schema_fingerprint=schema.fingerprint,
        tokenizer_version=token_report.tokenizer_version(vocabulary),
        vocabulary_size=vocabulary.size,
        coverage=start.coverage,
        metrics={**head.metrics, "pretrain": losses, "seconds": clock.seconds},
        data_window=(int(table.time_ms[0]), int(table.time_ms[-1])),
        fitted_until=max(start.seen_until, int(table.time_ms[rows.test_from])),
        seed=seed,
        code_version=_code_version(),
    )
    done = Finished(model, schema, vocabulary, table, rows, start.history, head.encoded, head.test, head.judged)
    report = write_report(out, done, manifest, config)
    manifest = msgspec.structs.replace(
        manifest, metrics=manifest.metrics | {"faults": faults(report.fraud, head.metrics)}
    )
    clock.mark("report")
    manifest = artifact.save(out, manifest, schema, vocabulary, head.rules, start.risk)
    checkpoint.clear()
    from trainer.report.version_page import write_page  # here: what draws takes a second to import

    for line in lines(out, manifest, report.fraud, days_of(table.time_ms[head.test])):
        say(line)
    write_page(out / artifact.PAGE, report)  # last: an error in drawing the page leaves a whole version
    return manifest


@dataclass(frozen=True)
class _Start:
    """What a pretraining starts from."""

    config: TrainConfig
    schema: AttributeSchema
    vocabulary: Vocabulary
    coverage: float
    """Share of the events of `early` whose combination is in the vocabulary."""
    risk: MerchantRisk
    history: History
    early: History
    """The history before the validation slice."""
    model: PantherModel
    seen_until: int = 0
    """Of the version that training goes on from (Manifest.seen_until)."""


def _prepare(
    table: TransactionTable,
    rows: Split,
    config: TrainConfig,
    profile: tuple[ProfileField, ...] | None,
    seed: int,
    continue_from: Path | None,
) -> _Start:
    """Schema, risk table, vocabulary and weights, fitted and new or those of `continue_from`; and the history."""
    vocabulary, risk, seen_until = None, None, 0
    if continue_from is None:
        schema = fit_log_schema(table.take(slice(0, rows.validation_from)), profile, config)
    else:
        base = artifact.load_manifest(continue_from)
        config, seen_until = msgspec.structs.replace(config, model=base.config), base.seen_until
        schema, vocabulary = artifact.load_schema(continue_from), artifact.load_vocabulary(continue_from)
        # a refresh keeps the risk table, because the codes in users' histories and the head's weights were made with it
        risk = artifact.load_merchant_risk(continue_from)
    history, risk = prepare_events(table, schema, rows, config.model.length, risk)
    early = before(history, rows.validation_from)
    codes = history.code[early.order].view(CODE)
    if vocabulary is None:
        vocabulary, _ = fit_vocabulary(schema, codes, config.vocabulary, config.coverage)
    coverage = float((vocabulary.tokens(codes) > 0).mean())
    torch.manual_seed(seed)
    if continue_from is None:
        model = PantherModel(config.model, schema, vocabulary)
    else:
        model = PantherModel.load(continue_from)
    return _Start(config, schema, vocabulary, coverage, risk, history, early, model, seen_until)


def _pretrain(start: _Start, rows: Split, out: Path, checkpoint: Checkpoint, seed: int) -> dict[str, float]:
    """Pretrain in place, with the other processes of the group if there are any; write the tokenizer and the curve.

    Returns the losses. Raises PretrainedElsewhere in all processes but the first.
    """
    group, config = join(), start.config
    out.mkdir(parents=True, exist_ok=True)
    if group.first:
        # without a manifest the folder is no version; the new one is written last
        (out / artifact.MANIFEST).unlink(missing_ok=True)
        _report_tokens(out, start.schema, start.vocabulary, start.history, rows.validation_from)
    validation = None
    if config.patience:
        slice_ = np.arange(rows.validation_from, rows.test_from)
        validation = Validation(start.history, slice_, config.validation_sample, config.model.length, seed)
    options = PretrainOptions(checkpoint, validation, out / artifact.CURVE, group)
    losses = pretrain(start.model.panther, start.early, config, seed, options)
    if not group.first:
        raise PretrainedElsewhere
    start.model.cpu()
    return losses


def _report_tokens(
    out: Path, schema: AttributeSchema, vocabulary: Vocabulary, history: History, validation_from: int
) -> None:
    """Write the tokenizer and its coverage: of the rows before `validation_from`, which it was fitted on, and of the
    rest."""
    early = history.order < validation_from
    fitted, later = (
        Combinations.of(history.code[history.order[part]].view(CODE), vocabulary.radix) for part in (early, ~early)
    )
    token_report.write(out, schema, vocabulary, token_report.report(schema, vocabulary, fitted, later))


@dataclass(frozen=True)
class _Head:
    """Results of fitting the fraud head: figures for the manifest, and test rows and scores for the report."""

    metrics: dict[str, Any]
    threshold: float
    typical: tuple[float, ...]
    rules: RuleModel
    blend: FittedBlend
    encoded: EncodedHistory
    test: NDArray[np.int64]
    judged: ScoredRows


def _fraud_head(start: _Start, table: TransactionTable, rows: Split, seed: int, clock: StageClock) -> _Head:
    """Fine-tune and calibrate the head in place, fit the rules, and measure both on the test rows."""
    config, model, history = start.config, start.model, start.history
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
    events = table.events(start.schema, start.risk)
    cut = partial(cut_inputs, model, start.schema, events, history)
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
    blend = fit_blend(model.head, model.context, inputs, labels, history.user[validation], weighing, seed)
    score = sigmoid(blend.logits(model.head, inputs["validation"]))
    few, lengths = np.random.default_rng(seed).permutation(len(validation))[:_COLD_ROWS], tuple(range(_FIRST))
    early = sigmoid(blend.logits(model.head, cut(validation[few], lengths, seed)))
    # the budget holds in a wave of frauds too, the strongest that training saw, and at users' first events
    wave = max(1.0, _odds(label[rows.finetune]) / _odds(labels["validation"]))
    times = np.where(labels["validation"] == 1, wave, 1.0)
    threshold = max(
        threshold_for(score, config.alert_budget, times), threshold_for(early, config.alert_budget, times[few])
    )
    clock.mark("fine-tune")

    rules = fit_rules(
        _features(inputs["chosen"]), labels["chosen"], _features(inputs["validation"]), labels["validation"]
    )
    scores = {MODEL: sigmoid(blend.logits(model.head, inputs["test"]))}
    own = dict[str, float]()
    boosted: tuple[tuple[str, Name], ...] = ((BOOSTING, "boosting"), (BOOSTING_PANTHER, "boosting+panther"))
    for name, head in boosted:
        held, tested = (blend.alone(head, inputs[part]) for part in ("validation", "test"))
        scale, bias = platt(held, labels["validation"])
        scores[name] = sigmoid(scale * tested + bias)
        # each baseline at its own threshold for the same budget; the rules at the model's threshold, which the worker
        # applies to them when they take the model's place
        own[name] = threshold_for(sigmoid(scale * held + bias), config.alert_budget, times)
    scores[WITHOUT] = sigmoid(blend.logits_without(inputs["test"]))
    own[WITHOUT] = threshold_for(sigmoid(blend.logits_without(inputs["validation"])), config.alert_budget, times)
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
    return _Head(metrics, threshold, typical, rules, blend, encoded, test, judged_rows)


def _odds(label: NDArray[np.int8]) -> float:
    return float((label == 1).sum() / max(1, (label == 0).sum()))


def _features(inputs: HeadInputs) -> NDArray[np.float32]:
    """The context features [N, F] among dense inputs."""
    return inputs.dense_NX[:, :WIDTH].numpy()


def _write_blend(out: Path, fitted: FittedBlend) -> None:
    """Write the blend's weights, and both boosted heads as text, also one that the blend lacks: what is served is
    compared with them later (infra.demo, `panther bench stream`)."""
    with written_whole(out / artifact.BLEND) as part:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(fitted.blend.config), indent=2))
    for name, text in fitted.texts.items():
        with written_whole(out / artifact.BOOSTED[name]) as part:
            part.write_text(text)


def _key(start: _Start, seed: int, continue_from: Path | None) -> str:
    """Digest of everything that a pretraining depends on, so that it resumes from its own checkpoint only."""
    base = None if continue_from is None else artifact.load_manifest(continue_from).files
    tokenizer = token_report.tokenizer_version(start.vocabulary)
    facts = (start.config, seed, base, start.schema.fingerprint, tokenizer)
    digest = hashlib.sha256(msgspec.json.encode(facts))
    history = start.history
    for column in (history.code, history.profile, history.order, history.bounds):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _code_version() -> str:
    try:
        return package_version("panther-stream")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
