"""Which state stores are set aside and restored anew: damaged ones, found at the opening or later, and no others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Options, Rdict

from stream.faust_recovery import guard_opening, noticing_damage


class Data:
    """What the guard needs of Faust's store: partition 0 in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._dbs = folder, dict[int, Rdict]()

    def partition_path(self, partition: int) -> Path:
        return self.folder / f"state-{partition}.db"

    def _open_for_partition(self, partition: int) -> Rdict:
        return Rdict(str(self.partition_path(partition)), Options(raw_mode=True))


class Table:
    """A Faust table."""

    def __init__(self, folder: Path) -> None:
        self.data = Data(folder)


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Its store has 2,000 keys in a file, and its opening is guarded."""
    out = Table(tmp_path)
    with_keys = out.data._open_for_partition(0)
    for i in range(2000):
        with_keys[b"%d" % i] = os.urandom(200)
    with_keys.flush()
    with_keys.close()
    guard_opening(out)
    return out


def aside(table: Any) -> int:
    """How many stores were set aside."""
    return len(list(table.data.folder.glob("*.damaged-*")))


def flip(table: Any, place: int) -> None:
    """Damage one byte of the file with the keys."""
    (path,) = table.data.partition_path(0).glob("*.sst")
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)


def test_a_damaged_index_is_found_at_the_opening(table: Any) -> None:
    flip(table, -200)  # "Corruption: block checksum mismatch" has the letters of "lock"
    assert table.data._open_for_partition(0).get(b"1") is None
    assert aside(table) == 1


def test_a_missing_file_is_damage(table: Any) -> None:
    (path,) = table.data.partition_path(0).glob("MANIFEST-*")
    path.unlink()
    assert table.data._open_for_partition(0).get(b"1") is None
    assert aside(table) == 1


def test_damaged_data_found_at_work_ends_it_and_is_restored_at_the_next_start(table: Any) -> None:
    flip(table, 5000)
    store = table.data._open_for_partition(0)
    with pytest.raises(Exception, match="Corruption"), noticing_damage(table, 0):
        store.get([b"%d" % i for i in range(2000)])
    assert not aside(table), "what is under way must not find an empty store"
    store.close()
    assert table.data._open_for_partition(0).get(b"1") is None
    assert aside(table) == 1
    assert not list(table.data.folder.glob("*.is-damaged"))


def test_a_store_that_another_has_open_stays(table: Any) -> None:
    store = table.data._open_for_partition(0)
    with pytest.raises(Exception, match=r"[Ll]ock"):
        table.data._open_for_partition(0)
    assert not aside(table)
    assert store.get(b"1") is not None


def test_a_store_that_a_full_disk_keeps_from_opening_stays(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Table(table.data.folder)

    def full(partition: int) -> Rdict:
        raise Exception("IO error: No space left on device: While appending to file: 000012.log")

    monkeypatch.setattr(inner.data, "_open_for_partition", full)
    guard_opening(inner)
    with pytest.raises(Exception, match="No space"):
        inner.data._open_for_partition(0)
    assert not aside(table)
