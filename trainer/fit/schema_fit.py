"""Fitting a schema to a log: buckets of amounts, words, and codes of profile facts when the caller gives none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np

from panther_core.base.console import say
from panther_core.data.schema import PROFILE_FIELDS, AttributeSchema, ProfileField, fit_schema
from panther_core.data.table import TransactionTable
from trainer.fit.train_config import TrainConfig

_BUCKETS = 5  # of a numeric fact
_WORDS = 50  # of a textual fact that get codes of their own


def fit_log_schema(
    seen: TransactionTable, profile: tuple[ProfileField, ...] | None, config: TrainConfig
) -> AttributeSchema:
    """Schema fitted on the words and amounts of a training window, and on its users' facts where `profile` is None."""
    if profile is None:
        profile = fit_profile(seen)
    schema = fit_schema(
        seen.amount,
        [seen.category.words[i] for i in np.unique(seen.category.index) if i >= 0],
        [seen.channel.words[i] for i in np.unique(seen.channel.index) if i >= 0],
        profile,
        config.amount_buckets,
        config.amount_scale,
    )
    # encoded and decoded as by the artifact: an edge given as 25 becomes 25.0, and the fingerprints of the two differ
    return msgspec.json.decode(msgspec.json.encode(schema), type=AttributeSchema)


def fit_profile(seen: TransactionTable) -> tuple[ProfileField, ...]:
    """Codes of the first PROFILE_FIELDS facts (quantile buckets of numbers, else the most frequent words), fitted
    on the profiles that rows of `seen` have.

    Users and facts that come later are left out, since the training window does not know them.
    """
    given = np.unique(seen.profile_places).tolist()
    facts = {name: [values[at] for at in given if values[at] is not None] for name, values in seen.profile.items()}
    if left := list(facts)[PROFILE_FIELDS:]:
        say(f"  profile: the first {PROFILE_FIELDS} facts count, not {', '.join(left)}")
    return tuple(_field(name, facts[name]) for name in list(facts)[:PROFILE_FIELDS])


def _field(name: str, values: list[Any]) -> ProfileField:
    if values and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _BUCKETS + 1)[1:-1]))
        return ProfileField(name, edges=tuple(float(f"{edge:.6g}") for edge in edges))
    common = Counter(str(v) for v in values).most_common(_WORDS)
    return ProfileField(name, values=tuple(sorted(word for word, _ in common)))
