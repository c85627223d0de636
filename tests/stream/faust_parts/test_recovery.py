"""Which state stores are set aside and restored anew: damaged ones, found at the opening or later, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rocksdict import Options, Rdict

from stream.faust_parts.recovery import guard_opening, noticing_damage, write_unlogged


class Data:
    """What the guard needs of Faust's store: partition 0 in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._dbs = folder, dict[int, Rdict]()

    def partition_path(self, partition: int) -> Path:
        return self.folder / f"state-{partition}.db"

    def _open_for_partition(self, partition: int) -> Rdict:
        options = Options(raw_mode=True)
        options.set_write_buffer_size(4 << 20)
        return Rdict(str(self.partition_path(partition)), options)


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


# writes states and how far they go, as a worker does, and is killed
_KILLED = """
import os, signal, sys
from pathlib import Path
from rocksdict import WriteBatch
from stream.faust_parts.recovery import write_unlogged
from tests.stream.faust_parts.test_recovery import Table

table = Table(Path(sys.argv[1]))
write_unlogged(table)
store = table.data._open_for_partition(0)
for offset in range(int(sys.argv[2])):
    batch = WriteBatch(raw_mode=True)
    batch.put(b"%d" % offset, os.urandom(4000))
    store.write(batch)
    store.put(b"offset", b"%d" % offset)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("written", [3, 5000])
def test_a_killed_workers_store_holds_all_that_its_offset_says(tmp_path: Path, written: int) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path), str(written)], check=False)
    assert killed.returncode == -9
    store = Table(tmp_path).data._open_for_partition(0)
    offset = int(store.get(b"offset") or -1)
    keys = {int(key) for key in store.keys() if key != b"offset"}  # noqa: SIM118 - a store is no dict
    assert offset + 1 <= len(keys) <= offset + 2  # killed between the two, it has one state more
    assert keys == set(range(len(keys)))
    assert len(keys) < written, "it was written with a log"
    assert offset > 1000 or written == 3, "nothing was flushed: the test shows nothing"


def test_a_store_that_is_dropped_has_everything_in_files(tmp_path: Path) -> None:
    """Faust does not close the stores of partitions it gives back, or of a worker that stops: it forgets them."""
    table: Any = Table(tmp_path)
    write_unlogged(table)
    store = table.data._open_for_partition(0)
    store.put(b"offset", b"1")
    del store
    assert table.data._open_for_partition(0).get(b"offset") == b"1"
