"""Which label of a payment counts, and what its merchant is told. Reader and stream: tests/e2e/test_stream.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from panther_core.data.events import Label
from panther_core.data.table import hash_words
from stream.worker.decided import keys_of
from stream.worker.label_reader import _readable, _told
from stream.worker.paid import PREFIX, Paid, key_of, paid_pairs, read_paid

_DAY = 1_700_000_000_000


def kept(merchant: str = "shop ü") -> tuple[bytes, Paid]:
    """A payment as the worker keeps it."""
    hashes = np.zeros(1, [("user", "<u8"), ("transaction", "<u8")])
    hashes["user"], hashes["transaction"] = hash_words(["u"]), hash_words(["t"])
    one = np.array([_DAY])
    ((key, value),) = paid_pairs(keys_of(hashes), [merchant], one, one, np.array([2.5], np.float32))
    return key, read_paid(value)


def label(value: int, days: int) -> Label:
    return Label(transaction_id="t", user_id="u", label=value, label_time=_DAY + days * 86_400_000, source="s")


def record(offset: int, **changes: Any) -> Any:
    """A record that the broker got long after its label_time."""
    value = msgspec.to_builtins(label(1, 3)) | changes
    return SimpleNamespace(
        topic="fraud.labels", partition=1, offset=offset, key=b"u", value=msgspec.json.encode(value),
        timestamp=_DAY + 90 * 86_400_000,
    )  # fmt: skip


def test_a_label_finds_its_payment_by_user_and_transaction() -> None:
    key, paid = kept()
    assert key == key_of(label(1, 3))
    assert key.startswith(PREFIX)
    event = _told(paid, label(1, 3), record(7))
    assert event is not None
    assert (event.merchant_id, event.event_time, event.ratio) == ("shop ü", _DAY, 2.5)
    assert event.label_time == label(1, 3).label_time
    assert (event.label, event.label_before, event.source.partition, event.source.at) == (1, None, 1, 7)
    assert read_paid(paid.value).row["label"] == 1


def test_of_several_labels_the_newest_by_label_time_counts() -> None:
    paid = kept()[1]
    assert _told(paid, label(1, 3), record(7)) is not None
    assert _told(paid, label(1, 5), record(8)) is None, "nothing new"
    assert _told(paid, label(0, 2), record(9)) is None, "older"
    event = _told(paid, label(0, 5), record(10))
    assert event is not None
    assert (event.label, event.label_before) == (0, 1)
    assert _told(paid, label(1, 6), record(7)) is None, "a crash hands it out again, after a newer one was told"
    assert paid.row["n"][0] == 2


@pytest.mark.parametrize(
    "changes",
    [{"user_id": "another"}, {"label": 2}, {"label_time": _DAY + 92 * 86_400_000}, {"label_time": 5}, {"label": None}],
)
def test_a_record_that_is_no_label_is_skipped(changes: dict[str, Any]) -> None:
    assert _readable(record(0)) == label(1, 3)
    assert _readable(record(0, **changes)) is None
