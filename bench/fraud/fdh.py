"""`panther bench fdh`: AP, AUC and CP@100 of what is served, beside other heads on the same features, on the Fraud
Detection Handbook's data.

Served is an artifact that was trained when the earliest test week began, refreshed when each later one began, and
replayed through the engine (bench.fraud.served).

Features, histories and PANTHER of the other heads are shared by all folds: at every row they contain only what was
known then, and PANTHER is pretrained without labels on events before the earliest test week. In each fold, every head
is fitted on all labels that had matured when the test week began.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.fraud.protocol import DELAY_MS, Fold, fold, metrics
from bench.fraud.served import SERVED, served_scores
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.stage_clock import StageClock
from panther_core.base.times import DAY_MS
from panther_core.data.formats import profile_fields, read
from panther_core.data.schema import AttributeSchema, fit_schema
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat
from panther_core.entities.arrays import Floats, Ints
from panther_core.state.history import History
from trainer.fit.train_config import TrainConfig
from trainer.heads.behaviour import BEHAVIOUR, behaviour_inputs, histories, pretrained
from trainer.heads.ensemble import ABLATIONS, DEEPFM, PARTS, HeadRows, Settings, blended
from trainer.heads.matrix import Matrix

_WARM_UP_MS = 7 * DAY_MS  # no label is known in the first week, so its rows teach nothing about label history


def run_fdh(
    data: Path,
    out: Path,
    starts: Sequence[str],
    seed: int = 0,
    settings: Settings | None = None,
    behaviour: TrainConfig = BEHAVIOUR,
    first: str = "default",
) -> dict[str, Any]:
    """Write the served scores of the folds' test weeks into `out` (TRANSACTION_ID, score); return all models' metrics.

    What is trained lies beside `out`, in a folder of its name with `.versions`, and is found there by a second run.

    `behaviour`: shape and pretraining of PANTHER in the heads; `first`: preset of the first artifact. Raises BadInput
    when the folder lacks days that a fold needs.
    """
    clock, settings = StageClock(), settings or Settings()
    table = load(data)
    folds = [fold(table, start) for start in starts]
    clock.mark("read")
    served = _served(table, folds, out.with_suffix(".versions"), seed, first)
    clock.mark("served")
    heads, losses = prepare_heads(table, folds, settings, behaviour, seed, clock)
    fitted = (*PARTS, DEEPFM, *ABLATIONS) if settings.ablations else PARTS
    results: dict[str, list[dict[str, float]]] = {}
    for each in folds:
        scores = {head.name: heads.score(head, each.matured, each.week, seed) for head in fitted}
        scores |= blended(scores, settings)
        scores[SERVED] = served[each.start]
        for name, score in scores.items():
            results.setdefault(name, []).append(metrics(each, table, score))
        clock.mark(f"fold {each.start}")
        say(f"  AP {each.start}: " + ", ".join(f"{name} {rows[-1]['ap']:.4f}" for name, rows in results.items()))
    weeks = np.concatenate([each.week for each in folds])
    write_scores(out, table, weeks, np.concatenate([served[each.start] for each in folds]))
    return {
        "folds": [_facts(each, table) for each in folds],
        "models": {name: {"mean": _mean(rows), "folds": rows} for name, rows in results.items()},
        "pretrain": losses,
        "seed": seed,
        "seconds": clock.seconds,
    }


def load(data: Path) -> TransactionTable:
    """All transactions of the folder. Raises BadInput when there are none."""
    tables = list(read("fdh", data))
    if not tables:
        raise BadInput(f"expected transactions in {data}, got none: check --data")
    return concat(tables)


def prepare_heads(
    table: TransactionTable,
    folds: Sequence[Fold],
    settings: Settings,
    behaviour: TrainConfig,
    seed: int,
    clock: StageClock,
) -> tuple[HeadRows, dict[str, float]]:
    """The heads with the features and PANTHER's outputs of the rows that any fold uses; and the losses of
    pretraining."""
    known_until = int(np.searchsorted(table.time_ms, min(each.test_from_ms for each in folds)))
    matrix, history, schema = features_and_histories(table, known_until, behaviour)
    clock.mark("features")
    model, losses = pretrained(history, schema, known_until, behaviour, seed)
    clock.mark("pretrain")
    learnable = drawn_rows(table, folds, settings.negatives, seed)
    tested = np.zeros(len(table), np.bool_)
    for each in folds:
        tested[each.week] = True
    rows = np.flatnonzero(learnable | tested)
    inputs = behaviour_inputs(model, history, rows)
    clock.mark("encode")
    shape = behaviour.model, schema
    return HeadRows(rows, learnable[rows], table.label[rows], matrix.take(rows), inputs, shape, settings), losses


def features_and_histories(
    table: TransactionTable, known_until: int, behaviour: TrainConfig
) -> tuple[Matrix, History, AttributeSchema]:
    """Features of every row, and the histories PANTHER reads; amount buckets come from rows before `known_until`."""
    schema = fit_schema(table.amount[:known_until], [], [], profile_fields("fdh"), behaviour.amount_buckets)
    history = histories(table, schema, behaviour, DELAY_MS)
    return Matrix.of_context(history.features), history, schema


def drawn_rows(table: TransactionTable, folds: Sequence[Fold], negatives: float, seed: int) -> NDArray[np.bool_]:
    """Mask [N] of rows that a fold may learn from: all frauds, and a share `negatives` of the legitimate rows."""
    learnable = np.zeros(len(table), np.bool_)
    drawn = np.random.default_rng(seed).random(len(table)) < negatives
    late = table.time_ms >= table.time_ms[0] + _WARM_UP_MS
    for each in folds:
        learnable[each.matured] = (late & (drawn | (table.label == 1)))[each.matured]
    return learnable


def _served(table: TransactionTable, folds: Sequence[Fold], folder: Path, seed: int, first: str) -> dict[str, Floats]:
    """Served scores of each fold's test week, by the fold's start."""
    ordered = sorted(folds, key=lambda each: each.test_from_ms)
    moments, ends = [each.test_from_ms for each in ordered], [int(each.week[-1]) + 1 for each in ordered]
    scores = served_scores(table, moments, ends, DELAY_MS, folder, seed, first)
    return {each.start: score[each.week] for each, score in zip(ordered, scores, strict=True)}


def write_scores(out: Path, table: TransactionTable, rows: Ints, score: Floats) -> None:
    """Parquet file of TRANSACTION_ID and score for the given rows."""
    columns = {"TRANSACTION_ID": table.transaction_id[rows].astype(np.int64), "score": score}
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), out)


def _facts(each: Fold, table: TransactionTable) -> dict[str, Any]:
    counted = each.week[each.kept]
    return {
        "train_start": each.start,
        "rows": len(counted),
        "frauds": int(table.label[counted].sum()),
        "matured_rows": len(each.matured),
    }


def _mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
