"""The map of users: e_u on two principal components, coloured by a field of their profiles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from panther_core.data.schema import AttributeSchema, ProfileField
from trainer.report.facts import Embedding

Floats = NDArray[np.float64]
_GROUPS = 7  # so many colours can be told apart; the rarer values are joined as "other"


def measure_embedding(e_NU: Floats, profile_N8: NDArray[np.uint8], schema: AttributeSchema) -> Embedding:
    """Measure the map of N users from e_u [N, U] and profile codes [N, 8].

    The colouring field is the one whose values e_u tells apart best: the largest share of variance between them, less
    the share expected by chance.
    """
    xy_N2, explained = np.zeros((len(e_NU), 2)), np.zeros(2)  # a lone user has no neighbours to be placed among
    if len(e_NU) > 1:
        fit = PCA(n_components=2, svd_solver="full").fit(e_NU)
        xy_N2, explained = fit.transform(e_NU), fit.explained_variance_ratio_
    between, by_chance = {}, {}
    for at, field in enumerate(schema.profile):
        between[field.name] = between_share(e_NU, profile_N8[:, at])
        by_chance[field.name] = (len(np.unique(profile_N8[:, at])) - 1) / max(1, len(e_NU) - 1)
    name = max(between, key=lambda key: between[key] - by_chance[key]) if between else ""
    groups, group = ["users"], np.zeros(len(e_NU), np.int64)
    if name:
        at = [field.name for field in schema.profile].index(name)
        groups, group = _grouped(schema.profile[at], profile_N8[:, at])
    return Embedding(
        users=len(e_NU),
        explained=(float(explained[0]), float(explained[1])),
        between=between,
        by_chance=by_chance,
        field=name,
        groups=groups,
        x=xy_N2[:, 0].round(4).tolist(),
        y=xy_N2[:, 1].round(4).tolist(),
        group=group.tolist(),
    )


def between_share(x_ND: Floats, group_N: NDArray[np.integer]) -> float:
    """Share of the variance of x (sum over its dimensions) that lies between the groups' means: 0 none, 1 all."""
    if not len(x_ND):
        return 0.0
    _, at, count_G = np.unique(group_N, return_inverse=True, return_counts=True)
    centred = x_ND - x_ND.mean(axis=0)
    sum_GD = np.zeros((len(count_G), x_ND.shape[1]))
    np.add.at(sum_GD, at, centred)
    total = float((centred**2).sum())
    return float((sum_GD**2 / count_G[:, None]).sum() / total) if total else 0.0


def code_names(field: ProfileField) -> list[str]:
    """A name for each code of a profile field, 0 first."""
    if field.values:
        return ["unknown", *field.values]
    edges = [f"{edge:g}" for edge in field.edges]
    if not edges:
        return ["unknown", "known"]
    return [
        "unknown",
        f"under {edges[0]}",
        *(f"{a} to {b}" for a, b in pairwise(edges)),
        f"{edges[-1]} and over",
    ]


def _grouped(field: ProfileField, code_N: NDArray[np.uint8]) -> tuple[list[str], NDArray[np.int64]]:
    """Group names, and the group of each user: the most frequent values in the order of codes, then "other"."""
    names, count = code_names(field), np.bincount(code_N, minlength=field.size)
    kept = sorted(np.argsort(-count, kind="stable")[:_GROUPS].tolist())
    kept = [code for code in kept if count[code]]
    to_group = np.full(len(count), len(kept))
    to_group[kept] = np.arange(len(kept))
    group = to_group[code_N]
    return [names[code] for code in kept] + ["other"] * bool((group == len(kept)).any()), group
