"""`panther bench seqrec`: HR@k and NDCG@k of the next item, for every set, model and seed.

Each model is tuned over the same grid, on the validation items and with the first seed; the run of the chosen grid
point counts as the result of that seed. Finished runs are found in `runs.jsonl`, and an interrupted run resumes from
its checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.results import RunStore, mean_sd
from bench.sequences.published_figures import PUBLISHED
from bench.sequences.sequence_config import MODELS, SequenceConfig, grid, named
from bench.sequences.train import CHOSEN_BY, SequenceLine, run_key, train
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.data.formats.sequences import LeaveOneOut, read_split
from trainer.fit.checkpoint import Checkpoint

_SUFFIXES = (".txt", ".txt.gz", ".dat", ".dat.gz")
_LONG = 100  # sets with more items a user on average get a window of 200, as SASRec on MovieLens (1808.09781, 4.4)
_BESIDE = ("users.dat", "movies.dat")  # files of MovieLens-1M that describe users and films: no sequences


def find_sets(data: Path, names: Sequence[str]) -> dict[str, Path]:
    """Files in the folder `data` of the named sets, or of all sets when none is named. Raises BadInput."""
    files = [path for path in sorted(data.glob("*")) if path.name.endswith(_SUFFIXES)]
    found = {path.name.split(".")[0]: path for path in files if path.name not in _BESIDE}
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise BadInput(
            f"expected sequence files {', '.join(missing) or '(any)'} as NAME.txt, NAME.dat or either with .gz in "
            f"{data}, got {', '.join(found) or 'none'}: check --data and --sets"
        )
    return {name: found[name] for name in names or found}


def run_table(
    data: Path, sets: Sequence[str], models: Sequence[str], seeds: Sequence[int], out: Path, tune: bool = True
) -> dict[str, Any]:
    """The table of the sets in the folder `data`: {"seeds": ..., "sets": {name: result of SequenceTable.run}}.

    Without `tune` every model has the defaults of SequenceConfig. Raises BadInput, InvalidFile.
    """
    unknown = [model for model in models if model not in MODELS]
    if unknown or not models:
        raise BadInput(f"expected models out of {', '.join(MODELS)}, got {', '.join(unknown) or 'none'}: see --models")
    table = SequenceTable(out, seeds, SequenceConfig(), tune)
    return {"seeds": list(seeds), "sets": {n: table.run(n, p, models) for n, p in find_sets(data, sets).items()}}


def base_config(split: LeaveOneOut, base: SequenceConfig) -> SequenceConfig:
    """`base` with a window of 200 items on sets of long sequences."""
    length = 200 if split.sequences.lengths.mean() > _LONG else base.model.length
    return msgspec.structs.replace(base, model=msgspec.structs.replace(base.model, length=length))


class SequenceTable:
    """Trains the runs that are missing from `out` and gathers the figures of all."""

    def __init__(self, out: Path, seeds: Sequence[int], base: SequenceConfig, tune: bool = True) -> None:
        """Raises BadInput without a seed."""
        if not seeds:
            raise BadInput("expected at least one seed, got none: name some with --seeds")
        self._out, self._seeds, self._base, self._tune = out, tuple(seeds), base, tune
        self._done = RunStore(out, SequenceLine)

    def run(self, name: str, path: Path, models: Sequence[str]) -> dict[str, Any]:
        """Rows of one set: {"users": ..., "models": {model: metrics over seeds, chosen point, validation}}."""
        split = read_split(path)
        base = base_config(split, self._base)
        rows = {model: self._model(name, split, base, model) for model in models}
        sequences = split.sequences
        facts = {"users": len(sequences), "items": len(sequences.item_names), "events": len(sequences.items)}
        return {**facts, "length": base.model.length, "models": rows, "published": PUBLISHED.get(name, {})}

    def _model(self, name: str, split: LeaveOneOut, base: SequenceConfig, model: str) -> dict[str, Any]:
        config = named(base, model)
        points = grid(config) if self._tune else [config]
        tried = [self._once((name, model), split, point, self._seeds[0]) for point in points]
        best = max(tried, key=lambda line: line.run.validation[CHOSEN_BY])
        done = [best, *(self._once((name, model), split, best.config, seed) for seed in self._seeds[1:])]
        return {
            "test": {name: mean_sd([line.run.test[name] for line in done]) for name in best.run.test},
            "validation": {CHOSEN_BY: best.run.validation[CHOSEN_BY]},
            "learning_rate": best.config.learning_rate,
            "dropout": best.config.model.dropout,
            "seconds": round(sum(line.run.seconds for line in [*tried, *done[1:]]), 1),
        }

    def _once(self, names: tuple[str, str], split: LeaveOneOut, config: SequenceConfig, seed: int) -> SequenceLine:
        key = run_key(split.sequences, config, seed)
        known = self._done.find(key)
        if known is not None:
            return known
        (name, model), checkpoint = names, Checkpoint(self._out / f"checkpoint-{key}", key)
        title = f"{name} {model} {config.learning_rate:g} dropout {config.model.dropout:g} seed {seed}"
        run = train(split, config, seed, checkpoint, title)
        say(f"  {title}: validation {run.validation[CHOSEN_BY]:.4f} in {run.seconds:.0f} s")
        line = self._done.add(SequenceLine(set=name, model=model, seed=seed, key=key, config=config, run=run))
        checkpoint.clear()
        return line
