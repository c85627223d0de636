"""`panther bench fraud`: AP, AUC and recall of what is served, and of the heads of `panther bench fdh`, on one split by
time of a labelled log.

Served is an artifact trained when the validation window began, replayed through the engine (bench.fraud.served). The
other heads have the same features, and each merchant category as a column. They learn from all labels that had matured
then, PANTHER from the events before that window.
Every head is scored on the validation and the test window. Settings are those tuned for `panther bench fdh`; none is
chosen here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.fraud.served import SERVED, served_scores
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS, iso_ms
from panther_core.data.table import TransactionTable
from panther_core.entities.arrays import Ints
from panther_core.evaluation import fraud_metrics
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.train_config import TrainConfig
from trainer.heads.behaviour import BEHAVIOUR, behaviour_inputs, histories, pretrained
from trainer.heads.ensemble import DEEPFM, PARTS, HeadRows, Settings, blended
from trainer.heads.matrix import Matrix

_CATEGORIES = 40  # so many of the most frequent categories become columns


def run_fraud(
    table: TransactionTable,
    days: tuple[str, str, str],
    label_delay_days: float = 7,
    seed: int = 0,
    settings: Settings | None = None,
    behaviour: TrainConfig = BEHAVIOUR,
    folder: Path = Path("build/fraud"),
    first: str = "default",
) -> dict[str, Any]:
    """Metrics of every head on the validation and the test window.

    `days`: the first day of the validation window, of the test window, and the day after it, YYYY-MM-DD. `folder`: of
    the served artifact, which is trained by the preset `first`; found there, not trained again. Raises BadInput when a
    window lacks frauds.
    """
    settings = settings or Settings()
    validation_from, test_from, end = (int(np.searchsorted(table.time_ms, _ms(day))) for day in days)
    delay_ms = round(label_delay_days * DAY_MS)
    windows = {"validation": (validation_from, test_from), "test": (test_from, end)}
    parts = {name: np.arange(*window)[table.label[slice(*window)] >= 0] for name, window in windows.items()}
    settled = np.arange(int(np.searchsorted(table.time_ms, _ms(days[0]) - delay_ms)))
    matured = settled[table.label[settled] >= 0]
    for name, rows in {"training": matured, **parts}.items():
        if not 0 < table.label[rows].sum() < len(rows):
            first, last = (str(np.datetime64(int(time), "ms"))[:10] for time in table.time_ms[[0, -1]])
            raise BadInput(
                f"expected frauds and legitimate rows in the {name} window, got {len(rows)} rows; the log goes from "
                f"{first} to {last}: choose days in it with --validate-from, --test-from and --end"
            )
    tested = np.concatenate(list(parts.values()))
    heads, losses = _heads(table, matured, tested, delay_ms, seed, settings, behaviour)
    scores = {head.name: heads.score(head, matured, tested, seed) for head in (*PARTS, DEEPFM)}
    scores |= blended(scores, settings)
    moment_ms = int(table.time_ms[validation_from])
    [served] = served_scores(table, [moment_ms], [end], delay_ms, folder, seed, first)
    scores[SERVED] = served[tested]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name, rows in parts.items():
        here = np.isin(tested, rows)
        for part, score in scores.items():
            results.setdefault(part, {})[name] = fraud_metrics(score[here], table.label[rows])
        say(
            f"  {name}: "
            + ", ".join(f"{part} {rows_[name]['average_precision']:.4f}" for part, rows_ in results.items())
        )
    counts = {name: {"rows": len(rows), "frauds": int(table.label[rows].sum())} for name, rows in parts.items()}
    return {"windows": counts, "matured_rows": len(matured), "models": results, "pretrain": losses, "seed": seed}


def _heads(
    table: TransactionTable,
    matured: Ints,
    tested: Ints,
    delay_ms: int,
    seed: int,
    settings: Settings,
    behaviour: TrainConfig,
) -> tuple[HeadRows, dict[str, float]]:
    known_until = int(tested[0])
    schema = fit_log_schema(table.take(slice(0, known_until)), None, behaviour)
    history = histories(table, schema, behaviour, delay_ms)
    matrix = Matrix.of_context(history.features).beside(*_category_columns(table, known_until))
    model, losses = pretrained(history, schema, known_until, behaviour, seed)
    drawn = np.random.default_rng(seed).random(len(table)) < settings.negatives
    learnable = np.zeros(len(table), np.bool_)
    learnable[matured] = (drawn | (table.label == 1))[matured]
    learnable &= history.kept
    use = learnable.copy()
    use[tested] = True
    rows = np.flatnonzero(use)
    inputs = behaviour_inputs(model, history, rows)
    shape = behaviour.model, schema
    return HeadRows(rows, learnable[rows], table.label[rows], matrix.take(rows), inputs, shape, settings), losses


def _category_columns(table: TransactionTable, known_until: int) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    """A 0/1 column for each of the most frequent merchant categories before row `known_until`, and their names."""
    words, counts = np.unique(table.category.index[:known_until], return_counts=True)
    top = [int(word) for word in words[np.argsort(-counts, kind="stable")][:_CATEGORIES] if word >= 0]
    columns = np.stack([table.category.index == word for word in top], axis=1).astype(np.float32)
    return columns, tuple(f"category.{table.category.words[word]}" for word in top)


def _ms(day: str) -> int:
    try:
        return iso_ms(day)
    except ValueError:
        raise BadInput(f"expected a day YYYY-MM-DD, got {day!r}") from None
