import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panther_core.data.schema import CODE, AttributeSchema, ProfileField, fit_schema, hour_of_week
from panther_core.data.vocabulary import fit_vocabulary

SCHEMA = fit_schema(
    np.arange(1, 101, dtype=float),
    ["food", "fuel"],
    ["chip", "online"],
    profile=(ProfileField("gender", values=("F", "M")), ProfileField("age", edges=(30, 60))),
    amount_buckets=10,
)


def test_codes_fit_eight_bytes() -> None:
    assert CODE.itemsize == 8


def test_unknown_words_are_code_zero_and_known_ones_are_stable() -> None:
    assert SCHEMA.category_codes(["fuel", "space travel", "food"]).tolist() == [2, 0, 1]
    assert SCHEMA.channel_codes(["chip", ""]).tolist() == [1, 0]


def test_amount_buckets_are_quantiles_including_their_lower_edge() -> None:
    codes = SCHEMA.amount_code(np.arange(1, 101, dtype=float))
    assert codes.min() == 1
    assert codes.max() == SCHEMA.sizes["amount"] - 1
    assert np.bincount(codes)[1:].tolist() == [10] * 10
    assert SCHEMA.amount_code(np.array([0.0, 1e9])).tolist() == [1, 10]


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"gender": "F", "age": 29}, [1, 1]),
        ({"gender": "M", "age": "61"}, [2, 3]),
        ({"gender": "x", "age": "old"}, [0, 0]),
        ({"age": 10**400}, [0, 0]),
        ({"age": "nan"}, [0, 0]),
        (None, [0, 0]),
    ],
)
def test_profile_codes_never_fail(profile: dict[str, str | float | int] | None, expected: list[int]) -> None:
    assert SCHEMA.profile_codes([profile])[0, :2].tolist() == expected
    beside = [profile, {"gender": "F", "age": 29}, {"gender": "M", "age": 61.5}]
    assert SCHEMA.profile_codes(beside)[:, :2].tolist() == [expected, [1, 1], [2, 3]]


def test_hour_of_week_starts_on_monday_utc() -> None:
    monday = np.array(["2018-04-02T00:30", "2018-04-08T23:59"], "datetime64[ms]").astype(np.int64)
    assert hour_of_week(monday).tolist() == [0, 167]


def test_fingerprint_changes_with_any_edge() -> None:
    other = AttributeSchema(SCHEMA.amount_edges[:-1], SCHEMA.categories, SCHEMA.channels)
    assert other.fingerprint != SCHEMA.fingerprint
    assert len(SCHEMA.fingerprint) == 64
    stored = msgspec.json.decode(msgspec.json.encode(SCHEMA), type=AttributeSchema)
    assert stored.fingerprint == SCHEMA.fingerprint, "also with whole-number edges, as SCHEMA has them"


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_vocabulary_round_trip_and_top_k(seed: int, top_k: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.zeros(500, CODE)
    for name in ("amount", "channel", "category", "risk"):
        codes[name] = rng.integers(0, SCHEMA.sizes[name], 500)
    vocabulary, coverage = fit_vocabulary(SCHEMA, codes, top_k)
    tokens = vocabulary.tokens(codes)
    assert vocabulary.size == min(top_k, len(np.unique(codes))) + 1
    assert coverage == pytest.approx((tokens > 0).mean())
    known = tokens > 0
    for name in ("amount", "channel", "category", "risk"):
        assert (vocabulary.codes()[name][tokens[known]] == codes[name][known]).all()
    # nothing left out is more frequent than the rarest token kept
    counts = np.bincount(tokens)[1:]
    left_out = np.unique(codes[~known], return_counts=True)[1]
    assert not len(left_out) or left_out.max() <= counts.min()
