"""`panther bench rerank`: HR@k and NDCG@k of PANTHER's encoder alone, and with the recommendation head behind it.

Three protocols are reported, and the best on the validation items is named. In the first, encoder and head are trained
on the same items; the encoder's logits are then better on these items than on later ones. The second therefore keeps
the newest training items of each user from the encoder and trains the head on them. In the third, the encoder of the
second is trained further on all training items, and the head stays as it is. A finished run is a line of `runs.jsonl`
and is not run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.results import Figures, FiguresRun, RunStore, key_of, over_seeds
from bench.sequences.batches import HeldOutStage
from bench.sequences.candidates import CandidateLists, held_out_lists, training_lists
from bench.sequences.model import SequenceModel
from bench.sequences.rerank_head import CHOSEN_BY, RerankConfig, Reranker, new_places, popularity, train_head
from bench.sequences.seqrec_table import base_config, find_sets
from bench.sequences.sequence_config import SequenceConfig
from bench.sequences.train import Progress, run_key, train
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.data.formats.sequences import LeaveOneOut, read_split
from trainer.fit.checkpoint import Checkpoint
from trainer.fit.ranking import metrics

OWN, HELD_IN, CAUGHT_UP = "encoder", "encoder without the newest", "encoder caught up"
WITH_HEAD = " + DCN"
STAGES: tuple[HeldOutStage, HeldOutStage] = ("validation", "test")


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
        self._done = RunStore(out, FiguresRun)

    def run(self, name: str, path: Path, seeds: Sequence[int]) -> dict[str, Any]:
        split = read_split(path)
        config = base_config(split, self._encoder)
        runs = [self._known(name, split, config, seed) for seed in seeds]
        rows = {row: over_seeds([run[row] for run in runs]) for row in runs[0]}
        chosen = max(rows, key=lambda row: rows[row][f"validation_{CHOSEN_BY}"]["mean"])
        sequences = split.sequences
        facts = {"users": len(sequences), "items": len(sequences.item_names), "events": len(sequences.items)}
        return {**facts, "evaluated": len(split.evaluated), "rows": rows, "chosen_on_validation": chosen}

    def _known(self, name: str, split: LeaveOneOut, config: SequenceConfig, seed: int) -> dict[str, Figures]:
        out: dict[str, Figures] = {}
        for ways, run in (((OWN,), on_own_items), ((HELD_IN, CAUGHT_UP), on_held_in_items)):
            rows = [way + suffix for way in ways for suffix in ("", WITH_HEAD)]
            keys = {row: key_of(run_key(split.sequences, config, seed), self._config, row) for row in rows}
            found = {row: self._done.find(key) for row, key in keys.items()}
            if None in found.values():
                say(f"  {name}, {', '.join(ways)}, seed {seed}")
                for row, figures in run(_RerankRun(split, config, self._config, seed, self._out)).items():
                    facts = {"set": name, "row": row, "seed": seed}
                    found[row] = self._done.add(FiguresRun(key=keys[row], facts=facts, figures=figures))
            out |= {row: done.figures for row, done in found.items() if done}
        return out


@dataclass(frozen=True)
class _RerankRun:
    split: LeaveOneOut
    encoder: SequenceConfig
    head: RerankConfig
    seed: int
    out: Path

    def trained(self, split: LeaveOneOut, start: SequenceModel | None = None) -> SequenceModel:
        return trained_encoder(split, self.encoder, self.seed, self.out, start)

    def lists(self, encoder: SequenceModel, seen: LeaveOneOut) -> CandidateLists:
        return training_lists(encoder, self.split, seen, self.head.candidates, self.head.lists, self.seed)


def on_own_items(run: _RerankRun) -> dict[str, Figures]:
    """The first protocol: encoder and head are trained on the same items."""
    encoder = run.trained(run.split)
    head, training = _best_head(run, encoder, run.lists(encoder, run.split))
    return _figures(run, OWN, encoder, head, training)


def on_held_in_items(run: _RerankRun) -> dict[str, Figures]:
    """The second protocol, and the third, which starts from its encoder and head."""
    seen = without_newest(run.split, run.head.held_in)
    encoder = run.trained(seen)
    head, training = _best_head(run, encoder, run.lists(encoder, seen))
    out = _figures(run, HELD_IN, encoder, head, training)
    encoder = run.trained(run.split, start=encoder)
    head.take_items_of(encoder)
    return out | _figures(run, CAUGHT_UP, encoder, head, training)


def _best_head(run: _RerankRun, encoder: SequenceModel, lists: CandidateLists) -> tuple[Reranker, Figures]:
    validation = held_out_lists(encoder, run.split, "validation", run.head.candidates)
    tried = []
    for rate in run.head.learning_rates:
        head = Reranker(encoder, popularity(run.split))
        tried.append((head, train_head(head, lists, validation, run.head, (rate, run.seed))))
    return max(tried, key=lambda pair: pair[1][CHOSEN_BY])


def _figures(
    run: _RerankRun, way: str, encoder: SequenceModel, head: Reranker, training: Figures
) -> dict[str, Figures]:
    validation, test = (held_out_lists(encoder, run.split, stage, run.head.candidates) for stage in STAGES)
    reach = {"candidates_hold_it": float((test.place_M < test.item_MN.shape[1]).float().mean())}
    facts = {f"head_{name}": value for name, value in training.items()}
    return {
        way: _metrics(validation.place_M.numpy(), test.place_M.numpy()) | reach,
        way + WITH_HEAD: _metrics(new_places(head, validation), new_places(head, test)) | facts,
    }


def _metrics(validation: NDArray[np.int64], test: NDArray[np.int64]) -> Figures:
    return metrics(test) | {f"validation_{CHOSEN_BY}": metrics(validation)[CHOSEN_BY]}


def without_newest(split: LeaveOneOut, count: int) -> LeaveOneOut:
    """The split without the newest `count` items of every training part; at least the oldest two stay."""
    begin = split.sequences.bounds[:-1]
    least = np.minimum(begin + 2, split.train_end)
    return replace(split, train_end=np.maximum(split.train_end - count, least))


def trained_encoder(
    split: LeaveOneOut, config: SequenceConfig, seed: int, out: Path, start: SequenceModel | None = None
) -> SequenceModel:
    """The encoder with the best validation HR@10, trained from the weights of `start` if given.

    Its checkpoint stays in `out`, and the next call with the same arguments finds it there.
    """
    came_from = [float(start.item_ND.detach().sum())] if start else []
    key = key_of(run_key(split.sequences, config, seed), int(split.train_end.sum()), *came_from)
    checkpoint = Checkpoint(out / f"encoder-{key}", key)
    progress = Progress(SequenceModel(config, len(split.sequences.item_names)), config)
    optimiser = torch.optim.AdamW(progress.model.parameters())
    if start and not checkpoint.load(progress, optimiser):  # `train` resumes from this checkpoint after 0 rounds
        progress.model.load_state_dict(start.state_dict())
        checkpoint.save(progress, optimiser, 0)
    train(split, config, seed, checkpoint, f"encoder seed {seed}")
    checkpoint.load(progress, optimiser)
    return progress.best
