"""`panther bench drift`: detectors of drift before labels, on generated logs whose shifts are known.

Each detector says on which days it alarms. On logs with a shift: how many days after it the first alarm comes, and the
share of shifts without any. On logs without: days with an alarm a month. One detector that always alarms and one that
never does stand beside the others: what does not beat both is no detector. Settings are the defaults of river, and
those chosen on the validation seeds; the figures are of other seeds.

ADWIN: Bifet and Gavalda, Learning from Time-Changing Data with Adaptive Windowing, 2007. Page-Hinkley: Page, Continuous
Inspection Schemes, 1954. Both as river.drift has them (https://riverml.xyz).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, PageHinkley

from bench.quality.drift_runs import KINDS, SHIFT_DAY, STABLE, STREAMS, TRAIN_DAYS, Run, runs
from panther_core.base.console import say
from trainer.drift.look import MOVED

Alarms = NDArray[np.bool_]  # [D]
Detector = Callable[[Run], Alarms]
MONTH, SHIFTED = 30.0, SHIFT_DAY - TRAIN_DAYS
_DELTAS, _THRESHOLDS = (0.002, 1e-5, 1e-10), (50.0, 200.0, 1000.0)  # the first is river's default
_LIMITS = (MOVED, 0.25, 0.05)  # the first is that of `panther drift`
_DAY_THRESHOLDS = (50.0, 10.0, 20.0, 100.0)
_MOST_FALSE = 1.0  # days with an alarm in a stable month, that a chosen setting may have on the validation seeds


def always(run: Run) -> Alarms:
    """Alarms every day."""
    return np.ones(run.days, np.bool_)


def never(run: Run) -> Alarms:
    """Alarms on no day."""
    return np.zeros(run.days, np.bool_)


def looked(limit: float, run: Run) -> Alarms:
    """Days on which `panther drift` finds drift, with `limit` as the stability index of an attribute that counts."""
    out = np.zeros(run.days, np.bool_)
    for name, verdicts in run.looks.items():
        if name != "any" and not name.startswith("attribute "):
            out |= verdicts
    for index in run.psi.values():
        out |= index > limit
    return out


def stream_alarms(make: Callable[[], Any], stream: str, by_day: bool, run: Run) -> Alarms:
    """Days with an alarm of a detector of river on a stream, by event or by the day's mean.

    A day's mean is in standard errors of a mean of so many events, so that one setting fits logs of any size.
    """
    value, day = run.streams[stream], run.day
    if by_day:
        count = np.bincount(day, minlength=run.days)
        mean = np.bincount(day, value, run.days) / np.maximum(count, 1)
        value, day = mean * np.sqrt(np.maximum(count, 1)), np.arange(run.days)
    detector, out = make(), np.zeros(run.days, np.bool_)
    for x, when in zip(value.tolist(), day.tolist(), strict=True):
        detector.update(x)
        if detector.drift_detected:
            out[when] = True
    return out


def families() -> dict[str, list[tuple[str, Detector]]]:
    """Detectors by name, each with its settings; the first is the default."""
    out: dict[str, list[tuple[str, Detector]]] = {
        "always": [("", always)],
        "never": [("", never)],
        "panther drift": [(f"index {limit:g}", partial(looked, limit)) for limit in _LIMITS],
    }
    for stream in STREAMS:
        for by_day in (False, True):
            where = f"{stream} by {'day' if by_day else 'event'}"
            clock = {"clock": 1} if by_day else {}
            out[f"ADWIN, {where}"] = [
                (f"delta {delta:g}", partial(stream_alarms, partial(ADWIN, delta=delta, **clock), stream, by_day))
                for delta in _DELTAS
            ]
            few = {"min_instances": 7} if by_day else {}
            out[f"Page-Hinkley, {where}"] = [
                (
                    f"threshold {most:g}",
                    partial(stream_alarms, partial(PageHinkley, threshold=most, **few), stream, by_day),
                )
                for most in (_DAY_THRESHOLDS if by_day else _THRESHOLDS)
            ]
    return out


def figures(alarms: Sequence[tuple[Run, Alarms]]) -> dict[str, Any]:
    """Of runs with their alarms: `delay_days` (mean of the detected ones; None without any), `missed` (share of the
    shifts), both also by kind; `false_alarms`, days with an alarm in a stable month; `by_chance`, share of the stable
    logs with an alarm on the days after the one of the shift: so many shifts would be found by one that sees none."""
    stable = [found for run, found in alarms if run.kind == STABLE]
    out: dict[str, Any] = {
        "false_alarms": sum(int(found.sum()) for found in stable) / max(sum(map(len, stable)), 1) * MONTH,
        "by_chance": float(np.mean([_delay(found) is not None for found in stable])) if stable else 0.0,
    }
    by_kind = {kind: [_delay(found) for run, found in alarms if run.kind == kind] for kind in KINDS}
    for name, delays in {"": [d for kind in by_kind.values() for d in kind], **by_kind}.items():
        found = [delay for delay in delays if delay is not None]
        figure = {
            "delay_days": float(np.mean(found)) if found else None,
            "missed": 1 - len(found) / max(len(delays), 1),
        }
        out.update(figure if not name else {name: figure})
    return out


def _delay(found: Alarms) -> int | None:
    after = np.flatnonzero(found[SHIFTED:])
    return int(after[0]) if len(after) else None


def chosen(settings: Mapping[str, dict[str, Any]]) -> str:
    """The setting with the fewest missed shifts and then the shortest delay, among those with at most one false alarm
    in a stable month; where none has so few, among those with the fewest."""
    most = max(_MOST_FALSE, min(found["false_alarms"] for found in settings.values()))
    quiet = [name for name, found in settings.items() if found["false_alarms"] <= most]
    return min(quiet, key=lambda name: (settings[name]["missed"], settings[name]["delay_days"] or 0.0))


def run_drift(folder: Path, tuning: Sequence[int], seeds: Sequence[int], users: int) -> dict[str, Any]:
    """Figures of each detector on `seeds`, with river's default and with the setting chosen on the seeds `tuning`."""
    known = {part: _alarms(numbers, folder, users) for part, numbers in (("tuning", tuning), ("tested", seeds))}
    rows = {}
    for name, settings in families().items():
        tuned = {setting: figures(known["tuning"][name, setting]) for setting, _ in settings}
        for how, setting in {"default": settings[0][0], "chosen": chosen(tuned)}.items():
            if how == "default" or len(settings) > 1:
                rows[f"{name} ({how})" if len(settings) > 1 else name] = {
                    "setting": setting,
                    **figures(known["tested"][name, setting]),
                }
    checks = sorted({check for _, check in known["tested"] if check.startswith("check ")})
    for check in checks:
        rows[check] = {"setting": "", **figures(known["tested"]["", check])}
    return {"users": users, "seeds": list(seeds), "tuning_seeds": list(tuning), "kinds": list(KINDS), "rows": rows}


def _alarms(seeds: Sequence[int], folder: Path, users: int) -> dict[tuple[str, str], list[tuple[Run, Alarms]]]:
    out: dict[tuple[str, str], list[tuple[Run, Alarms]]] = {}
    for seed in seeds:
        for run in runs(seed, folder, users):
            for name, settings in families().items():
                for setting, detect in settings:
                    out.setdefault((name, setting), []).append((run, detect(run)))
            checks = {name: found for name, found in run.looks.items() if not name.startswith(("any", "attribute "))}
            checks |= {f"attribute {name}": index > MOVED for name, index in run.psi.items()}
            for check, verdicts in checks.items():
                out.setdefault(("", f"check {check}"), []).append((run, verdicts))
            say(f"  seed {seed}, {run.kind}: {len(run.day):,} payments")
    return out
