"""The logs of `panther bench transfer`: generated ones, which differ in users and currency, or files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.quality.transfer import NamedLog
from panther_core.data.formats import read_table
from panther_core.data.generator import PROFILE, GeneratorConfig, generate

GENERATOR = "generator"
HERE = GeneratorConfig(users=600, days=60, seed=3)
#: Other users, other merchants and more payments a user; amounts are multiplied by 160, as from EUR to JPY.
ELSEWHERE = GeneratorConfig(users=400, days=60, seed=11, merchants=500, mean_transactions_per_day=3)
YEN = 160.0


def target_log(data: str, format: str, transactions: int | None, generated: GeneratorConfig = HERE) -> NamedLog:
    """The first `transactions` of the files in `data`, or of the generated log; all, if None.

    Raises BadInput, InvalidFile."""
    if data == GENERATOR:
        return NamedLog(GENERATOR, generate(generated).take(slice(0, transactions)), PROFILE)
    return NamedLog(format, read_table(format, Path(data), limit=transactions))


def source_log(data: str, format: str, transactions: int) -> NamedLog:
    """The log to pretrain on, likewise; the generated one differs from that of `target_log`."""
    if data != GENERATOR:
        return target_log(data, format, transactions)
    table = generate(ELSEWHERE).take(slice(0, transactions))
    return NamedLog("generator elsewhere", replace(table, amount=table.amount * YEN), PROFILE)
