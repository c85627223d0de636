"""What holds for every reader: one suite, run over each of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from panther_core.base.errors import BadInput, InvalidFile
from panther_core.data.events import decode_transaction
from panther_core.data.formats import FORMATS, profile_fields
from panther_core.data.formats import read as read_format
from panther_core.data.table import TransactionTable
from tests import DATA

# folders of samples in the owners' formats, named by format; rows in each
ROWS = {
    "fdh": 6, "sparkov": 4, "sparkov_original": 3, "sparkov_kaggle": 3, "tabformer": 5, "mbd": 4, "yelp": 4,
    "csv": 3,
}  # fmt: skip


def ids(tables: list[TransactionTable]) -> list[str]:
    return [t for table in tables for t in table.transaction_id.tolist()]


def format_of(folder: str) -> str:
    return folder.partition("_")[0]


def read(sample: str, path: Path, **options: Any) -> Iterator[TransactionTable]:
    return read_format(format_of(sample), path, **options)


@pytest.fixture(params=ROWS)
def sample(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_format_has_a_sample() -> None:
    assert {format_of(folder) for folder in ROWS} == set(FORMATS)


def test_all_rows_in_time_order(sample: str) -> None:
    tables = list(read(sample, DATA / sample))
    time_ms = np.concatenate([t.time_ms for t in tables])
    assert len(time_ms) == ROWS[sample]
    assert (np.diff(time_ms) >= 0).all()
    assert len(set(ids(tables))) == ROWS[sample]


def test_batches_do_not_change_the_rows(sample: str) -> None:
    whole = list(read(sample, DATA / sample))
    small = list(read(sample, DATA / sample, batch_rows=2))
    assert all(len(t) <= 2 for t in small)
    assert [r for t in small for r in t.rows()] == [r for t in whole for r in t.rows()]


def test_limit(sample: str) -> None:
    everything = ids(list(read(sample, DATA / sample)))
    for limit in range(ROWS[sample] + 2):
        assert ids(list(read(sample, DATA / sample, limit=limit, batch_rows=2))) == everything[:limit]


def test_start_is_inclusive_and_end_exclusive(sample: str) -> None:
    [table] = read(sample, DATA / sample)
    cut = str(np.datetime64(int(table.time_ms[1]), "ms"))
    before = ids(list(read(sample, DATA / sample, end=cut)))
    after = ids(list(read(sample, DATA / sample, start=cut)))
    assert before + after == ids([table])
    assert before == [t for t, ms in zip(ids([table]), table.time_ms, strict=True) if ms < table.time_ms[1]]


def test_rows_pass_the_checks_of_the_stream(sample: str) -> None:
    import msgspec

    for table in read(sample, DATA / sample):
        for row in table.rows():
            assert decode_transaction(msgspec.json.encode(row)) == row


def test_profile_fields_know_the_facts(sample: str) -> None:
    [table] = read(sample, DATA / sample)
    for field in profile_fields(format_of(sample)):
        assert any(field.code(value) for value in table.profile[field.name]), field.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "expected format to be one of csv, fdh, sparkov, tabformer, mbd, yelp .* got 'xml'"),
        ({"start": "yesterday"}, "expected start as a date"),
        ({"start": "2020-01-02", "end": "2020-01-02"}, "expected start before end"),
        ({"batch_rows": 0}, "batch_rows >= 1"),
        ({"limit": -1}, "limit >= 0"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_format(**{"format": "fdh", "path": DATA / "fdh"} | options)  # type: ignore[arg-type]


def test_nothing_there(sample: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="found none: check the path"):
        list(read(sample, tmp_path))
    with pytest.raises(InvalidFile, match="found nothing: check the path"):
        list(read(sample, tmp_path / "absent"))
