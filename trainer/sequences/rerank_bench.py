"""`panther bench rerank`: PANTHER's encoder alone, and with the recommendation head behind it.

Two ways of training the head, both reported. On the encoder's own training items its logits look better than they
are; so the second way keeps the newest items of each user's training part from the encoder and trains the head on
them. Which is better, the validation items say. A finished run is a line of `runs.jsonl` and is not run again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.console import say
from panther_core.errors import BadInput
from panther_core.formats.sequences import LeaveOneOut, leave_one_out, read_sequences
from trainer.checkpoint import Checkpoint
from trainer.run_lines import Figures, RunLines, key_of, over_seeds
from trainer.sequences.bench import base_config, find_sets
from trainer.sequences.candidates import held_out_lists, training_lists
from trainer.sequences.config import SequenceConfig
from trainer.sequences.evaluate import metrics
from trainer.sequences.model import SequenceModel
from trainer.sequences.rerank import CHOSEN_BY, RerankConfig, Reranker, new_places, popularity, train_head
from trainer.sequences.results import run_key
from trainer.sequences.train import Progress, train

WAYS = ("encoder", "encoder without the newest")
PARTS = {"encoder": "", "dcn": " + DCN"}


def run_rerank(
    data: Path,
    sets: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    config: RerankConfig | None = None,
    encoder: SequenceConfig | None = None,
) -> dict[str, Any]:
    """{"seeds": ..., "sets": {name: rows and the one chosen on the validation items}}. Raises BadInput, InvalidFile."""
    if not seeds:
        raise BadInput("expected at least one seed, got none: name some with --seeds")
    table = _Table(out, config or RerankConfig(), encoder or SequenceConfig())
    return {"seeds": list(seeds), "sets": {n: table.run(n, p, seeds) for n, p in find_sets(data, sets).items()}}


class _Table:
    def __init__(self, out: Path, config: RerankConfig, encoder: SequenceConfig) -> None:
        self._out, self._config, self._encoder = out, config, encoder
        self._lines = RunLines(out / "runs.jsonl")

    def run(self, name: str, path: Path, seeds: Sequence[int]) -> dict[str, Any]:
        split = leave_one_out(read_sequences(path))
        config = base_config(split, self._encoder)
        rows: dict[str, dict[str, Any]] = {}
        for way in WAYS:
            done = [self._once(name, split, config, way, seed) for seed in seeds]
            rows |= {way + suffix: over_seeds([run[part] for run in done]) for part, suffix in PARTS.items()}
        chosen = max(rows, key=lambda label: rows[label][f"validation_{CHOSEN_BY}"]["mean"])
        sequences = split.sequences
        facts = {"users": len(sequences), "items": len(sequences.item_names), "events": len(sequences.items)}
        return {**facts, "evaluated": len(split.evaluated), "rows": rows, "chosen_on_validation": chosen}

    def _once(self, name: str, split: LeaveOneOut, config: SequenceConfig, way: str, seed: int) -> dict[str, Figures]:
        data = run_key(split.sequences, config, seed)
        keys = {part: key_of(data, self._config, way, part) for part in PARTS}
        if not all(key in self._lines for key in keys.values()):
            say(f"  {name}, {way}, seed {seed}")
            seen = split if way == WAYS[0] else without_newest(split, self._config.held_in)
            encoder = trained_encoder(seen, config, seed, self._out)
            for part, figures in rerank(encoder, split, seen, self._config, seed).items():
                self._lines.add(keys[part], {"set": name, "row": way + PARTS[part], "seed": seed}, figures)
        return {part: self._lines[key] for part, key in keys.items()}


def rerank(
    encoder: SequenceModel, split: LeaveOneOut, seen: LeaveOneOut, config: RerankConfig, seed: int
) -> dict[str, Figures]:
    """Figures of an encoder that was trained on `seen` alone ("encoder") and with the head behind it ("dcn")."""
    started, count = time.perf_counter(), config.candidates
    lists = training_lists(encoder, split, seen, count, config.lists, seed)
    validation = held_out_lists(encoder, split, "validation", count)
    head = Reranker(encoder, popularity(split))
    training = train_head(head, lists, validation, config, seed)
    spent = time.perf_counter() - started
    test = held_out_lists(encoder, split, "test", count)  # looked at once, when nothing is left to choose
    reach = {"candidates_hold_it": float((test.place_M < count).float().mean())}
    return {
        "encoder": _figures(validation.place_M.numpy(), test.place_M.numpy()) | reach,
        "dcn": _figures(new_places(head, validation), new_places(head, test))
        | {"lists": training["lists"], "best_epoch": training["best_epoch"], "seconds": round(spent, 1)},
    }


def _figures(validation: NDArray[np.int64], test: NDArray[np.int64]) -> Figures:
    return metrics(test) | {f"validation_{CHOSEN_BY}": metrics(validation)[CHOSEN_BY]}


def without_newest(split: LeaveOneOut, count: int) -> LeaveOneOut:
    """The split with the newest `count` items of every training part left out, but not the oldest two."""
    begin = split.sequences.bounds[:-1]
    least = np.minimum(begin + 2, split.train_end)
    return replace(split, train_end=np.maximum(split.train_end - count, least))


def trained_encoder(split: LeaveOneOut, config: SequenceConfig, seed: int, out: Path) -> SequenceModel:
    """The encoder with the best validation HR@10; trained in `out`, where it is found the next time."""
    key = key_of(run_key(split.sequences, config, seed), int(split.train_end.sum()))
    checkpoint = Checkpoint(out / f"encoder-{key}", key)
    train(split, config, seed, checkpoint, f"encoder seed {seed}")
    progress = Progress(SequenceModel(config, len(split.sequences.item_names)), config.epochs)
    checkpoint.load(progress, torch.optim.AdamW(progress.model.parameters()))
    return progress.best
