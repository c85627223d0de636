"""Which payments of a partition are decided when: in their order, each after its live decision, none for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from offline.shadow import partition as module
from offline.shadow.partition import Partition, Payment
from panther_core.data.table import TransactionTable
from tests.offline.parity.streamed import load


@pytest.fixture
def own(artifact_folder: Path) -> Partition:
    return Partition(load(artifact_folder), start=10)


def paid(log: TransactionTable, offset: int, age_s: float = 0) -> Payment:
    return Payment(offset, 0, next(log.take(slice(offset, offset + 1)).rows()), time.monotonic() - age_s)


def test_payments_wait_for_their_live_decisions_in_their_order(own: Partition, log: TransactionTable) -> None:
    own.waiting.extend(paid(log, offset) for offset in (10, 11, 12))
    own.note(12, (0, 7))
    own.note(9, (0, 1))  # of a payment before the start
    assert own.ready(no_more=True) == []
    own.note(10, (0, 3))
    own.note(10, (0, 4))  # said again: the first one counts
    assert [(payment.offset, seller) for payment, seller in own.ready(no_more=True)] == [(10, (0, 3))]
    own.note(11, (0, -1))
    assert [payment.offset for payment, _ in own.ready(no_more=True)] == [11, 12]
    assert own.named == {}
    own.note(11, (0, 5))  # once more, after its turn
    assert own.named == {}


def test_a_payment_waits_no_longer_than_there_are_decisions_to_come(
    own: Partition, log: TransactionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.waiting.extend(paid(log, offset, age_s=1e6) for offset in (10, 11))
    assert own.ready(no_more=False) == [], "its decision may be among those that are still to be read"
    assert [seller for _, seller in own.ready(no_more=True)] == [None, None]
    monkeypatch.setattr(module, "MOST_NAMED", 3)
    own.waiting.append(paid(log, 12))
    for offset in (13, 14):
        own.note(offset, (0, 1))
    assert own.ready(no_more=False) == []
    own.note(15, (0, 1))
    assert [payment.offset for payment, _ in own.ready(no_more=False)] == [12], "so many came after it"
