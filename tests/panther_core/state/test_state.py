import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from panther_core.base.errors import FingerprintMismatch
from panther_core.data.schema import fit_schema
from panther_core.state.layouts import OLDER
from panther_core.state.record import LAYOUT_VERSION, StateCodec, state_dtype
from tests import DATA

SCHEMA = fit_schema(np.arange(1.0, 50.0), ["a", "b"], ["c"])
CODEC = StateCodec(SCHEMA, 16, 8)


def test_round_trip_of_any_bytes_the_layout_can_hold() -> None:
    states = CODEC.fresh(5)
    rng = np.random.default_rng(0)
    for name in ("n", "window_hash", "amount_mean", "cached", "ring"):
        column = states[name]
        column[...] = np.frombuffer(rng.bytes(column.nbytes), column.dtype).reshape(column.shape)
    values = CODEC.encode(states)
    assert [len(v) for v in values] == [CODEC.dtype.itemsize] * 5
    assert CODEC.decode(list(values)).tobytes() == states.tobytes()


def test_missing_values_are_fresh_users_and_the_result_is_writable() -> None:
    states = CODEC.decode([None, CODEC.encode(CODEC.fresh(1))[0], None])
    assert states["n"].tolist() == [0, 0, 0]
    assert states["last_offset"].tolist() == [-1, -1, -1]
    states["n"] += 1
    assert len(CODEC.decode([])) == 0


def test_layout_is_packed_and_its_size_is_known() -> None:
    dtype = state_dtype(256, 147)
    assert dtype.itemsize == sum(dtype[name].itemsize for name in dtype.names or ())
    assert 2048 < dtype.itemsize < 3400


@pytest.mark.parametrize("other", [StateCodec(SCHEMA, 32, 8), StateCodec(fit_schema(np.ones(3), ["x"], ["y"]), 16, 8)])
def test_foreign_states_are_refused_with_a_remedy(other: StateCodec) -> None:
    with pytest.raises(FingerprintMismatch, match="PANTHER_APP_ID"):
        CODEC.decode(other.encode(other.fresh(1)))


# ---- older layouts ----

GOLDEN = DATA / "state_layout_1.bin"


def random_states(dtype: np.dtype[np.void], count: int, seed: int) -> NDArray[np.void]:
    """States of any bytes at all, but for the header."""
    states = np.frombuffer(np.random.default_rng(seed).bytes(dtype.itemsize * count), dtype).copy()
    states["schema"] = CODEC.schema_id
    return states


@given(st.sampled_from(sorted(OLDER)), st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_states_of_older_layouts_come_back_with_equal_fields_and_are_written_in_the_current_one(
    layout: int, seed: int, count: int
) -> None:
    old = random_states(OLDER[layout](16, 8), count, seed)
    old["version"] = layout
    current = random_states(CODEC.dtype, 1, seed + 1)
    current["version"] = LAYOUT_VERSION
    # as it comes from a store during the days after an upgrade: both layouts, and users never seen
    states = CODEC.decode([current.tobytes(), None, *(state.tobytes() for state in old)])
    assert states[:1].tobytes() == current.tobytes()
    assert states["n"][1] == 0
    got = states[2:]
    assert set(old.dtype.names or ()) - set(got.dtype.names or ()) <= {"n_decisions", "decisions"}
    for name in {*(got.dtype.names or ())} & {*(old.dtype.names or ())} - {"version"}:
        assert got[name].tobytes() == old[name].tobytes(), name
    assert set(states["version"].tolist()) == {LAYOUT_VERSION}
    assert {len(value) for value in CODEC.encode(got)} == {CODEC.dtype.itemsize}


def test_bytes_that_the_release_of_layout_1_wrote_are_read_as_it_meant_them() -> None:
    """Written by that release's own code (L = 4, K = 2, any bytes); the numbers are what it says they hold."""
    data = GOLDEN.read_bytes()
    codec = StateCodec(SCHEMA, 4, 2)
    codec.schema_id = int.from_bytes(data[6:14], "little")
    states = codec.decode([data[:1046], data[1046:]])
    assert states["n"].tolist() == [6223855984903906735, 2537661954920461163]
    assert states["last_offset"].tolist() == [1235932028351864737, 2915763047022405248]
    assert states["ring"][1, 3].item() == (227, 74, 30529, 45, 201, 2, 60)
    assert states["cached"][1].tolist() == pytest.approx([-3.4426404e-19, 1.9745480e25])
    decisions = np.frombuffer(data, OLDER[1](4, 2))["decisions"]  # which no release after layout 2 reads
    assert decisions["expected"][1, 7, 2].item() == (152, 23, 5082, 122, 60, 20, 51)


def test_a_newer_or_unknown_layout_is_refused_with_a_remedy() -> None:
    newer = (LAYOUT_VERSION + 1).to_bytes(2, "little") + bytes(CODEC.dtype.itemsize + 6)
    with pytest.raises(FingerprintMismatch, match="newer release wrote"):
        CODEC.decode([newer])
    same_size = CODEC.fresh(1)
    same_size["version"] = LAYOUT_VERSION + 1
    with pytest.raises(FingerprintMismatch, match="newer release wrote"):
        CODEC.decode([same_size.tobytes()])
    with pytest.raises(FingerprintMismatch, match="another model shape"):
        CODEC.decode([b"\1\0" + bytes(100)])
    foreign = random_states(OLDER[1](16, 8), 1, 0)
    foreign["version"], foreign["schema"] = 1, 7
    with pytest.raises(FingerprintMismatch, match="schema"):
        CODEC.decode([foreign.tobytes()])
