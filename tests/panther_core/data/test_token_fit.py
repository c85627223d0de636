"""Fitting in two passes over parts gives what fitting on the whole table gives, and sees nothing too early."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.data.generator import GeneratorConfig, generate
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import fit_schema
from panther_core.data.table import TransactionTable, Words
from panther_core.data.token_fit import TokenOptions, fit_tokens
from panther_core.data.vocabulary import fit_vocabulary

DAY_MS = 86_400_000
OPTIONS = TokenOptions(top_k=150, label_delay_ms=DAY_MS)


@pytest.fixture(scope="module")
def log() -> TransactionTable:
    return generate(GeneratorConfig(users=60, days=60, merchants=40, seed=5))


def parts(table: TransactionTable, rows: int) -> Callable[[], Iterator[TransactionTable]]:
    return lambda: (table.take(slice(first, first + rows)) for first in range(0, len(table), rows))


def test_parts_give_what_the_whole_gives(log: TransactionTable) -> None:
    fitted = fit_tokens(parts(log, 1000), OPTIONS)
    assert fitted == fit_tokens(parts(log, 10**9), OPTIONS)
    until, end = round(len(log) * 0.7), int(len(log) * 0.3)
    early = log.take(slice(0, until))
    words = [[column.words[i] for i in np.unique(column.index) if i >= 0] for column in (early.category, early.channel)]
    schema = fit_schema(early.amount, *words)
    assert fitted.schema == schema
    events = log.events(schema, None)
    known = log.time_ms[:end] + DAY_MS <= log.time_ms[end]
    risk = MerchantRisk.fit(events["merchant"][:end][known], log.label[:end][known], schema.risk_levels)
    events["code"]["risk"] = risk.level(events["merchant"])
    vocabulary, coverage = fit_vocabulary(schema, events["code"][:until], 150)
    assert fitted.vocabulary == vocabulary
    assert fitted.report.fitted.covered == pytest.approx(coverage, abs=1e-6)
    assert 0 < coverage < 1
    assert fitted.report.later is not None
    assert fitted.report.later.covered == pytest.approx(
        (vocabulary.tokens(events["code"][until:]) > 0).mean(), abs=1e-6
    )


def test_later_rows_change_nothing_of_the_tokenizer(log: TransactionTable) -> None:
    until, end = round(len(log) * 0.7), int(len(log) * 0.3)
    row = np.arange(len(log))
    known = row[:end][log.time_ms[:end] + DAY_MS <= log.time_ms[end]]
    changed = replace(
        log,
        amount=np.where(row >= until, 1e6, log.amount),
        label=np.where(row > known[-1], 1 - np.maximum(log.label, 0), log.label).astype(np.int8),
        category=Words(np.where(row >= until, len(log.category.words), log.category.index), (*log.category.words, "x")),
    )
    assert changed.category[len(log) - 1] == "x"
    before, after = (fit_tokens(parts(table, 700), OPTIONS) for table in (log, changed))
    assert before.schema == after.schema
    assert before.vocabulary == after.vocabulary
    assert after.report.later is not None
    assert after.report.later.unknown == 1


def test_nothing_to_fit_on_is_an_error() -> None:
    with pytest.raises(BadInput, match="expected transactions, got none"):
        fit_tokens(lambda: iter(()), OPTIONS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coverage": 0.0}, "<= coverage <= 1, got 0"),
        ({"top_k": 0}, "<= top_k <="),
        ({"amount_scale": "linear"}, "amount_scale to be one of quantile, log, got 'linear'"),
    ],
)
def test_wrong_options(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        TokenOptions(**wrong)  # type: ignore[arg-type]
