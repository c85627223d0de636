"""One look at drift: a stretch of a log beside what the version's training saw.

Every check gives a verdict and a sentence. A verdict asks for a difference that matters, beyond what chance makes, so
that a great many payments are no reason by themselves.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from panther_core.artifact import Manifest, load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.table import TransactionTable
from panther_core.decide.scoring import SURPRISE
from trainer.drift.expected import MISCALIBRATED, Expected, Realised, expected, realised
from trainer.drift.reference import Reference, attribute_codes, load_reference, score_bins
from trainer.drift.scored import Scored, score_rows
from trainer.drift.stability import SHIFTED, counts_of, least_distance, least_ratio, spans_a_day, stability_index
from trainer.fit.dataset import end_ms

MOVED = 0.1  # stability index of an attribute: by convention, up to .1 is no change and from .25 on another population
_EFFECT = 0.2  # standard deviations: a small effect (trainer.drift.stability.least_distance)
_ALERT_RATIO = 3.0  # times as many alerts, or as few: frauds come in waves, and twice as many are no rarity
_WORSE = 0.8  # times the average precision that the scores promised at training
_LEAST_ROWS = 100


class Shift(msgspec.Struct, frozen=True):
    """An attribute's stability index against the rows learnt from."""

    name: str
    psi: float
    drifted: bool


class Finding(msgspec.Struct, frozen=True):
    """One check: the training's figure (None: no such), the window's, the verdict, and a sentence."""

    check: str
    training: float | None
    now: float
    drifted: bool
    why: str


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A look: of the version `version`, at `rows` payments in `window` (epoch ms, the second excluded).

    `attributes`: without the hour of the day where the payments are of less than a day.
    `surprise`: mean of the sum over attributes, nats. `realised`: on the newest payments whose labels have matured, a
    stretch as long as the window; None without such, or without a fraud among them. `why`: sentences of the findings
    that drifted.
    """

    version: int
    window: tuple[int, int]
    rows: int
    attributes: list[Shift]
    unk_share: float
    surprise: float
    score_psi: float
    alert_rate: float
    expected: Expected
    realised: Realised | None
    drifted: bool
    why: list[str]
    findings: list[Finding]


def drifted(log: TransactionTable, artifact: Path, since_ms: int, label_delay_ms: int) -> list[str]:
    """Why the version in `artifact` should be trained anew on what the log holds; empty where nothing has drifted.

    Compares the payments from `since_ms` to the log's end; earlier ones are their users' history. Raises BadInput where
    there are too few of them, or the version is of before `reference.json`.
    """
    return look(log, artifact, since_ms, int(log.time_ms[-1]) + 1, label_delay_ms).why


def look(log: TransactionTable, folder: Path, since_ms: int, until_ms: int, label_delay_ms: int) -> Drift:
    """Lay the payments with since <= event time < until beside what the training of the version in `folder` saw.

    Earlier payments of the log are the users' and merchants' history; the longer it is, the more the version knows, as
    in the stream. Raises BadInput for fewer than 100 payments and for a version without `reference.json`.
    """
    seen, manifest = load_reference(folder), load_manifest(folder)
    begin, end = np.searchsorted(log.time_ms, [since_ms, until_ms]).tolist()
    if end - begin < _LEAST_ROWS:
        raise BadInput(
            f"expected at least {_LEAST_ROWS} payments in the days compared, got {end - begin}: take more days (--days)"
        )
    matured = _matured(log, manifest, (since_ms, until_ms), label_delay_ms)
    rows = np.union1d(np.arange(begin, end), matured)
    scored = score_rows(folder, log.take(slice(0, end)), rows, label_delay_ms)
    window = scored.part(scored.rows >= begin)
    judged = scored.part(np.isin(scored.rows, matured))
    real = None
    if len(judged.rows):
        times, label, user = log.time_ms[judged.rows], log.label[judged.rows], log.user.index[judged.rows]
        real = realised(judged.score, label, user, manifest.threshold, int(times[0]), int(times[-1]) + 1)
    return compare(seen, window, manifest, (since_ms, until_ms), real)


def _matured(
    log: TransactionTable, manifest: Manifest, window: tuple[int, int], label_delay_ms: int
) -> NDArray[np.int64]:
    """Rows of the newest stretch as long as the window whose labels have had the time to come, which the version has
    not learnt from, and whose labels have come."""
    until = min(window[1], end_ms(log, label_delay_ms) - label_delay_ms)
    since = max(until - (window[1] - window[0]), manifest.seen_until)
    rows = np.flatnonzero((log.time_ms >= since) & (log.time_ms < until))
    return rows[log.label[rows] >= 0]


def compare(
    seen: Reference, window: Scored, manifest: Manifest, stretch: tuple[int, int], real: Realised | None
) -> Drift:
    """All checks of scored rows against what the training saw."""
    count, total = len(window.rows), window.surprise.sum(axis=1, dtype=np.float64)
    codes = attribute_codes(window.code)
    index = {name: stability_index(np.asarray(seen.codes[name]), counts_of(codes[name])) for name in SURPRISE}
    if not spans_a_day(window.code["hour"]):
        index.pop("hour")
    findings = [_attribute(name, psi) for name, psi in index.items()]
    unk, surprise = float(window.unk.mean()), float(total.mean())
    alerts = int((window.score >= manifest.threshold).sum())
    score_psi = stability_index(np.asarray(seen.scores), score_bins(window.score))
    promise = expected(window.score, manifest.threshold)
    findings += [
        _unknown(seen, unk, count),
        _surprise(seen, surprise, count),
        Finding("scores", None, score_psi, score_psi > SHIFTED, f"scores: stability index {score_psi:.3f}"),
        _alert_rate(seen, alerts, count),
        _promise(seen, promise),
    ]
    if real is not None:
        findings.append(_calibration(real))
    found = [finding.why for finding in findings if finding.drifted]
    return Drift(
        version=manifest.version,
        window=stretch,
        rows=count,
        attributes=[Shift(name, psi, psi > MOVED) for name, psi in index.items()],
        unk_share=unk,
        surprise=surprise,
        score_psi=score_psi,
        alert_rate=alerts / count,
        expected=promise,
        realised=real,
        drifted=bool(found),
        why=found,
        findings=findings,
    )


def _attribute(name: str, psi: float) -> Finding:
    why = f"{name}: stability index {psi:.3f} against the payments learnt from; from {MOVED:g} on it matters"
    return Finding(f"attribute {name}", None, psi, psi > MOVED, why)


def _unknown(seen: Reference, share: float, count: int) -> Finding:
    distance = least_distance((seen.unk_share, seen.rows), (share, count))
    why = f"combinations that the vocabulary lacks: {share:.2%} of the payments, {seen.unk_share:.2%} at training"
    return Finding("unk_share", seen.unk_share, share, distance > _EFFECT, why)


def _surprise(seen: Reference, mean: float, count: int) -> Finding:
    distance = least_distance((seen.surprise_mean, seen.rows), (mean, count), seen.surprise_std)
    why = (
        f"surprise: {mean:.2f} nats a payment, {seen.surprise_mean:.2f} at training (deviation "
        f"{seen.surprise_std:.2f}); {_EFFECT:g} deviations matter"
    )
    return Finding("surprise", seen.surprise_mean, mean, distance > _EFFECT, why)


def _alert_rate(seen: Reference, alerts: int, count: int) -> Finding:
    ratio = least_ratio((seen.alerts, seen.rows), (alerts, count))
    before, now = seen.alerts / seen.rows, alerts / count
    why = f"alerts on {now:.3%} of the payments, {before:.3%} at training; {_ALERT_RATIO:g} times, up or down, matters"
    return Finding("alert_rate", before, now, ratio > _ALERT_RATIO, why)


def _promise(seen: Reference, promise: Expected) -> Finding:
    worse = promise.high < _WORSE * seen.average_precision
    why = (
        f"expected average precision {promise.average_precision:.3f} [{promise.low:.3f}, {promise.high:.3f}] by the "
        f"scores, {seen.average_precision:.3f} at training; less than {_WORSE:g} of it matters"
    )
    return Finding("expected_average_precision", seen.average_precision, promise.average_precision, worse, why)


def _calibration(real: Realised) -> Finding:
    off = real.low > MISCALIBRATED or real.high < 1 / MISCALIBRATED
    why = (
        f"scores promise {real.promised:.2f} times the {real.frauds} frauds that labels confirm since then "
        f"[{real.low:.2f}, {real.high:.2f}]; {MISCALIBRATED:g} times, up or down, matters, and what scores promise "
        "holds no more"
    )
    return Finding("calibration", None, real.promised, off, why)


def newest(log: TransactionTable, days: float, label_delay_ms: int) -> tuple[int, int]:
    """The newest `days` of a log, epoch ms; a clock far ahead of all others does not end it."""
    until = end_ms(log, label_delay_ms) + 1
    return until - round(days * DAY_MS), until
