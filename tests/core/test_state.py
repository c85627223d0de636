import numpy as np
import pytest

from panther_core.errors import FingerprintMismatch
from panther_core.schema import fit_schema
from panther_core.state import StateCodec, state_dtype

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
    assert 3000 < dtype.itemsize < 4096


@pytest.mark.parametrize("other", [StateCodec(SCHEMA, 32, 8), StateCodec(fit_schema(np.ones(3), ["x"], ["y"]), 16, 8)])
def test_foreign_states_are_refused_with_a_remedy(other: StateCodec) -> None:
    with pytest.raises(FingerprintMismatch, match="PANTHER_APP_ID"):
        CODEC.decode(other.encode(other.fresh(1)))
