"""The simulated loop from end to end with a tiny model: point in time, the gate, the watch, and a run that goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from bench.loop.loop import Loop
from bench.loop.plan import FIRST, Plan, Turn, generated, some_users
from bench.loop.simulate import of_turns
from cli import app
from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.table import TransactionTable
from trainer.fit.dataset import known_at
from trainer.rollout.challenge import judge_challenger

USERS, FIRST_DAYS, DAYS, EVERY, DELAY_MS = 250, 30, 20, 8, DAY_MS


def command(out: Path) -> dict[str, Any]:
    size = f"--users {USERS} --first-days {FIRST_DAYS} --days {DAYS} --every {EVERY} --label-delay-days 1"
    argv = ["simulate", *size.split(), "--preset", "tiny", "--gate", "off", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, argv, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def log() -> TransactionTable:
    return generate(GeneratorConfig(**generated(USERS, FIRST_DAYS, DAYS, 0)))


@pytest.fixture(scope="module")
def plan(log: TransactionTable) -> Plan:
    day_0 = int(log.time_ms[0]) // DAY_MS * DAY_MS
    return Plan(
        start_ms=day_0 + FIRST_DAYS * DAY_MS,
        end_ms=day_0 + (FIRST_DAYS + DAYS) * DAY_MS,
        every_ms=EVERY * DAY_MS,
        label_delay_ms=DELAY_MS,
        drift_ms=day_0 + (FIRST_DAYS + DAYS // 2) * DAY_MS,
        first="tiny",
    )


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("simulate") / "run"


@pytest.fixture(scope="module")
def found(out: Path) -> dict[str, Any]:
    return command(out)


def turns(out: Path) -> list[Turn]:
    return [msgspec.json.decode(line, type=Turn) for line in (out / "runs.jsonl").read_bytes().splitlines()]


def test_says_what_the_loop_has_earned(found: dict[str, Any]) -> None:
    for name in ("recall_before", "recall_after_without", "recall_after_with"):
        assert 0 <= found[name] <= 1
    assert found["days_to_recovery"] is None or found["days_to_recovery"] >= 7
    assert found["promotions"] == found["turns"] == 2
    assert (found["refusals"], found["rollbacks"]) == ([], 0)
    assert found["gates"]["off"]["promotions"] == 2
    assert set(found["after"]["policies"]) == {"never", "gate off"}


def test_without_the_gate_every_challenger_goes_live(found: dict[str, Any], out: Path) -> None:
    assert [(turn.challenger, turn.promoted, turn.led[-1]) for turn in turns(out)] == [
        ("0-1", True, "0-1"),
        ("0-1-2", True, "0-1-2"),
    ]


def test_a_refusal_says_why_and_when() -> None:
    plan = Plan(start_ms=0, end_ms=30 * DAY_MS, every_ms=7 * DAY_MS, label_delay_ms=0)
    refused = Turn(
        key="a",
        number=1,
        gate="on",
        moment_ms=7 * DAY_MS,
        champion=FIRST,
        challenger="0-1",
        promoted=False,
        why=["worse", "slower"],
        rolled_back=None,
        watched=None,
        led=[FIRST],
        checks=[],
    )
    assert of_turns([refused], plan) == {
        "promotions": 0,
        "refusals": [{"day": 7.0, "why": "worse; slower"}],
        "rollbacks": 0,
    }


def test_an_interrupted_run_goes_on_where_it_was(found: dict[str, Any], out: Path) -> None:
    lines = (out / "runs.jsonl").read_text().splitlines(keepends=True)
    trained = load_manifest(out / "models" / "0-1").created_at
    (out / "runs.jsonl").write_text("".join(lines[:-1]))
    assert command(out) == found
    assert (out / "runs.jsonl").read_text() == "".join(lines)
    assert load_manifest(out / "models" / "0-1").created_at == trained
    with pytest.raises(BadInput, match="turns of this plan"):
        Loop(generate(GeneratorConfig(**generated(USERS, FIRST_DAYS, DAYS, 1))), _of(out), out)


def _of(out: Path) -> Plan:
    return Plan(**json.loads((out / "plan.json").read_text())["plan"])


def test_nothing_that_comes_later_changes_a_turn(
    found: dict[str, Any], log: TransactionTable, plan: Plan, out: Path, tmp_path: Path
) -> None:
    """Labels that arrive after the turn are all told otherwise, and payments after it are others."""
    moment_ms, rng = plan.moments[1], np.random.default_rng(0)
    later = log.time_ms >= moment_ms
    label = np.where(log.time_ms + DELAY_MS > moment_ms, 1 - log.label, log.label).astype(np.int8)
    amount = np.where(later, 7 * log.amount, log.amount)
    merchant = replace(log.merchant, index=np.where(later, rng.permutation(log.merchant.index), log.merchant.index))
    short = Plan(
        plan.start_ms, moment_ms + DAY_MS, plan.every_ms, DELAY_MS, first="tiny"
    )  # one turn; the changed day after it is in the log
    other = replace(log, label=label, amount=amount, merchant=merchant)
    loop = Loop(other.take(np.flatnonzero(log.time_ms < short.end_ms)), short, tmp_path, PROFILE)
    loop.first()
    [turn] = loop.run("on")
    models = out / "models"
    # equal but for rounding: with one thread two trainings in one process differ in their last digits
    checks = judge_challenger(known_at(log, moment_ms, DELAY_MS), models / FIRST, models / "0-1", DELAY_MS).checks
    assert [check["check"] for check in turn.checks] == [check.check for check in checks]
    for mine, theirs in zip(turn.checks, checks, strict=True):
        told = [(mine[name], getattr(theirs, name)) for name in ("champion", "challenger")]
        assert all(a == b or a == pytest.approx(b, rel=0.03, abs=1e-3) for a, b in told), mine
    sizes = [load_manifest(folder / "0-1").data_window for folder in (tmp_path / "models", models)]
    assert sizes[0] == sizes[1]
    scores, usual = loop.scored(FIRST), Loop(log, plan, out, PROFILE).scored(FIRST)
    early = np.flatnonzero(~later[loop.rows])
    np.testing.assert_allclose(scores[early], usual[early], atol=1e-3)
    assert not np.allclose(
        scores[later[loop.rows]], usual[: len(scores)][later[loop.rows]], atol=1e-2
    )  # others, indeed


@pytest.mark.parametrize(("sign", "led"), [(-1.0, [FIRST]), (1.0, [FIRST, "0-1"])])
def test_the_watch_takes_a_worse_version_back(
    sign: float, led: list[str], log: TransactionTable, plan: Plan, tmp_path: Path
) -> None:
    loop = Loop(log, plan, tmp_path)
    noise = np.random.default_rng(3).normal(0, 1, len(loop.rows))
    (tmp_path / "scores").mkdir()
    for version, knows in ((FIRST, 0.0), ("0-1", sign)):
        np.save(tmp_path / "scores" / f"{version}.npy", noise + 5 * knows * log.label[loop.rows])
    soon, late = (known_at(log, plan.moments[1] + days * DAY_MS, DELAY_MS) for days in (1, 9))
    assert loop.watch(soon, [FIRST, "0-1"]) == ([FIRST, "0-1"], None, None)  # no label of its own days has come
    after, taken_back, found = loop.watch(late, [FIRST, "0-1"])
    assert after == led
    assert taken_back == ("0-1" if sign < 0 else None)
    assert found is not None


def test_a_sample_of_users_is_always_the_same(log: TransactionTable) -> None:
    some, fewer = some_users(log, 30), some_users(log, 10)
    assert len(np.unique(some.user.index)) == 30
    assert set(np.unique(fewer.user.index)) < set(np.unique(some.user.index))
    assert len(some_users(log, 10**6)) == len(log)


def test_a_plan_without_a_turn_is_refused() -> None:
    with pytest.raises(BadInput, match="goes on for longer than one turn"):
        Plan(start_ms=0, end_ms=DAY_MS, every_ms=DAY_MS, label_delay_ms=0)
    with pytest.raises(BadInput, match="the drift after the first training"):
        Plan(start_ms=DAY_MS, end_ms=9 * DAY_MS, every_ms=DAY_MS, label_delay_ms=0, drift_ms=DAY_MS)
