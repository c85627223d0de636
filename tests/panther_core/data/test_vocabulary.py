"""Buckets, counts of combinations, and the choice of tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from panther_core.base.errors import BadInput
from panther_core.data.schema import CODE, AttributeSchema, bucket_edges, fit_schema
from panther_core.data.vocabulary import ATTRIBUTES, Combinations, Vocabulary, fit_vocabulary, radix_of

SCHEMA = AttributeSchema((10.0, 20.0), ("food", "fuel"), ("chip",))
RADIX = radix_of(SCHEMA)


def random_codes(seed: int, count: int) -> np.ndarray:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    codes = np.zeros(count, CODE)
    for name in ATTRIBUTES:
        codes[name] = np.minimum(rng.geometric(0.5, count) - 1, SCHEMA.sizes[name] - 1)
    return codes


def test_quantile_buckets_hold_equal_counts_and_log_buckets_equal_ratios() -> None:
    amounts = np.random.default_rng(0).lognormal(3, 1.5, 20_000)
    quantile = bucket_edges(amounts, 10)
    share = np.bincount(np.searchsorted(quantile, amounts, side="right"), minlength=10) / len(amounts)
    np.testing.assert_allclose(share, 0.1, atol=0.001)
    log = np.array(bucket_edges(amounts, 10, "log"))
    np.testing.assert_allclose(log[1:] / log[:-1], (log[-1] / log[0]) ** (1 / 8), rtol=1e-4)
    assert len(quantile) == len(log) == 9
    assert (amounts < log[0]).mean() == pytest.approx(0.001, abs=1e-4)
    assert (amounts > log[-1]).mean() == pytest.approx(0.001, abs=1e-4)


def test_one_absurd_amount_moves_no_log_bucket_far() -> None:
    amounts = np.random.default_rng(0).lognormal(3, 1, 10_000)
    absurd = np.append(amounts, 1e9)
    np.testing.assert_allclose(bucket_edges(absurd, 20, "log"), bucket_edges(amounts, 20, "log"), rtol=0.05)


@pytest.mark.parametrize("scale", ["quantile", "log"])
@pytest.mark.parametrize("amounts", [[5.0], [0.0, 0.0], [0.0, 7.0], [1.0, 1.0, 1.0, 2.0]])
def test_few_or_equal_amounts_give_ascending_edges(scale: str, amounts: list[float]) -> None:
    edges = bucket_edges(np.array(amounts), 20, scale)  # type: ignore[arg-type]
    assert len(edges) <= 19
    assert list(edges) == sorted(set(edges))


def test_more_words_than_a_code_has_room_for_are_an_error() -> None:
    amounts = np.ones(3)
    assert len(fit_schema(amounts, [], [f"c{i}" for i in range(255)]).channels) == 255
    with pytest.raises(BadInput, match="at most 255 words of channel, got 256"):
        fit_schema(amounts, [], [f"c{i}" for i in range(256)])
    with pytest.raises(BadInput, match="at most 65535 words of category, got 65536"):
        fit_schema(amounts, [f"c{i}" for i in range(65_536)], [])


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_counts_of_parts_add_up_to_those_of_the_whole(seed: int, parts: int) -> None:
    codes = random_codes(seed, 200)
    whole = Combinations.of(codes, RADIX)
    total = Combinations.total([Combinations.of(part, RADIX) for part in np.array_split(codes, parts)], RADIX)
    assert total.numbers.tolist() == whole.numbers.tolist()
    assert total.counts.tolist() == whole.counts.tolist()
    assert total.events == 200
    for name in ATTRIBUTES:
        counted = np.bincount(total.attribute(name), weights=total.counts, minlength=RADIX[ATTRIBUTES.index(name)])
        assert counted.tolist() == np.bincount(codes[name], minlength=RADIX[ATTRIBUTES.index(name)]).tolist()


def test_the_total_of_nothing_is_empty() -> None:
    empty = Combinations.total([], RADIX)
    assert (empty.events, empty.keys(10), empty.needed(0.9)) == (0, (), 0)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1))
def test_coverage_keeps_the_fewest_tokens_that_reach_it(seed: int, coverage: float) -> None:
    codes = random_codes(seed, 300)
    vocabulary, covered = fit_vocabulary(SCHEMA, codes, coverage=coverage)
    assert covered >= coverage - 1e-9
    assert covered == pytest.approx((vocabulary.tokens(codes) > 0).mean())
    if vocabulary.size > 2:
        _, fewer = fit_vocabulary(SCHEMA, codes, top_k=vocabulary.size - 2)
        assert fewer < coverage


def test_whichever_is_less_of_top_k_and_coverage_holds() -> None:
    codes = random_codes(1, 5000)
    all_of_them, covered = fit_vocabulary(SCHEMA, codes)
    assert covered == 1
    assert all_of_them.size - 1 == len(np.unique(codes))
    assert fit_vocabulary(SCHEMA, codes, top_k=3, coverage=0.99)[0].size == 4
    assert fit_vocabulary(SCHEMA, codes, top_k=1000, coverage=0.9)[0].size < all_of_them.size


def test_ties_are_kept_by_number_so_that_the_vocabulary_is_reproducible() -> None:
    counts = Combinations(np.array([3, 5, 8, 9]), np.array([2, 7, 2, 2]), RADIX)
    assert counts.keys(2) == (3, 5)
    assert counts.keys(10, coverage=9 / 13) == (3, 5)
    assert Vocabulary(counts.keys(3), RADIX).size == 4
