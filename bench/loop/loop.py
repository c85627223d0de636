"""The loop of refreshes over a log, with the time of the log: what a running system would have done, turn by turn.

Training, the gate and its reasons are those of `panther refresh` (trainer.rollout), on the log as it was known at the
turn: payments before it, and labels that had arrived. A version's scores are those of a replay over each user's whole
past. They depend on nothing that comes later (tests/bench/loop), so they are computed once, up to the end of the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from rich.markup import escape

from bench.loop.plan import FIRST, Gate, Plan, Turn, check_folder
from bench.results import RunStore, key_of
from panther_core.artifact import MANIFEST
from panther_core.base.console import say
from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable
from panther_core.evaluation import fraud_metrics
from panther_core.report.curves import Floats
from panther_core.report.intervals import JudgedRows, interval
from trainer.drift.scored import scores_of
from trainer.fit.dataset import known_at
from trainer.fit.train_config import preset
from trainer.rollout.challenge import judge_challenger, train_challenger
from trainer.rollout.checks import Check, refusals
from trainer.training import train


class Loop:
    """A log, a plan, and the folder of what was done: `plan.json`, `runs.jsonl` (a line a turn), versions and scores.

    What an interrupted run of the same plan has finished is not done again.
    """

    def __init__(
        self, table: TransactionTable, plan: Plan, out: Path, profile: tuple[ProfileField, ...] | None = None
    ) -> None:
        """`table`: the whole log, up to the plan's end. Raises BadInput for the folder of another plan or log."""
        self.table, self.plan, self._profile = table, plan, profile
        self._key = check_folder(out, plan, table)
        self._models, self._scores = out / "models", out / "scores"
        self._turns = RunStore(out, Turn)
        self.rows = np.arange(int(np.searchsorted(table.time_ms, plan.start_ms)), len(table))
        """Rows that are decided: those from version 1 on."""

    def first(self) -> None:
        """Train version 1. Raises BadInput where too little was known by then."""
        if not (self._models / FIRST / MANIFEST).exists():
            plan = self.plan
            seen = known_at(self.table, plan.start_ms, plan.label_delay_ms)
            say(f"  version 1: {len(seen):,} payments before {_day(plan.start_ms)}")
            config, delay_ms = preset(plan.first), plan.label_delay_ms
            train(
                seen,
                self._models / FIRST,
                config=config,
                label_delay_ms=delay_ms,
                seed=plan.seed,
                profile=self._profile,
            )

    def run(self, gate: Gate) -> list[Turn]:
        """Every turn of a policy: all that were done before, then the others. A line is said of each."""
        led, turns = [FIRST], list[Turn]()
        for number, moment_ms in enumerate(self.plan.moments):
            if not number:
                continue
            key = key_of(self._key, self.plan, gate, number)
            turn = self._turns.find(key)
            if turn is None:
                turn = self._turns.add(self._turn(key, gate, number, moment_ms, led))
            led = turn.led
            turns.append(turn)
            _say(turn)
        return turns

    def scores(self, turns: list[Turn]) -> Floats:
        """Scores of `rows` by the version that was live; NaN for copies. No turns: those of version 1."""
        out = self.scored(FIRST)
        for turn in turns:
            since = self.table.time_ms[self.rows] >= turn.moment_ms
            out = np.where(since, self.scored(turn.led[-1]), out)
        return out

    def scored(self, version: str) -> Floats:
        """A version's scores of `rows` from its training on; NaN for earlier rows, and for copies."""
        file = self._scores / f"{version}.npy"
        if not file.exists():
            moment_ms = self.plan.moments[_turn_of(version)]
            since = self.rows[self.table.time_ms[self.rows] >= moment_ms]
            own, _ = scores_of(self._models / version, self.table, since, self.plan.label_delay_ms)
            out = np.full(len(self.rows), np.nan)
            out[len(out) - len(own) :] = own
            with written_whole(file) as part, part.open("wb") as opened:
                np.save(opened, out, allow_pickle=False)
        scores: Floats = np.load(file, allow_pickle=False)
        return scores

    def watch(self, log: TransactionTable, led: list[str]) -> tuple[list[str], str | None, str | None]:
        """The watch after a promotion: the newest promoted version of which labels of its own days have come, beside
        the version before it, which scored the same days in its shadow. If it was worse beyond chance, that one is
        live again, and all that came after it is taken back.

        Returns the versions that lead to the live one now, the one that was live and is taken back, and what was found.
        """
        decided = self.rows[self.rows < len(log)]
        label, time_ms = log.label[decided], log.time_ms[decided]
        for place in range(len(led) - 1, 0, -1):
            ends = [self.plan.moments[_turn_of(version)] for version in led[place + 1 : place + 2]]
            own = (time_ms >= self.plan.moments[_turn_of(led[place])]) & (label >= 0)
            own &= time_ms < (ends[0] if ends else self.plan.end_ms)
            scores = [self.scored(version)[: len(decided)] for version in (led[place], led[place - 1])]
            here = np.flatnonzero(own & np.isfinite(scores[0]) & np.isfinite(scores[1]))
            if not 0 < label[here].sum() < len(here):
                continue
            rows = JudgedRows.of(label[here], log.user.index[decided[here]], self.plan.seed)
            after, before = (fraud_metrics(score[here], label[here])["average_precision"] for score in scores)
            low, high = interval(rows.average_precision(scores[0][here]) - rows.average_precision(scores[1][here]))
            found = (
                f"version {led[place]} on the days since its promotion of which labels have come: average precision "
                f"{after:.4f}, the version before it {before:.4f}: {after - before:+.4f} [{low:+.4f}, {high:+.4f}]"
            )
            return (led[:place], led[-1], found) if high < 0 else (led, None, found)
        return led, None, None

    def _turn(self, key: str, gate: Gate, number: int, moment_ms: int, led: list[str]) -> Turn:
        log = known_at(self.table, moment_ms, self.plan.label_delay_ms)
        led, rolled_back, watched = self.watch(log, led)
        champion = led[-1]
        challenger: str | None = f"{champion}-{number}"
        base, folder = self._models / champion, self._models / f"{champion}-{number}"
        delay_ms, seed = self.plan.label_delay_ms, self.plan.seed
        checks, why = list[Check](), list[str]()
        try:
            if not (folder / MANIFEST).exists():  # else trained by the other policy, or before an interruption
                train_challenger(log, base, folder, number + 1, delay_ms, seed)
            if gate == "on":
                checks = judge_challenger(log, base, folder, delay_ms, None, seed).checks
                why = refusals(checks)
        except BadInput as error:
            challenger, why = None, [str(error)]
        promoted = challenger is not None and not why
        return Turn(
            key=key,
            number=number,
            gate=gate,
            moment_ms=moment_ms,
            champion=champion,
            challenger=challenger,
            promoted=promoted,
            why=why,
            rolled_back=rolled_back,
            watched=watched,
            led=[*led, challenger] if challenger is not None and not why else led,
            checks=[msgspec.to_builtins(check) for check in checks],
        )


def _turn_of(version: str) -> int:
    return int(version.split("-")[-1])


def _day(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms"))[:10]


def _say(turn: Turn) -> None:
    for line in _lines(turn):
        say(escape(line))


def _lines(turn: Turn) -> Iterator[str]:
    done = f"turn {turn.number}, {_day(turn.moment_ms)}, gate {turn.gate}"
    if turn.rolled_back is not None:
        yield f"  {done}: rolled back to {turn.champion}: {turn.watched}"
    if turn.promoted:
        yield f"  {done}: version {turn.challenger} goes live"
    else:
        yield f"  {done}: version {turn.champion} stays"
    for why in turn.why:
        yield f"      {why}"
