"""A challenger: trained from the champion on newer payments, and judged beside it.

What a refresh of a running system does (trainer.rollout.refresh), and a simulation of many of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from panther_core.artifact import Manifest, load_manifest
from panther_core.data.table import EventRows, TransactionTable
from panther_core.report.curves import Floats
from panther_core.report.slices import by_amount, by_word
from panther_core.serving_model import load_serving_model
from trainer.drift.scored import scores_of
from trainer.drift.stability import counts_of, spans_a_day, stability_index
from trainer.fit.dataset import split
from trainer.fit.train_config import preset
from trainer.rollout.checks import Check
from trainer.rollout.gate import Window, judge
from trainer.training import train

PRESET, ANEW = "refresh", "default"
_AT_ONCE = 131_072  # rows
_CODES = ("amount", "channel", "category", "risk", "hour")

Codes: TypeAlias = dict[str, NDArray[np.integer]]
Latency: TypeAlias = Callable[[Manifest, Manifest], list[float]]
"""Round trips of a batch through the champion and the challenger, ms."""


class Judged(NamedTuple):
    """The gate's checks, and the challenger's scores of all payments of that time [N], with a label or without."""

    checks: list[Check]
    scores: Floats


def train_challenger(
    log: TransactionTable,
    base: Path,
    folder: Path,
    version: int,
    label_delay_ms: int,
    seed: int = 0,
    anew: bool = False,
) -> Manifest:
    """Train `version` into `folder`, going on from the weights of the version in `base`, or `anew`: from none, with a
    vocabulary of its own. Either way it goes on with the states of `base`, and has its alert budget. Raises as
    trainer.training.train."""
    return train(
        log,
        folder,
        config=structs.replace(preset(ANEW if anew else PRESET), alert_budget=load_manifest(base).alert_budget),
        version=version,
        label_delay_ms=label_delay_ms,
        seed=seed,
        continue_from=None if anew else base,
        states_of=base if anew else None,
    )


def judge_challenger(
    log: TransactionTable,
    base: Path,
    folder: Path,
    label_delay_ms: int,
    latency: Latency | None = None,
    seed: int = 0,
) -> Judged:
    """The gate's checks of the version in `folder` beside the one in `base`, on the newest payments of the log whose
    labels have matured and of which neither has learnt.

    `latency`: of both on the running server; None where there is no server.
    """
    champion, challenger = load_manifest(base), load_manifest(folder)
    rows = split(log, preset(PRESET), label_delay_ms)
    begin = int(np.searchsorted(log.time_ms, max(champion.seen_until, challenger.seen_until)))
    test = rows.test[rows.test >= begin]
    label = log.label[test]
    if 0 < label.sum() < len(label):
        # alerts are counted on all payments of that time, of which only some may have labels
        every = np.arange(max(begin, rows.test_from), test[-1] + 1)
        (before, kept), (after, again) = (scores_of(place, log, every, label_delay_ms) for place in (base, folder))
        both = kept & again
        every, before, after = every[both], before[both], after[both]
        known = log.label[every] >= 0
        test, label = every[known], log.label[every[known]]
    if not 0 < label.sum() < len(label):
        why = f"{int(label.sum())} frauds in {len(label)} payments that neither version has learnt from"
        return Judged([Check("window", False, None, None, None, why)], np.zeros(0))
    served = load_serving_model(folder)
    events = EventRows(log, served.schema, served.risk)
    judged, whole = log.take(test), np.ones(len(test), np.bool_)
    window = Window(
        label,
        log.user.index[test],
        {
            "amount": by_amount(judged.amount, whole),
            "category": by_word(judged.category, whole),
            "channel": by_word(judged.channel, whole),
        },
        before[known],
        after[known],
    )
    took = latency(champion, challenger) if latency is not None else None
    shifts = _shifts(*(_codes(events, part) for part in (rows.finetune, test)))
    alerted = float((before >= champion.threshold).mean()), float((after >= challenger.threshold).mean())
    return Judged(judge(window, alerted, challenger.alert_budget, took, shifts, seed), after)


def _codes(events: EventRows, rows: NDArray[np.int64]) -> Codes:
    """Codes [N] of rows, by the name of what they say."""
    parts = [events.of(part)["code"] for part in np.array_split(rows, len(rows) // _AT_ONCE + 1)]
    code = np.concatenate(parts)
    return {name: code[name] for name in _CODES}


def _shifts(learnt: Codes, tested: Codes) -> dict[str, float]:
    """Stability index of each attribute of which the payments tested are enough to tell it."""
    out = {name: stability_index(counts_of(learnt[name]), counts_of(tested[name])) for name in _CODES if name != "hour"}
    if spans_a_day(tested["hour"]):
        out["hour of the day"] = stability_index(*(counts_of(part["hour"] % 24) for part in (learnt, tested)))
    return out
