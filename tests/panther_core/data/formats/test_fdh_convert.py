"""The handbook's pickles, read without running them; samples by pandas 1.1.5, 1.3.5, 1.5.3 and 2.2.3."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from panther_core.base.errors import InvalidFile
from panther_core.data.formats import read
from panther_core.data.formats.fdh_convert import SCHEMA, convert
from panther_core.data.formats.frame_pickle import ALLOWED, read_frame
from tests import DATA

DAYS = DATA / "fdh_pickles"


class Calls:
    """Pickles as a call of `function`, or as whatever `reduced` says."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def test_days_of_every_pandas_become_one_parquet_file_that_is_read_as_fdh(tmp_path: Path) -> None:
    done = convert(DAYS, tmp_path / "transactions.parquet")
    assert (done.days, done.transactions, done.frauds) == (4, 12, 4)
    assert pq.read_schema(tmp_path / "transactions.parquet").equals(SCHEMA)
    [table] = read("fdh", tmp_path)
    assert table.transaction_id.tolist() == [str(i) for i in range(12)]
    assert table.amount.tolist() == [57.16, 81.51, 146.0] * 4
    assert (table.user[1], table.merchant[1], table.label[2]) == ("4961", "3412", 1)
    assert table.fraud_kind is not None
    assert table.fraud_kind[2] == "customer_compromised"
    days = [1522540800000 + 86_400_000 * day for day in range(4)]
    assert table.time_ms.tolist() == [day + s * 1000 for day in days for s in (31, 130, 476)]
    assert [path.name for path in tmp_path.iterdir()] == ["transactions.parquet"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_calls_something_is_refused_and_does_not_run(protocol: int, tmp_path: Path) -> None:
    witness, day = tmp_path / "witness", tmp_path / "2018-04-01.pkl"
    day.write_bytes(pickle.dumps(Calls(os.system, (f"touch {witness}",)), protocol=protocol))
    with pytest.raises(InvalidFile, match=r"2018-04-01\.pkl: .*calls (posix|nt)\.system, which was not run"):
        convert(tmp_path, tmp_path / "out.parquet")
    assert not witness.exists()
    assert not (tmp_path / "out.parquet").exists()
    pickle.loads(day.read_bytes())  # the test's own check: unpickled as usual, it does run
    assert witness.exists()


def test_a_call_hidden_in_a_good_frame_is_refused(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    good = (DAYS / "2018-04-03.pkl").read_bytes()
    path = str(witness).encode()
    call = b"\x8c\x05posix\x8c\x05mkdir\x93X" + len(path).to_bytes(4, "little") + path + b"\x85R"
    bad = good[:2] + call + good[11:]  # protocol, the call left on the stack, the frame without its length
    pickle.loads(b"\x80\x04" + call + b".")  # the test's own check
    witness.rmdir()
    (tmp_path / "x.pkl").write_bytes(bad)
    with pytest.raises(InvalidFile, match=r"x\.pkl: .*calls posix\.mkdir"):
        read_frame(tmp_path / "x.pkl")
    assert not witness.exists()


def frames_that_abuse_what_is_allowed() -> dict[str, bytes]:
    from functools import partial

    from numpy._core.multiarray import _reconstruct  # type: ignore[attr-defined]

    # numpy itself takes these flags, and then takes the bytes for a pointer to an object
    forged = Calls(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))
    bytes_as_pointers = Calls(_reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), forged, False, b"\x41" * 8))
    plain = Calls(np.dtype, ("i8", False, True), (3, "<", None, None, None, -1, -1, 0))
    too_long = Calls(_reconstruct, (np.ndarray, (0,), b"b"), (1, (2**40,), plain, False, b"\x00" * 8))
    number = Calls(_reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), plain, False, b"\x00" * 8))
    name = b"\x8c\x11pandas.core.frame\x8c\x09DataFrame\x93"
    return {
        "bytes as pointers": pickle.dumps(bytes_as_pointers, protocol=4),
        "shape beyond the bytes": pickle.dumps(too_long, protocol=4),
        "structured dtype": pickle.dumps(Calls(np.dtype, ("V8", False, True)), protocol=4),
        "partial of another": pickle.dumps(partial(slice, 1), protocol=4),
        "not a frame": pickle.dumps(number, protocol=4),
        "attribute set on a class": b"\x80\x04" + name + b"N}\x8c\x07columns\x8c\x01xs\x86b.",
        "state for a class": b"\x80\x04" + name + b"}\x8c\x07columns\x8c\x01xsb.",
        "unknown instruction": b"\x80\x04" + b"Pid\n.",
        "cut off": (DAYS / "2018-04-01.pkl").read_bytes()[:-40],
        "empty": b"",
    }


@pytest.mark.parametrize("case", frames_that_abuse_what_is_allowed())
def test_allowed_names_cannot_be_abused(case: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(frames_that_abuse_what_is_allowed()[case])
    before = {cls: dict(vars(cls)) for cls in ALLOWED.values()}
    with pytest.raises(InvalidFile, match=r"x\.pkl: .*check that it is a DataFrame pickled by pandas 1 or 2"):
        read_frame(tmp_path / "x.pkl")
    assert {cls: dict(vars(cls)) for cls in ALLOWED.values()} == before


def test_any_damage_is_an_invalid_file_or_other_values_and_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for day in sorted(DAYS.glob("20*.pkl")):
        for _ in range(60):
            damaged = np.frombuffer(day.read_bytes(), np.uint8).copy()
            damaged[rng.integers(0, len(damaged), rng.integers(1, 4))] = rng.integers(0, 256)
            (tmp_path / "x.pkl").write_bytes(damaged.tobytes())
            try:
                read_frame(tmp_path / "x.pkl")
            except InvalidFile as error:
                assert str(error).startswith(f"{tmp_path / 'x.pkl'}: ")  # noqa: PT017
                refused += 1
    assert 60 < refused < 240


def test_a_slice_of_absurd_length_is_not_spelt_out() -> None:
    array = ALLOWED["numpy", "ndarray"]()
    array.values = np.zeros((2, 3))
    block = ALLOWED["pandas._libs.internals", "_unpickle_block"]
    assert block(array, slice(1, 5, 2), 2).places == [1, 3]
    with pytest.raises(ValueError, match="a place for each column"):
        block(array, slice(0, 10**15), 2)


def test_nothing_real_stands_behind_an_allowed_name() -> None:
    assert {cls.__module__ for cls in ALLOWED.values()} == {"panther_core.data.formats.frame_pickle", "builtins"}
    assert [name for name, cls in ALLOWED.items() if cls.__module__ == "builtins"] == [("builtins", "slice")]


def test_pandas_3_is_told_what_to_do() -> None:
    with pytest.raises(InvalidFile, match=r"pandas3\.pkl: .*calls pandas\.DataFrame.*save it as Parquet"):
        read_frame(DAYS / "pandas3.pkl")


def test_wrong_values_are_named_by_file_row_and_column(tmp_path: Path) -> None:
    shutil.copy(DAYS / "2018-04-01.pkl", tmp_path)
    day = (DAYS / "2018-04-02.pkl").read_bytes()
    assert day.count(np.float64(81.51).tobytes()) == 1
    (tmp_path / "2018-04-02.pkl").write_bytes(day.replace(np.float64(81.51).tobytes(), np.float64(-1).tobytes()))
    with pytest.raises(InvalidFile, match=r"2018-04-02\.pkl, row 2, column 'TX_AMOUNT': expected 0 <= amount"):
        convert(tmp_path, tmp_path / "out.parquet")
    assert not list(tmp_path.glob("out*"))
    (tmp_path / "2018-04-02.pkl").write_bytes(day.replace(b"TERMINAL_ID", b"TERMINAL_NO"))
    with pytest.raises(InvalidFile, match=r"2018-04-02\.pkl: expected a column 'TERMINAL_ID', got "):
        convert(tmp_path, tmp_path / "out.parquet")


def test_the_reader_says_how_to_convert() -> None:
    with pytest.raises(InvalidFile, match=r"found the handbook's pickles.*run `panther data convert-fdh .*fdh_pickles"):
        next(read("fdh", DAYS))


def test_a_folder_without_days(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"expected the handbook's days .*found none: check the path"):
        convert(tmp_path, tmp_path / "out.parquet")
