"""The Parquet log: each record once, whatever is cut off when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from panther_core.base.errors import BadInput
from panther_core.base.settings import PantherSettings
from panther_core.base.times import DAY_MS
from panther_core.data.schema import hash64
from panther_core.data.table import TransactionTable
from panther_core.data.topics import LABELS, TRANSACTIONS
from trainer.log import columns
from trainer.log.either import Log, open_log
from trainer.log.ingest import SCHEMAS, label_row, transaction_row
from trainer.log.reading import read_table
from trainer.log.store import LogBroken, LogStore, Row, hash_of

START = 1_750_000_000_000  # 2025-06-15
SETTINGS = PantherSettings(partitioner="none")


@pytest.fixture(params=[False, True], ids=["files", "delta"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """What holds for both kinds of log."""
    return open_log(tmp_path, request.param)


def record(offset: int, timestamp_ms: int, key: bytes, value: bytes | None) -> Any:
    return SimpleNamespace(partition=0, offset=offset, timestamp=timestamp_ms, key=key, value=value)


def paid(offset: int, user: str = "u", name: str = "", day: int = 0, **fields: object) -> Row:
    payment = {"transaction_id": name or f"t{offset}", "user_id": user, "merchant_id": "m", "amount": 5.0}
    payment |= {"merchant_category": "food", "currency": "EUR", "channel": "pos"}
    payment |= {"event_time": START + day * DAY_MS + offset}
    value = msgspec.json.encode(payment | fields)
    sent = record(offset, START + day * DAY_MS, user.encode(), value)
    return transaction_row(sent, SETTINGS, START + 100 * DAY_MS)


def told(
    offset: int, name: str, label: int, day: int, source: str = "analyst", user: str = "u", sent: int | None = None
) -> Row:
    """`sent`: the day of the record, that of the label if not given."""
    said = {
        "transaction_id": name,
        "user_id": user,
        "label": label,
        "label_time": START + day * DAY_MS,
        "source": source,
    }
    sent_ms = START + (day if sent is None else sent) * DAY_MS
    return label_row(record(offset, sent_ms, user.encode(), msgspec.json.encode(said)), START + 100 * DAY_MS)


def names(table: TransactionTable) -> list[str]:
    """Ids of a table that was read from a log, which keeps their hashes."""
    name_of = {hash64(name): name for name in [*(f"t{i}" for i in range(100)), "receipt 1"]}
    return [name_of[number] for number in table.transaction_hashes().tolist()]


def write(store: Log, rows: list[Row], topic: str = TRANSACTIONS, partition: int = 0) -> None:
    with store.writing(topic, partition):
        first = store.next_offset(topic, partition)
        store.write(topic, partition, rows, first, rows[-1].offset, SCHEMAS[topic])


def offsets(store: Log) -> list[int]:
    return sorted(store.dataset(TRANSACTIONS).to_table(columns=["offset"])["offset"].to_pylist())


def test_files_are_named_by_what_they_hold_and_lie_by_date(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    write(store, [paid(0), paid(1, day=1), paid(2)])
    (entry,) = store.entries(TRANSACTIONS)
    assert (entry.first, entry.last, entry.rows) == (0, 2, 3)
    name = "transactions-0-00000000000000000000-00000000000000000002.parquet"
    assert entry.files == [f"transactions/date=2025-06-15/{name}", f"transactions/date=2025-06-16/{name}"]
    assert store.next_offset(TRANSACTIONS, 0) == 3
    assert store.next_offset(TRANSACTIONS, 1) == 0
    assert store.dataset(TRANSACTIONS, "2025-06-16").count_rows() == 1
    with pytest.raises(BadInput, match="panther ingest"):
        store.dataset(TRANSACTIONS, "2030-01-01")


def test_what_a_cut_off_write_has_left_counts_for_nothing_and_goes(tmp_path: Path) -> None:
    """Killed between the files and the entry: the batch comes again, perhaps with other ends."""
    store = LogStore(tmp_path)
    write(store, [paid(0), paid(1)])
    write(store, [paid(2), paid(3)])
    (tmp_path / "catalogue" / f"{store.entries(TRANSACTIONS)[1].name}.json").unlink()
    assert (offsets(store), store.next_offset(TRANSACTIONS, 0)) == ([0, 1], 2)
    write(store, [paid(2), paid(3), paid(4)])
    assert offsets(store) == [0, 1, 2, 3, 4]
    assert len([*tmp_path.glob("transactions/*/*.parquet")]) == 2


def test_small_batches_are_joined_without_a_moment_in_which_a_record_is_there_twice(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    for offset in range(20):
        write(store, [paid(offset, day=offset % 2)])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".json", ".parquet")}
    with store.writing(TRANSACTIONS, 0):
        assert store.compact(TRANSACTIONS, 0, rows=10) == 18
    assert [(entry.first, entry.last) for entry in store.entries(TRANSACTIONS)] == [(0, 9), (10, 19)]
    assert offsets(store) == [*range(20)]
    for path, content in before.items():  # killed after the join, before what was joined is removed
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    assert offsets(store) == [*range(20)]
    with store.writing(TRANSACTIONS, 0):
        assert offsets(store) == [*range(20)]
    assert len([*tmp_path.glob("catalogue/*.json")]) == 2
    assert store.compact(TRANSACTIONS, 0, rows=10) == 0


def test_a_row_is_written_some_times_however_many_batches_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, joined = LogStore(tmp_path), list[int]()
    join = LogStore._join
    monkeypatch.setattr(LogStore, "_join", lambda self, run: (joined.append(sum(e.rows for e in run)), join(self, run)))
    with store.writing(TRANSACTIONS, 0):
        for offset in range(300):
            store.write(TRANSACTIONS, 0, [paid(offset)], offset, offset, SCHEMAS[TRANSACTIONS])
            store.compact(TRANSACTIONS, 0, rows=1000)
    assert offsets(store) == [*range(300)]
    assert len(store.entries(TRANSACTIONS)) < 20
    assert sum(joined) < 300 * np.log2(300)


def test_a_batch_whose_writer_was_cancelled_before_it_heard_is_there_once(store: Log) -> None:
    """Ctrl-C in the midst of a write: `panther ingest` waits for its end, and then writes all that it holds."""
    with store.writing(TRANSACTIONS, 0):
        for _ in range(2):
            store.write(TRANSACTIONS, 0, [paid(0), paid(1)], 0, 1, SCHEMAS[TRANSACTIONS])
    assert offsets(store) == [0, 1]


def test_whoever_reads_the_catalogue_while_another_process_joins_batches_sees_each_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = LogStore(tmp_path), Path.read_bytes
    with store.writing(TRANSACTIONS, 0):
        for offset in range(10):
            store.write(TRANSACTIONS, 0, [paid(offset)], offset, offset, SCHEMAS[TRANSACTIONS])
        store.compact(TRANSACTIONS, 0, rows=10)

    def forgotten_first(path: Path) -> bytes:
        monkeypatch.setattr(Path, "read_bytes", read)
        with LogStore(tmp_path).writing(TRANSACTIONS, 0):  # removes what is joined, after it was listed
            pass
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", forgotten_first)
    assert store.rows(TRANSACTIONS) == 10


def test_two_writers_never_have_one_partition(store: Log, tmp_path: Path) -> None:
    again = store.writing(TRANSACTIONS, 0)
    refused = pytest.raises(BadInput, match="no other writer of transactions 0")
    with store.writing(TRANSACTIONS, 0), store.writing(TRANSACTIONS, 1), refused, again:
        pass


def test_batches_that_overlap_are_no_log(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.write(TRANSACTIONS, 0, [paid(0), paid(5)], 0, 5, SCHEMAS[TRANSACTIONS])
    store.write(TRANSACTIONS, 0, [paid(4), paid(9)], 4, 9, SCHEMAS[TRANSACTIONS])
    with pytest.raises(LogBroken, match="do not overlap"):
        store.entries(TRANSACTIONS)


def test_a_bad_record_is_kept_with_its_reason_and_is_no_transaction(
    store: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = START + 100 * DAY_MS
    bad = [
        transaction_row(record(1, START, b"u", b"no payment"), SETTINGS, clock),
        transaction_row(record(2, START, b"another", paid(2).value), SETTINGS, clock),
    ]
    write(store, [paid(0), *bad])
    found = store.dataset(TRANSACTIONS).to_table().to_pydict()
    assert dict(zip(found["offset"], found["problem"], strict=True)) == {0: None, 1: "malformed_json", 2: "wrong_key"}
    assert found["value"][found["offset"].index(1)] == b"no payment"
    assert names(read_table(tmp_path)) == ["t0"]
    assert f"1 records in {tmp_path} are no payments and are left out: wrong_key 1" in capsys.readouterr().err


def test_of_several_labels_one_counts_by_time_then_source_then_place(store: Log, tmp_path: Path) -> None:
    others = [
        paid(6, day=30),
        paid(7, name="t5", amount=9.0),
        paid(8, name="t7"),
        paid(9, name="t8"),
        paid(9, name="t8"),
    ]
    write(store, [*map(paid, range(6)), *others])
    said = [
        told(0, "t0", 1, 3), told(1, "t0", 0, 2),  # an older word that came later
        told(2, "t1", 1, 3, "rule"), told(3, "t1", 0, 3, "chargeback"),  # of one moment: the source
        told(4, "t2", 1, 3), told(5, "t2", 0, 3),  # and the place
        told(6, "t3", 1, 40),  # not arrived yet
        told(7, "t5", 1, 3),  # of an id that was used twice
        told(8, "t4", 1, 3, user="somebody else"),
        told(9, "t7", 0, 20, "matured"), told(10, "t7", 1, 12),  # a report counts more than a payment's age
        told(11, "t8", 0, 3, "chargeback"), told(12, "t8", 1, 3, "rule"),
    ]  # fmt: skip
    write(store, said, LABELS)
    table = read_table(tmp_path)
    found = dict(zip(names(table), table.label.tolist(), strict=True))
    assert found == {"t0": 1, "t1": 0, "t2": 0, "t3": -1, "t4": -1, "t5": -1, "t6": -1, "t7": 1, "t8": 0}
    assert table.told_ms is not None
    days = dict(zip(names(table), ((table.told_ms - START) // DAY_MS).tolist(), strict=True))
    assert {name: days[name] for name, known in found.items() if known >= 0} == {
        "t0": 3, "t1": 3, "t2": 3, "t7": 12, "t8": 3,
    }  # fmt: skip
    assert np.all(np.diff(table.time_ms) >= 0)
    assert names(read_table(tmp_path, since_ms=START + DAY_MS)) == ["t6"]
    assert len(read_table(tmp_path, until_ms=START + DAY_MS)) == 10


def test_a_label_that_a_worker_does_not_take_is_none(store: Log, tmp_path: Path) -> None:
    """One of a clock that is weeks ahead would count over all that come until then; and another's key is no user's."""
    write(store, [*map(paid, range(2)), paid(2, day=50)])
    ahead, forged = told(0, "t0", 1, 40, sent=1), told(2, "t1", 1, 3)
    forged = label_row(record(2, START + 3 * DAY_MS, b"another", forged.value), START + 100 * DAY_MS)
    write(store, [ahead, told(1, "t0", 0, 5, "chargeback"), forged], LABELS)
    assert read_table(tmp_path).label.tolist() == [0, -1, -1]
    problems = store.dataset(LABELS).to_table(columns=["offset", "problem"]).to_pydict()
    said = dict(zip(problems["offset"], problems["problem"], strict=True))
    assert said[1] is None
    assert "at most a day after the record's time" in said[0]
    assert "the record key" in said[2]


def test_what_is_read_does_not_depend_on_how_many_rows_are_read_at_once(
    store: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    paid_on = [
        paid(i, f"u{i % 7}", merchant_id=f"m{i % 5}", day=int(rng.integers(4))) for i in rng.permutation(60).tolist()
    ]
    write(store, [row._replace(offset=i) for i, row in enumerate(paid_on)])
    users = [int(row.columns["transaction_id"][1:]) % 7 for row in paid_on]
    said = [
        told(i, paid_on[k].columns["transaction_id"], int(rng.integers(2)), int(rng.integers(3)), user=f"u{users[k]}")
        for i, k in enumerate(rng.integers(0, 60, 150))
    ]
    write(store, said, LABELS)
    whole = read_table(tmp_path)
    monkeypatch.setattr(columns, "_BATCH", 3)
    again = read_table(tmp_path)
    assert 0 < (whole.label >= 0).sum() < 60
    assert again.label.tolist() == whole.label.tolist()
    assert (again.user.words, again.merchant.words) == (whole.user.words, whole.merchant.words)
    for name in ("user", "merchant"):
        np.testing.assert_array_equal(getattr(again, name).index, getattr(whole, name).index)
    assert whole.user.words[0] == whole.user[0], "words stand in the order of the rows that they first come in"
    assert names(again) == names(whole)


def test_a_label_that_is_older_than_its_payment_is_of_another_one_with_its_id(store: Log, tmp_path: Path) -> None:
    write(store, [paid(0, name="receipt 1"), paid(1, name="receipt 1", day=100)])
    write(store, [told(0, "receipt 1", 1, 5)], LABELS)
    assert read_table(tmp_path, since_ms=START + 50 * DAY_MS).label.tolist() == [-1]
    assert read_table(tmp_path, until_ms=START + 50 * DAY_MS).label.tolist() == [-1], "it has not arrived"


def test_a_label_of_a_payment_whose_clock_is_ahead_is_its_own(store: Log, tmp_path: Path) -> None:
    """A rule says so at once, by a clock that is right."""
    write(store, [paid(0, event_time=START + DAY_MS - 1), paid(1, day=2)])
    write(store, [told(0, "t0", 1, 0, "rule")], LABELS)
    assert read_table(tmp_path).label.tolist() == [1, -1]


def test_with_rates_there_is_one_currency(store: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(store, [paid(0), paid(1, currency="USD", amount=10.0), paid(2, currency="GBP")])
    table = read_table(tmp_path, rates={"EUR": 1.0, "USD": 0.92})
    assert table.amount.tolist() == [5.0, pytest.approx(9.2)]
    assert table.currency.words == ("EUR",)
    assert "1 payments in currencies that PANTHER_RATES does not name are left out" in capsys.readouterr().err
    assert len(read_table(tmp_path)) == 3


def test_a_log_says_how_much_it_holds_and_where_to_go_on(store: Log, tmp_path: Path) -> None:
    assert (store.rows(TRANSACTIONS), store.rows_by_date(TRANSACTIONS), store.next_offset(TRANSACTIONS, 0)) == (
        0,
        {},
        0,
    )
    assert store.last_hash(TRANSACTIONS, 0) is None
    write(store, [paid(0), paid(1, day=1), paid(2)])
    write(store, [paid(0)], partition=1)
    write(store, [paid(7)])  # with a gap before it, as compaction leaves one
    again = open_log(tmp_path)  # what kind it is its folder says
    assert type(again) is type(store)
    assert (again.rows(TRANSACTIONS), again.rows_by_date(TRANSACTIONS)) == (
        5,
        {"2025-06-15": 4, "2025-06-16": 1},
    )
    assert [again.next_offset(TRANSACTIONS, partition) for partition in (0, 1, 2)] == [8, 1, 0]
    assert again.last_hash(TRANSACTIONS, 0) == hash_of(paid(7).value)
    assert again.dataset(TRANSACTIONS, "2025-06-16").count_rows() == 1
    with pytest.raises(BadInput, match="panther ingest"):
        again.dataset(TRANSACTIONS, "2030-01-01")


def test_small_files_of_a_delta_table_are_joined(tmp_path: Path) -> None:
    store = open_log(tmp_path, delta=True)
    for offset in range(70):
        write(store, [paid(offset)])
    assert store.compact(TRANSACTIONS, 0, 0) == 69
    assert offsets(store) == [*range(70)]
    assert store.next_offset(TRANSACTIONS, 0) == 70


def test_files_and_delta_tables_do_not_lie_in_one_folder(tmp_path: Path) -> None:
    write(LogStore(tmp_path), [paid(0)])
    with pytest.raises(BadInput, match="expected a new folder for Delta Lake tables"):
        open_log(tmp_path, delta=True)
