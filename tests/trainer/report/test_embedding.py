"""The map of users: components, the share of variance a field explains, colours."""

from __future__ import annotations

import numpy as np
import pytest

from panther_core.data.schema import AttributeSchema, ProfileField
from trainer.report.embedding import between_share, code_names, measure_embedding

SCHEMA = AttributeSchema(
    amount_edges=(1.0,),
    categories=("a",),
    channels=(),
    profile=(ProfileField("noise", values=("x", "y")), ProfileField("age", edges=(30.0, 60.0))),
)


def test_the_field_that_tells_users_apart_colours_the_map() -> None:
    rng = np.random.default_rng(0)
    age = rng.integers(0, 4, 400)
    profile = np.zeros((400, 8), np.uint8)
    profile[:, 0], profile[:, 1] = rng.integers(1, 3, 400), age
    e = rng.normal(size=(4, 6))[age] * 3 + rng.normal(size=(400, 6))
    found = measure_embedding(e, profile, SCHEMA)
    assert found.field == "age"
    assert found.groups == ["unknown", "under 30", "30 to 60", "60 and over"]
    assert found.group == age.tolist()
    assert found.between["age"] > 0.5
    assert found.between["noise"] < 0.05
    assert found.by_chance["noise"] == pytest.approx(1 / 399)
    variance = np.var(e - e.mean(axis=0), axis=0).sum()
    assert sum(found.explained) == pytest.approx((np.var(found.x) + np.var(found.y)) / variance, rel=1e-3)


def test_without_a_profile_the_map_has_one_colour() -> None:
    plain = AttributeSchema(amount_edges=(1.0,), categories=("a",), channels=())
    found = measure_embedding(np.random.default_rng(0).normal(size=(9, 4)), np.zeros((9, 8), np.uint8), plain)
    assert (found.field, found.groups, set(found.group), found.between) == ("", ["users"], {0}, {})


def test_between_share_of_groups_that_are_all_or_nothing() -> None:
    x = np.array([[0.0, 1], [0, 1], [2, 5], [2, 5]])
    assert between_share(x, np.array([0, 0, 1, 1])) == pytest.approx(1)
    assert between_share(x, np.array([0, 1, 0, 1])) == pytest.approx(0)
    assert between_share(np.ones((4, 2)), np.array([0, 0, 1, 1])) == 0


def test_rare_values_are_joined() -> None:
    words = tuple("abcdefghij")
    schema = AttributeSchema((1.0,), ("a",), (), profile=(ProfileField("job", values=words),))
    profile = np.zeros((55, 8), np.uint8)
    profile[:, 0] = np.repeat(np.arange(1, 11), np.arange(1, 11))
    found = measure_embedding(np.random.default_rng(0).normal(size=(55, 3)), profile, schema)
    assert found.groups == [*"defghij", "other"]
    assert found.group.count(7) == 1 + 2 + 3
    assert code_names(ProfileField("flag")) == ["unknown", "known"]


def test_a_lone_user_has_a_map_too() -> None:
    found = measure_embedding(np.ones((1, 6)), np.ones((1, 8), np.uint8), SCHEMA)
    assert (found.users, found.x, found.explained) == (1, [0.0], (0.0, 0.0))
