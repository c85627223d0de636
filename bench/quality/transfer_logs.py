"""The logs of `panther bench transfer`: a generated one, the same world paid in another currency, or files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.quality.transfer import Log
from panther_core.data.formats import read_table
from panther_core.data.generator import PROFILE, GeneratorConfig, generate

GENERATOR = "generator"
HERE = GeneratorConfig(users=600, days=60, seed=3)
#: other people, other merchants, more payments each; amounts are made some 160 times larger (EUR to JPY)
ELSEWHERE = GeneratorConfig(users=400, days=60, seed=11, merchants=500, mean_transactions_per_day=3)
YEN = 160.0


def target_log(data: str, format: str, transactions: int, generated: GeneratorConfig = HERE) -> Log:
    """The first `transactions` of the files in `data`, or of the generated log. Raises BadInput, InvalidFile."""
    if data == GENERATOR:
        return Log(GENERATOR, generate(generated).take(slice(0, transactions)), PROFILE)
    return Log(format, read_table(format, Path(data), limit=transactions))


def source_log(data: str, format: str, transactions: int) -> Log:
    """The same of the log to pretrain on; the generated one differs from that of `target_log`."""
    if data != GENERATOR:
        return target_log(data, format, transactions)
    table = generate(ELSEWHERE).take(slice(0, transactions))
    return Log("generator elsewhere", replace(table, amount=table.amount * YEN), PROFILE)
