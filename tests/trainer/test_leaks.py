"""Nothing that was not known at the time gets into training: slices, label delay, merchant risk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS, HOUR_MS
from panther_core.data.generator import PROFILE
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import fit_schema
from panther_core.data.table import TransactionTable
from trainer.fit.dataset import before, prepare_events, split
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.train_config import preset

CONFIG = preset("tiny")


def test_each_slice_uses_only_labels_matured_before_the_next(log: TransactionTable) -> None:
    rows = split(log, CONFIG, DAY_MS)
    finetune_from = int(len(log) * CONFIG.finetune_from)
    for part, next_slice in (
        (rows.risk, finetune_from),
        (rows.finetune, rows.validation_from),
        (rows.validation, rows.test_from),
    ):
        assert (log.time_ms[part] + DAY_MS <= log.time_ms[next_slice]).all()
    assert rows.finetune.min() >= finetune_from
    assert rows.validation.min() >= rows.validation_from
    assert rows.test.min() >= rows.test_from


def test_a_label_that_came_after_a_slices_end_is_not_in_it(log: TransactionTable) -> None:
    rows, told_ms = split(log, CONFIG, DAY_MS), log.time_ms + DAY_MS
    late = rows.finetune[log.label[rows.finetune] == 0][::2]
    told_ms[late] = log.time_ms[rows.test_from]
    told_ms[rows.validation_from - 1] -= DAY_MS  # nor one that came early, of the slice's last payment
    again = split(replace(log, told_ms=told_ms), CONFIG, DAY_MS)
    np.testing.assert_array_equal(again.finetune, np.setdiff1d(rows.finetune, late))
    np.testing.assert_array_equal(again.validation, rows.validation)


def test_a_slice_lasts_long_enough_for_half_of_its_labels_to_come(log: TransactionTable) -> None:
    delay_ms = 6 * DAY_MS  # the shares of the log last 4 to 8 days
    rows = split(log, structs.replace(CONFIG, finetune_from=0.6, validation_from=0.9, test_from=0.95), delay_ms)
    for part, end in ((rows.finetune, rows.validation_from), (rows.validation, rows.test_from)):
        assert log.time_ms[end] - log.time_ms[part[0]] >= 2 * delay_ms - HOUR_MS


def test_slices_of_a_refresh_follow_one_another_and_share_no_label(log: TransactionTable) -> None:
    """Without pauses the newest label that the head learns from is a label delay closer to the end, twice."""
    delay_ms, config = 4 * DAY_MS, structs.replace(CONFIG, validation_from=0.9, test_from=0.95)
    known = replace(log, label=np.where(log.time_ms + delay_ms <= log.time_ms[-1], log.label, -1).astype(np.int8))
    apart, close = (split(known, structs.replace(config, apart=flag), delay_ms) for flag in (True, False))
    assert close.finetune[-1] < close.validation_from <= close.validation[0]
    assert close.validation[-1] < close.test_from <= close.test[0]
    assert (known.label[np.concatenate([close.finetune, close.validation, close.test])] >= 0).all()
    np.testing.assert_array_equal(close.test, apart.test)
    newest_ms = [log.time_ms[rows.finetune[-1]] for rows in (apart, close)]
    assert newest_ms[1] - newest_ms[0] >= 2 * delay_ms - HOUR_MS
    assert log.time_ms[close.test_from] - log.time_ms[close.validation[0]] >= delay_ms - HOUR_MS
    assert not preset("refresh").apart


def test_frauds_in_waves_are_in_every_slice_of_a_training_that_fits_itself_to_its_log(log: TransactionTable) -> None:
    label, days = np.zeros(len(log), np.int8), (log.time_ms - log.time_ms[0]) // DAY_MS
    for day in (10, 11, 20, 21, 30):  # the default slices begin after the last of them
        label[np.flatnonzero(days == day)[:5]] = 1
    waves = replace(log, label=label)
    with pytest.raises(BadInput, match="slice"):
        split(waves, CONFIG, DAY_MS)
    rows = split(waves, structs.replace(CONFIG, sized=True), DAY_MS)
    assert [
        sorted({*days[part[label[part] == 1]].tolist()}) for part in (rows.finetune, rows.validation, rows.test)
    ] == [
        [10, 11],
        [20, 21],
        [30],
    ]
    assert (log.time_ms[rows.validation] + DAY_MS <= log.time_ms[rows.test_from]).all()
    once = replace(log, label=np.where(days == 10, label, 0).astype(np.int8))
    with pytest.raises(BadInput, match="slice"):
        split(once, structs.replace(CONFIG, sized=True), DAY_MS)


def test_a_log_that_ends_with_a_fraud_is_used_to_its_end(log: TransactionTable) -> None:
    label = np.append(log.label[:-2], np.ones(2, np.int8))
    assert split(replace(log, label=label), CONFIG, DAY_MS).test[-1] == len(log) - 1


def test_labels_that_were_not_known_yet_change_no_code(log: TransactionTable) -> None:
    rows = split(log, CONFIG, DAY_MS)
    schema = fit_schema(log.amount, log.category.words, log.channel.words, PROFILE)
    label = log.label.copy()
    label[rows.risk.max() + 1 :] = 1 - label[rows.risk.max() + 1 :]
    histories = [prepare_events(table, schema, rows, 16, DAY_MS)[0] for table in (log, replace(log, label=label))]
    np.testing.assert_array_equal(histories[0].code, histories[1].code)
    # a merchant is known by labels that have arrived, a day after their payments here, as of the full hour
    arrives_ms = (int(log.time_ms[rows.risk.max() + 1]) + DAY_MS) // HOUR_MS * HOUR_MS + HOUR_MS
    unknown = log.time_ms < arrives_ms
    np.testing.assert_array_equal(histories[0].features[unknown], histories[1].features[unknown])
    assert (histories[0].features[~unknown] != histories[1].features[~unknown]).any()


def test_users_who_come_later_shape_no_profile_field(log: TransactionTable) -> None:
    cut = split(log, CONFIG, DAY_MS).validation_from
    late = log.user.index % 3 == 0
    table = log.take(np.flatnonzero(~late | (np.arange(len(log)) >= cut)))
    users = range(len(table.user.words))
    odd = {name: ["odd" if u % 3 == 0 else values[u] for u in users] for name, values in table.profile.items()}
    assert odd != table.profile
    seen = slice(0, int(np.searchsorted(table.time_ms, log.time_ms[cut])))
    schemas = [fit_log_schema(t.take(seen), None, CONFIG) for t in (table, replace(table, profile=odd))]
    assert schemas[0].profile
    assert schemas[0] == schemas[1]


def test_unknown_labels_are_left_out(log: TransactionTable) -> None:
    label = log.label.copy()
    label[::2] = -1
    rows = split(replace(log, label=label), CONFIG, DAY_MS)
    assert (np.concatenate([rows.risk, rows.finetune, rows.validation, rows.test]) % 2 == 1).all()


def test_slices_end_where_labels_do(log: TransactionTable) -> None:
    settled = len(log) * 9 // 10
    label = log.label.copy()
    label[settled:] = -1
    rows = split(replace(log, label=label), CONFIG, DAY_MS)
    assert rows.test_from < rows.test.max() < settled
    assert 0 < log.label[rows.test].sum() < len(rows.test)
    # labels of payments that were looked into at once do not stretch the slices over what has none yet
    label[-20:-1] = 0
    early = split(replace(log, label=label), CONFIG, DAY_MS)
    newest_matured = np.flatnonzero(log.time_ms <= log.time_ms[-1] - DAY_MS)[-1]
    assert early.test.max() <= newest_matured


@pytest.mark.parametrize("ahead", [1, 7])
def test_a_clock_that_is_far_ahead_moves_no_slice(log: TransactionTable, ahead: int) -> None:
    """A few rows of 2099 are not the end of the log: the labels before them have had no time to come."""
    label, time_ms = log.label.copy(), log.time_ms.copy()
    label[len(log) * 9 // 10 :] = -1
    label[-20:-10] = 0
    label[-ahead:] = -1
    table = replace(log, label=label)
    time_ms[-ahead:] = 4_070_908_800_000 + np.arange(ahead)
    rows, odd = split(table, CONFIG, DAY_MS), split(replace(table, time_ms=time_ms), CONFIG, DAY_MS)
    assert rows.test.max() < len(log) - 20
    assert odd.test.max() <= rows.test.max()
    assert odd.test.max() >= rows.test.max() - 20, "some rows fewer, since the log ends some rows earlier"


def test_a_slice_without_fraud_says_so(log: TransactionTable) -> None:
    with pytest.raises(BadInput, match="fine-tuning slice"):
        split(replace(log, label=np.zeros_like(log.label)), CONFIG, DAY_MS)
    with pytest.raises(BadInput, match=r"365 days.*shorter label delay"):
        split(log, CONFIG, 365 * DAY_MS)


def test_history_before_a_row_has_no_later_event(log: TransactionTable) -> None:
    rows = split(log, CONFIG, DAY_MS)
    schema = fit_schema(log.amount, log.category.words, log.channel.words)
    history, _ = prepare_events(log, schema, rows, 16, DAY_MS)
    early = before(history, rows.validation_from)
    assert early.order.max() < rows.validation_from
    assert len(early.order) == rows.validation_from
    for low, high in zip(early.bounds[:-1], early.bounds[1:], strict=True):
        assert len(set(early.user[early.order[low:high]].tolist())) <= 1


def test_merchant_risk_shrinks_small_samples_and_orders_levels() -> None:
    merchant = np.repeat(np.array([5, 9, 7, 3], np.uint64), [3, 2000, 2000, 5000])
    label = np.zeros(len(merchant), np.int8)
    label[0] = 1  # one fraud in three
    label[3:103] = 1  # 5 %
    label[2003:2013] = 1  # 0.5 %
    risk = MerchantRisk.fit(merchant, label, 4)
    level = dict(zip(risk.merchant.tolist(), risk.levels.tolist(), strict=True))
    rate = dict(zip(risk.merchant.tolist(), risk.rate.tolist(), strict=True))
    assert level[3] == level[7] == 1
    assert level[9] >= 3
    assert rate[5] < 0.15
    assert risk.level(np.array([9, 1], np.uint64)).tolist() == [level[9], 0]


def test_merchant_risk_without_labels_knows_nobody() -> None:
    risk = MerchantRisk.fit(np.array([1, 2], np.uint64), np.array([-1, -1], np.int8), 4)
    assert risk.level(np.array([1, 2, 3], np.uint64)).tolist() == [0, 0, 0]
