"""`panther bench ablation`: HR@k and NDCG@k of the next transaction, for PANTHER, PANTHER without parts, and baselines.

The log has user profiles. All variants get the same rows, budget and losses; each stops by its own validation HR@10,
and the test rows are later than the validation rows. A finished run is a line of `runs.jsonl` in the output folder and
is not run again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from bench.results import FiguresRun, RunStore, data_key, key_of, over_seeds
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.data.generator import GeneratorConfig
from panther_core.data.schema import CODE, AttributeSchema, ProfileField
from panther_core.data.table import TransactionTable
from panther_core.data.vocabulary import fit_vocabulary
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.history import History, prepare
from trainer.fit.dataset import before
from trainer.fit.evaluate import Validation, hit_rates
from trainer.fit.pretrain import PretrainOptions, pretrain
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.train_config import TrainConfig

_PANTHER: dict[str, Any] = {"encoder": "panther", "sprm": True, "profile": "positional", "attribute_embedding": True}
_ALONE: dict[str, Any] = _PANTHER | {"profile": "none", "contrastive_weight": 0.0}
#: What each row of the table sets in the model config, over any config file (paper 4: baselines, then ablations).
VARIANTS: dict[str, dict[str, Any]] = {
    "transformer": _ALONE | {"encoder": "transformer"},
    "sasrec": _ALONE | {"encoder": "sasrec"},
    "hstu": _ALONE | {"encoder": "hstu"},
    "panther, SPRM only": _ALONE,
    "panther, profile as first token": _PANTHER | {"profile": "first", "contrastive_weight": 0.0},
    "panther, profile at every position": _PANTHER | {"contrastive_weight": 0.0},
    "panther": _PANTHER,
    "panther, profile as first token, contrastive": _PANTHER | {"profile": "first"},
    "panther, no attribute embedding": _PANTHER | {"attribute_embedding": False},
}
#: the generated log that the command measures on unless it is given files
GENERATED = GeneratorConfig(users=2000, days=60, seed=3)
CONFIG = TrainConfig(
    model=ModelConfig(layers=2, dropout=0.05), epochs=16, patience=3, batch_positions=1024, learning_rate=2e-3
)


def run_ablation(
    table: TransactionTable,
    profile: tuple[ProfileField, ...] | None,
    out: Path,
    variants: Sequence[str] = tuple(VARIANTS),
    seeds: Sequence[int] = (0,),
    config: TrainConfig = CONFIG,
) -> dict[str, Any]:
    """Mean and deviation over the seeds of HR@k and NDCG@k by variant; `profile`: fitted when not given.

    Raises BadInput for an unknown variant.
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or not variants:
        raise BadInput(f"expected variants out of {'; '.join(VARIANTS)}, got {'; '.join(unknown) or 'none'}")
    validation_from, test_from = (int(len(table) * share) for share in (config.validation_from, config.test_from))
    schema = fit_log_schema(table.take(slice(0, validation_from)), profile, config)
    history = prepare(table.events(schema, None), schema, config.model.length)  # without labels: no counterparty risk
    log = data_key(table)
    done = RunStore(out, FiguresRun)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for seed in seeds:
        for name in variants:
            own = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, **VARIANTS[name]))
            key = key_of(own, seed, log)
            run = done.find(key)
            if run is None:
                say(f"  {name}, seed {seed}")
                figures = _once(history, schema, own, (validation_from, test_from), seed)
                run = done.add(FiguresRun(key=key, facts={"variant": name, "seed": seed}, figures=figures))
            rows[name].append(run.figures)
    return {
        "events": len(table),
        "test_events": int((history.history_len[test_from:] > 0).sum()),
        "seeds": list(seeds),
        "variants": {name: over_seeds(runs) for name, runs in rows.items()},
    }


def _once(
    history: History, schema: AttributeSchema, config: TrainConfig, cuts: tuple[int, int], seed: int
) -> dict[str, float]:
    early = before(history, cuts[0])
    vocabulary, coverage = fit_vocabulary(
        schema, early.code[early.order].view(CODE), config.vocabulary, config.coverage
    )
    torch.manual_seed(seed)
    model = PantherModel(config.model, schema, vocabulary)
    judge = Validation(history, np.arange(*cuts), config.validation_sample, config.model.length, seed)
    started = time.perf_counter()
    losses = pretrain(model.panther, early, config, seed, PretrainOptions(validation=judge))
    spent = time.perf_counter() - started
    test = np.arange(cuts[1], len(history.code))
    figures = hit_rates(model, history, model.encode_history(history), test[history.kept[test]])
    return figures | {
        "validation_hr@10": losses["best_hr@10"],
        "best_epoch": losses["best_epoch"],
        "parameters": float(sum(p.numel() for p in model.panther.parameters())),
        "vocabulary": float(vocabulary.size),
        "coverage": coverage,
        "seconds": round(spent, 1),
    }
