"""`panther bench drift`: shifts are where they should be, and detectors get the figures that they must have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bench.quality.drift_detectors import SHIFTED, always, chosen, families, figures, never, run_drift
from bench.quality.drift_runs import DAYS, KINDS, SHIFT_DAY, STABLE, STREAMS, TRAIN_DAYS, Run, _config, _save, shifted
from panther_core.base.times import DAY_MS
from panther_core.data.generator import generate

USERS = 20
LIVE, A_DAY = DAYS - TRAIN_DAYS, 100


def made(kind: str, seed: int = 0) -> Run:
    """A run with noise in every stream, which jumps by three deviations where the kind is no stable one."""
    rng, day = np.random.default_rng(seed), np.repeat(np.arange(LIVE), A_DAY)
    jump = 3.0 * ((day >= SHIFTED) & (kind != STABLE))
    streams = {name: rng.standard_normal(len(day)) + jump for name in STREAMS}
    drifted = np.arange(LIVE) >= (SHIFTED + 2 if kind != STABLE else LIVE)
    return Run(kind, seed, day, streams, {"any": drifted, "attribute amount": drifted}, {"amount": 0.3 * drifted})


RUNS: Sequence[Run] = [made(kind, seed) for seed in (1, 2) for kind in (STABLE, *KINDS)]


def test_what_always_alarms_finds_all_at_once_and_is_wrong_every_day() -> None:
    found = figures([(run, always(run)) for run in RUNS])
    assert (found["delay_days"], found["missed"], found["by_chance"], found["false_alarms"]) == (0, 0, 1, 30)


def test_what_never_alarms_misses_all() -> None:
    found = figures([(run, never(run)) for run in RUNS])
    assert (found["delay_days"], found["missed"], found["by_chance"], found["false_alarms"]) == (None, 1, 0, 0)


def test_the_delay_counts_from_the_shift_and_by_kind() -> None:
    late = [(run, np.arange(LIVE) == (SHIFTED + 4 if run.kind == KINDS[0] else SHIFTED - 1)) for run in RUNS]
    found = figures(late)
    assert found[KINDS[0]] == {"delay_days": 4, "missed": 0}
    assert found[KINDS[1]] == {"delay_days": None, "missed": 1}
    assert found["missed"] == 1 - 1 / len(KINDS)
    assert found["false_alarms"] == pytest.approx(30 / LIVE)


@pytest.mark.parametrize("name", [name for name in families() if " by " in name])
def test_a_jump_of_three_deviations_is_found_by_each_detector(name: str) -> None:
    """At its default setting, and without an alarm on every second stable day."""
    setting, detect = families()[name][0]
    found = figures([(run, detect(run)) for run in RUNS])
    assert found["missed"] == 0, setting
    assert found["false_alarms"] < 15, setting


def test_a_setting_is_chosen_for_few_false_alarms_then_for_what_it_finds() -> None:
    settings = {
        "loud": {"false_alarms": 9.0, "missed": 0.0, "delay_days": 0.0},
        "late": {"false_alarms": 0.0, "missed": 0.5, "delay_days": 9.0},
        "early": {"false_alarms": 0.9, "missed": 0.5, "delay_days": 2.0},
        "deaf": {"false_alarms": 0.0, "missed": 1.0, "delay_days": None},
    }
    assert chosen(settings) == "early"
    assert chosen({"loud": settings["loud"], "louder": settings["loud"] | {"false_alarms": 20.0}}) == "loud"


def test_finished_runs_are_found_and_make_the_table(tmp_path: Path) -> None:
    for seed in (1, 2):
        for kind in (STABLE, *KINDS):
            _save(made(kind, seed), tmp_path / f"{USERS}-{seed}-{kind}.npz")
    rows = run_drift(tmp_path, [1], [2], USERS)["rows"]
    assert rows["always"]["false_alarms"] == 30
    assert rows["panther drift (default)"]["delay_days"] == 2
    assert rows["check attribute amount"]["missed"] == 0
    assert {"ADWIN, unk by event (default)", "Page-Hinkley, amount by day (chosen)"} <= rows.keys()


@pytest.mark.parametrize("kind", [STABLE, *KINDS])
def test_a_log_changes_from_its_day_on_and_not_before(kind: str) -> None:
    config = _config(3, USERS)
    table, moment = generate(config), config.start_ms + SHIFT_DAY * DAY_MS
    found = shifted(kind, table, config.start_ms, 3, USERS)
    early, late = (found.time_ms < moment), (found.time_ms >= moment)
    before = table.time_ms < moment
    assert (found.transaction_id[early] == table.transaction_id[before]).all()
    assert (found.amount[early] == table.amount[before]).all()
    assert (np.diff(found.time_ms) >= 0).all()
    paid = dict(zip(table.transaction_id.tolist(), table.amount.tolist(), strict=True))
    same = [
        paid.get(name) == amount for name, amount in zip(found.transaction_id[late], found.amount[late], strict=True)
    ]
    assert np.mean(same) == 1 if kind in (STABLE, "category") else np.mean(same) < 0.9
    new = np.array([found.category[row] == "a new category" for row in np.flatnonzero(late)])
    assert (0.05 < new.mean() < 0.15) if kind == "category" else not new.any()
    others = {found.user[row] for row in np.flatnonzero(late) if str(found.transaction_id[row]).startswith("other-")}
    assert (1 <= len(others) <= 0.3 * USERS) if kind in ("habits", "gradual") else not others
