"""Measures a VersionReport at the end of a training: every figure that needs the data, the model or the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.artifact import CURVE, RUN_REPORT, Manifest
from panther_core.base.files import written_whole
from panther_core.data.schema import AttributeSchema
from panther_core.data.table import TransactionTable
from panther_core.data.token_report import REPORT, TokenReport
from panther_core.data.vocabulary import Vocabulary
from panther_core.model.serving import PantherModel
from panther_core.report.slices import by_amount, by_history, by_word
from panther_core.state.history import History
from trainer.fit.curve import read_curve
from trainer.fit.dataset import Split
from trainer.fit.ranking import MISS, metrics
from trainer.fit.train_config import TrainConfig
from trainer.report.embedding import measure_embedding
from trainer.report.facts import About, NextTokens, Slice, VersionReport, encode
from trainer.report.fraud import ScoredRows, measure_fraud
from trainer.report.motifs import measure_motifs
from trainer.report.next_tokens import fit_followers, token_pairs

MODEL, BOOSTING, BOOSTING_PANTHER, RULES = "model", "gradient boosting", "gradient boosting + PANTHER", "rules"
WITHOUT = "model without PANTHER"
#: key of each scorer's test figures in the manifest's metrics; the model first
TESTED = {
    MODEL: "test",
    BOOSTING: "test_boosting",
    BOOSTING_PANTHER: "test_boosting_panther",
    WITHOUT: "test_without_panther",
    RULES: "test_rules",
}


@dataclass(frozen=True)
class Finished:
    """A trained model, its training events, and each scorer's scores of the test rows (`judged`; rows `test`)."""

    model: PantherModel
    schema: AttributeSchema
    vocabulary: Vocabulary
    table: TransactionTable
    rows: Split
    history: History
    last: NDArray[np.int64]
    """Places [K] of the last events of some users; `last_e` [K, U]: e_u after them."""
    last_e: NDArray[np.float32]
    test: NDArray[np.int64]
    judged: ScoredRows


def write_report(folder: Path, done: Finished, manifest: Manifest, config: TrainConfig) -> VersionReport:
    """Measure, and write report.json into `folder`, where the learning curve and the tokenizer's report must lie."""
    history = done.history
    profile_N8 = history.profile[history.order[done.last]]
    judges = {name: manifest.metrics[key] for name, key in TESTED.items()}
    judges["validation"] = manifest.metrics["validation"]
    report = VersionReport(
        about=_about(done, manifest, config),
        curve=read_curve(folder / CURVE),
        head_curve=manifest.metrics["validation_ap_by_epoch"],
        tokens=msgspec.json.decode((folder / REPORT).read_bytes(), type=TokenReport),
        next_tokens=_next_tokens(done, manifest.metrics["test_next"]),
        fraud=measure_fraud(done.judged, judges, manifest.threshold, manifest.alert_budget, manifest.seed),
        motifs=measure_motifs(done.model.panther, done.schema, history, manifest.seed),
        embedding=measure_embedding(done.last_e.astype(np.float64), profile_N8, done.schema),
        thresholds=manifest.metrics["thresholds"],
        first_events=manifest.metrics["test_first_events"],
        slices=_slices(done, manifest.threshold),
    )
    stored = encode(report)
    with written_whole(folder / RUN_REPORT) as part:
        part.write_bytes(stored)
    # decoded again, since a setting of 1 is stored as 1.0, and a page drawn later must be the same
    return msgspec.json.decode(stored, type=VersionReport)


def _about(done: Finished, manifest: Manifest, config: TrainConfig) -> About:
    return About(
        name=manifest.name,
        version=manifest.version,
        transactions=len(done.table),
        users=len(done.history.users),
        data_window=manifest.data_window,
        test_from=int(done.table.time_ms[done.rows.test_from]),
        seed=manifest.seed,
        code_version=manifest.code_version,
        tokenizer_version=manifest.tokenizer_version,
        config=config,
    )


def _slices(done: Finished, threshold: float) -> list[Slice]:
    """The model's alerts on the test rows, by what is known of the user, amount and kind of payment."""
    table, test = done.table, done.test
    order = np.argsort(table.user.index, kind="stable")
    whose = table.user.index[order]
    begins = np.flatnonzero(np.diff(whose, prepend=-2))
    earlier = np.empty(len(order), np.int64)
    earlier[order] = np.arange(len(order)) - np.repeat(begins, np.diff([*begins, len(order)]))
    whole = np.ones(len(test), np.bool_)
    parts = {
        "earlier payments of the user": by_history(earlier[test]),
        "amount": by_amount(table.amount[test], whole),
        "category": by_word(table.take(test).category, whole),
        "channel": by_word(table.take(test).channel, whole),
    }
    fraud, alert = done.judged.label == 1, next(iter(done.judged.scores.values())) >= threshold
    return [
        Slice(by, name, len(rows), int(fraud[rows].sum()), int(alert[rows].sum()), int((fraud & alert)[rows].sum()))
        for by, (names, index) in parts.items()
        if len(names) > 1
        for value, name in enumerate(names)
        if len(rows := np.flatnonzero(index == value))
    ]


def _next_tokens(done: Finished, of_model: dict[str, float]) -> NextTokens:
    """Figures of the model and of two predictors that are counted on the events of its pretraining."""
    last, target, row = token_pairs(done.history, done.vocabulary)
    early, tested = row < done.rows.validation_from, np.isin(row, done.test)
    counted = fit_followers(last[early], target[early], done.vocabulary.size)
    last, target = last[tested], target[tested]
    popular = np.where(target > 0, counted.rank_V[target], MISS)
    ranked = {
        "model": of_model,
        "what mostly followed the last token": metrics(counted.ranks(last, target)),
        "the most frequent tokens, for everybody": metrics(popular),
    }
    return NextTokens(len(target), done.vocabulary.size, ranked)
