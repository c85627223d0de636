"""Runs of `panther bench drift`: a generated log with a real shift at a known day, and the same without.

A model is trained on the first days and scores all later ones as a replay does, so that every detector looks at what
it would see in the stream. Kinds of shift, from day SHIFT_DAY on: `habits`, 30 % of the people pay like other people
(those of another seed) at once; `gradual`, the same people one after the other over 30 days; `amounts`, everything
costs half as much again; `category`, a tenth of the payments has a category that training never saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.artifact import load_manifest
from panther_core.base.files import written_whole
from panther_core.base.odds import log_odds
from panther_core.base.times import DAY_MS
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.table import TransactionTable, Words
from panther_core.data.table_concat import concat
from trainer.drift.look import compare
from trainer.drift.reference import SCORE_EDGES, Reference, load_reference
from trainer.drift.scored import Scored, score_rows
from trainer.fit.dataset import known_at
from trainer.fit.train_config import preset
from trainer.training import train

TRAIN_DAYS, SHIFT_DAY, DAYS = 45, 75, 105
STABLE, KINDS = "stable", ("habits", "gradual", "amounts", "category")
STREAMS = ("surprise", "unk", "log_odds", "amount")
LOOK_DAYS = 7
CONFIG = msgspec.structs.replace(preset("tiny"), epochs=4)  # larger models take hours for thirty logs
_SHARE, _OVER_DAYS, _DEARER, _NEW_SHARE, _DELAY_MS = 0.3, 30, 1.5, 0.1, 3 * DAY_MS


@dataclass(frozen=True)
class Run:
    """What detectors see of one log after its training: E events and D days, from day TRAIN_DAYS on."""

    kind: str
    seed: int
    day: NDArray[np.int64]  # [E] day of each event, from 0 at the end of training
    streams: dict[str, NDArray[np.float64]]  # by STREAMS: [E] in standard deviations of the training
    looks: dict[str, NDArray[np.bool_]]  # by check of `panther drift`, and "any": [D] verdicts on the last LOOK_DAYS
    psi: dict[str, NDArray[np.float64]]  # by attribute: [D] stability index of the same days

    @property
    def days(self) -> int:
        """D."""
        return DAYS - TRAIN_DAYS


def runs(seed: int, folder: Path, users: int, kinds: tuple[str, ...] = (STABLE, *KINDS)) -> Iterator[Run]:
    """Train on the first days of the log of a seed, and score what comes after, for each kind of shift.

    Models and runs are kept in `folder`, and found there.
    """
    kept = {kind: folder / f"{users}-{seed}-{kind}.npz" for kind in kinds}
    if all(file.exists() for file in kept.values()):
        yield from (_load(kind, seed, file) for kind, file in kept.items())
        return
    table = generate(_config(seed, users))
    start_ms = _config(seed, users).start_ms
    artifact = folder / f"{users}-{seed}"
    if not (artifact / "manifest.json").exists():
        train(
            known_at(table, start_ms + TRAIN_DAYS * DAY_MS, _DELAY_MS),
            artifact,
            config=CONFIG,
            label_delay_ms=_DELAY_MS,
            seed=seed,
            profile=PROFILE,
        )
    early = table.amount[table.time_ms < start_ms + TRAIN_DAYS * DAY_MS]
    for kind in kinds:
        if not kept[kind].exists():
            log = shifted(kind, table, start_ms, seed, users)
            _save(_run(kind, seed, artifact, log, start_ms, np.log1p(early)), kept[kind])
        yield _load(kind, seed, kept[kind])


def shifted(kind: str, table: TransactionTable, start_ms: int, seed: int, users: int) -> TransactionTable:
    """The log with a shift of this kind from day SHIFT_DAY on."""
    rng, moment = np.random.default_rng(seed), start_ms + SHIFT_DAY * DAY_MS
    late = table.time_ms >= moment
    if kind == "amounts":
        return replace(table, amount=np.where(late, table.amount * _DEARER, table.amount))
    if kind == "category":
        new = late & (rng.random(len(table)) < _NEW_SHARE)
        index = np.where(new, len(table.category.words), table.category.index).astype(np.int32)
        return replace(table, category=Words(index, (*table.category.words, "a new category")))
    if kind in ("habits", "gradual"):
        return _other_habits(table, generate(_config(seed + 10_000, users)), moment, kind == "gradual", rng)
    return table


def _config(seed: int, users: int) -> GeneratorConfig:
    """Twice the generator's usual rates of fraud, so that a log of so few people has some in every slice."""
    usual = GeneratorConfig(users=users, days=DAYS, merchants=300, mean_transactions_per_day=1.5, seed=seed)
    return msgspec.structs.replace(usual, **{name: 2 * rate for name, rate in usual.fraud_rates.items()})


def _save(run: Run, file: Path) -> None:
    parts = (("stream ", run.streams), ("look ", run.looks), ("psi ", run.psi))
    columns: dict[str, Any] = {prefix + name: column for prefix, part in parts for name, column in part.items()}
    with written_whole(file) as part, part.open("wb") as out:
        np.savez(out, day=run.day, **columns)


def _load(kind: str, seed: int, file: Path) -> Run:
    with np.load(file, allow_pickle=False) as found:
        parts = {
            prefix: {name.removeprefix(prefix): found[name] for name in found if name.startswith(prefix)}
            for prefix in ("stream ", "look ", "psi ")
        }
        return Run(kind, seed, found["day"], parts["stream "], parts["look "], parts["psi "])


def _other_habits(
    table: TransactionTable, other: TransactionTable, moment: int, gradual: bool, rng: np.random.Generator
) -> TransactionTable:
    """Some people's later payments are those of other people, at once or one person after the other."""
    people = min(len(table.user.words), len(other.user.words))
    from_ms = np.full(max(len(table.user.words), len(other.user.words)), 2**62)
    changed = rng.permutation(people)[: round(_SHARE * people)]
    from_ms[changed] = moment + (np.linspace(0, _OVER_DAYS * DAY_MS, len(changed)) if gradual else 0)
    kept = np.flatnonzero(table.time_ms < from_ms[table.user.index])
    theirs = np.flatnonzero(other.time_ms >= from_ms[other.user.index])
    names = (*table.user.words, *other.user.words[len(table.user.words) :])
    new = other.take(theirs)
    ids = np.array([f"other-{name}" for name in new.transaction_id])
    user = Words(new.user.index, names[: len(other.user.words)])
    return concat([table.take(kept), replace(new, user=user, transaction_id=ids, profile={})])


def _run(
    kind: str, seed: int, artifact: Path, table: TransactionTable, start_ms: int, early: NDArray[np.float64]
) -> Run:
    seen = load_reference(artifact)
    rows = np.flatnonzero(table.time_ms >= start_ms + TRAIN_DAYS * DAY_MS)
    scored = score_rows(artifact, table, rows, _DELAY_MS)
    day = (table.time_ms[scored.rows] - start_ms) // DAY_MS - TRAIN_DAYS
    middles, rows_of = np.append(SCORE_EDGES, SCORE_EDGES[-1] + 0.5) - 0.25, np.asarray(seen.scores, np.float64)
    typical = float(np.average(middles, weights=rows_of))
    spread = float(np.sqrt(np.average((middles - typical) ** 2, weights=rows_of)))
    share = float(np.clip(seen.unk_share, 1e-3, 1 - 1e-3))
    total = scored.surprise.sum(axis=1, dtype=np.float64)
    streams = {
        "surprise": (total - seen.surprise_mean) / seen.surprise_std,
        "unk": (scored.unk - share) / np.sqrt(share * (1 - share)),
        "log_odds": (log_odds(scored.score) - typical) / spread,
        "amount": (np.log1p(table.amount[scored.rows]) - early.mean()) / early.std(),
    }
    return Run(kind, seed, day, streams, *_looks(seen, scored, day, artifact))


def _looks(
    seen: Reference, scored: Scored, day: NDArray[np.int64], artifact: Path
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.float64]]]:
    """Verdicts, and stability indices by attribute, of each day's last LOOK_DAYS; none of days with fewer."""
    manifest, days = load_manifest(artifact), DAYS - TRAIN_DAYS
    verdicts: dict[str, NDArray[np.bool_]] = {}
    psi: dict[str, NDArray[np.float64]] = {}
    for today in range(LOOK_DAYS - 1, days):
        found = compare(seen, scored.part((day > today - LOOK_DAYS) & (day <= today)), manifest, (0, 0), None)
        for name, verdict in (("any", found.drifted), *((f.check, f.drifted) for f in found.findings)):
            verdicts.setdefault(name, np.zeros(days, np.bool_))[today] = verdict
        for shift in found.attributes:
            psi.setdefault(shift.name, np.zeros(days))[today] = shift.psi
    return verdicts, psi
