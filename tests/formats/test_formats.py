"""What holds for every reader: one suite, run over each of them."""

from pathlib import Path

import numpy as np
import pytest

from panther_core.errors import BadInput, InvalidFile
from panther_core.events import decode_transaction
from panther_core.formats import FORMATS, profile_fields, read
from panther_core.table import TransactionTable

DATA = Path(__file__).parent.parent / "data"
ROWS = {"fdh": 6, "sparkov": 4, "tabformer": 5, "generic": 3}


def ids(tables: list[TransactionTable]) -> list[str]:
    return [t for table in tables for t in table.transaction_id.tolist()]


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_all_rows_in_time_order(format: str) -> None:
    tables = list(read(format, DATA / format))
    time_ms = np.concatenate([t.time_ms for t in tables])
    assert len(time_ms) == ROWS[format]
    assert (np.diff(time_ms) >= 0).all()
    assert len(set(ids(tables))) == ROWS[format]


def test_batches_do_not_change_the_rows(format: str) -> None:
    whole = list(read(format, DATA / format))
    small = list(read(format, DATA / format, batch_rows=2))
    assert all(len(t) <= 2 for t in small)
    assert [r for t in small for r in t.rows()] == [r for t in whole for r in t.rows()]


def test_limit(format: str) -> None:
    everything = ids(list(read(format, DATA / format)))
    for limit in range(ROWS[format] + 2):
        assert ids(list(read(format, DATA / format, limit=limit, batch_rows=2))) == everything[:limit]


def test_start_is_inclusive_and_end_exclusive(format: str) -> None:
    [table] = read(format, DATA / format)
    cut = str(np.datetime64(int(table.time_ms[1]), "ms"))
    before = ids(list(read(format, DATA / format, end=cut)))
    after = ids(list(read(format, DATA / format, start=cut)))
    assert before + after == ids([table])
    assert before == [t for t, ms in zip(ids([table]), table.time_ms, strict=True) if ms < table.time_ms[1]]


def test_rows_pass_the_checks_of_the_stream(format: str) -> None:
    import msgspec

    for table in read(format, DATA / format):
        for row in table.rows():
            assert decode_transaction(msgspec.json.encode(row)) == row


def test_profile_fields_know_the_facts(format: str) -> None:
    [table] = read(format, DATA / format)
    for field in profile_fields(format):
        assert any(field.code(value) for value in table.profile[field.name]), field.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "csv"}, "expected format to be one of fdh, sparkov, tabformer, generic, got 'csv'"),
        ({"start": "yesterday"}, "expected start as a date"),
        ({"start": "2020-01-02", "end": "2020-01-02"}, "expected start before end"),
        ({"batch_rows": 0}, "batch_rows >= 1"),
        ({"limit": -1}, "limit >= 0"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read(**{"format": "fdh", "path": DATA / "fdh"} | options)  # type: ignore[arg-type]


def test_nothing_there(format: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="found none: check the path"):
        list(read(format, tmp_path))
    with pytest.raises(InvalidFile, match="found nothing: check the path"):
        list(read(format, tmp_path / "absent"))
