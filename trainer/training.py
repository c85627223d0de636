"""From a table of transactions to a model version on disk: split, pretrain, fine-tune, evaluate, write."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors.torch import save_file

from panther_core import artifact
from panther_core.artifact import Manifest
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.base.memory import give_back
from panther_core.base.stage_clock import StageClock
from panther_core.base.times import DAY_MS
from panther_core.data import token_report
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import CODE, AttributeSchema, ProfileField
from panther_core.data.table import TransactionTable
from panther_core.data.vocabulary import Combinations, Vocabulary, fit_vocabulary
from panther_core.entities.merchant_history import MerchantHistory
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.state.features import NAMES
from panther_core.state.history import History
from trainer.drift.reference import write_reference
from trainer.fit.arrived import Arrived
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.dataset import Rows, Split, before, prepare_events, split
from trainer.fit.evaluate import Validation
from trainer.fit.merchant_threshold import merchant_threshold
from trainer.fit.parallel import join
from trainer.fit.pretrain import PretrainOptions, pretrain
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.sizing import minutes, sized
from trainer.fit.train_config import TrainConfig
from trainer.heads.head_data import HeadRows, head_data
from trainer.report.measure import MODEL, Finished, write_report
from trainer.report.verdict import days_of, faults, lines
from trainer.served_head import ServedHead, fit_served_head, write_blend

NAME = "panther"


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
    states_of: Path | None = None,
) -> Manifest:
    """Train model `version` on `table` (time order, labels where known) and write the artifact into `out`.

    `continue_from`: an artifact whose schema, vocabulary, risk table and weights training starts from. `profile`: codes
    of profile facts; fitted on the table when not given. `states_of`: an artifact whose states the new version is to go
    on with: schema, risk table and the model's shape are its, vocabulary and weights are new. A run with the arguments
    of an interrupted one resumes its pretraining. Raises BadInput when a time slice lacks labels or `out` is
    `continue_from`.
    """
    if continue_from is not None and continue_from.resolve() == out.resolve():
        raise BadInput(f"expected another folder than {continue_from}, which is gone on from: give a new --out")
    clock = StageClock()
    rows, config = split(table, config, label_delay_ms), sized(config, len(table))
    if config.sized:
        say(
            f"  training on {len(table):,} transactions: at most {minutes(config, len(table)):.0f} minutes on two cores"
        )
    start = _prepare(table, rows, config, profile, seed, continue_from, label_delay_ms, states_of)
    config, schema, vocabulary, model = start.config, start.schema, start.vocabulary, start.model
    if copies := int((~start.history.kept).sum()):
        say(f"  {copies:,} payments come again with the same id and content: copies count once, as in the stream")
    give_back()
    clock.mark("prepare")

    checkpoint = Checkpoint(out / "checkpoint", _key(start, seed, continue_from))
    losses = _pretrain(start, rows, out, checkpoint, seed)
    give_back()
    clock.mark("pretrain")

    of_head = HeadRows.of(table.label, start.history.kept, start.history.user, rows, config, seed)
    data = head_data(model, table, schema, start.risk, start.history, of_head, seed)
    start = start.without_features()
    give_back()
    clock.mark("encode")

    head = fit_served_head(model, config, table, start.history.user, rows, data, seed, clock)
    with written_whole(out / artifact.WEIGHTS) as part:
        save_file({n: t.contiguous() for n, t in model.state_dict().items()}, part)
    write_blend(out, head.blend)
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
        merchant_threshold=start.merchant_threshold,
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
    done = Finished(
        model, schema, vocabulary, table, rows, start.history, data.last, data.last_e, head.test, head.judged
    )
    report = write_report(out, done, manifest, config)
    _keep_reference(out, start, rows, table, head)
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
    """Share of the events before the validation slice whose combination is in the vocabulary."""
    risk: MerchantRisk
    history: History
    model: PantherModel
    merchant_threshold: float | None
    seen_until: int = 0
    """Of the version that training goes on from (Manifest.seen_until)."""

    def without_features(self) -> _Start:
        """The same once the heads' inputs are made of them."""
        none = {name: getattr(self.history, name)[:0].copy() for name in ("features", "seller")}  # views hold all
        return replace(self, history=replace(self.history, **none))


def _prepare(
    table: TransactionTable,
    rows: Split,
    config: TrainConfig,
    profile: tuple[ProfileField, ...] | None,
    seed: int,
    continue_from: Path | None,
    label_delay_ms: int,
    states_of: Path | None,
) -> _Start:
    """Schema, risk table, vocabulary and weights, fitted and new or those of a version before; and the history."""
    vocabulary, risk, seen_until = None, None, 0
    before_it = continue_from or states_of
    if before_it is None:
        schema = fit_log_schema(table.take(slice(0, rows.validation_from)), profile, config)
    else:
        base = artifact.load_manifest(before_it)
        config, seen_until = msgspec.structs.replace(config, model=base.config), base.seen_until
        schema = artifact.load_schema(before_it)
        # the risk table is kept, because the codes in users' histories (and the head's weights) were made with it
        risk = artifact.load_merchant_risk(before_it)
    if continue_from is not None:
        vocabulary = artifact.load_vocabulary(continue_from)
    merchants = MerchantHistory()

    def wanted(arrived: Arrived) -> Rows:
        head = HeadRows.of(table.label, arrived.kept, arrived.user, rows, config, seed)
        return head.with_features(arrived, seed)

    history, risk = prepare_events(table, schema, rows, config.model.length, label_delay_ms, risk, merchants, wanted)
    history = replace(history, states=history.states[:0].copy())  # kilobytes a user, which no training looks at
    codes = history.code[before(history, rows.validation_from).order].view(CODE)
    if vocabulary is None:
        vocabulary, _ = fit_vocabulary(schema, codes, config.vocabulary, config.coverage)
    coverage = float((vocabulary.tokens(codes) > 0).mean())
    torch.manual_seed(seed)
    if continue_from is None:
        model = PantherModel(config.model, schema, vocabulary)
    else:
        model = PantherModel.load(continue_from)
    threshold = merchant_threshold(merchants, table, rows, config.merchant_budget, label_delay_ms)
    return _Start(config, schema, vocabulary, coverage, risk, history, model, threshold, seen_until)


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
    early = before(start.history, rows.validation_from)
    losses = pretrain(start.model.panther, early, config, seed, options)
    if not group.first:
        raise PretrainedElsewhere
    start.model.cpu()
    return losses


def _keep_reference(out: Path, start: _Start, rows: Split, table: TransactionTable, head: ServedHead) -> None:
    """Write what the training saw: rows learnt from lie between the first one that the head saw and the test."""
    past = start.history
    learnt = np.arange(int(rows.finetune[0]), rows.test_from)
    learnt, test = learnt[past.kept[learnt]], head.test
    unk = start.vocabulary.tokens(past.code[test].view(CODE)) == 0
    tested = head.judged.scores[MODEL], head.surprise, unk, table.time_ms[test]
    write_reference(out, (past.code[learnt], table.time_ms[learnt]), tested, head.threshold)


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
