"""Copies the weights that mean the same in two logs from one model to the other (paper C.2), for `bench transfer`.

Tokens, categories, channels, risk levels and profile words belong to one log each. Layers, prototypes, positions and
the heads behind them depend on no log. Amount buckets are quantiles without a currency, so they, time gaps, hours and
flags mean the same in every log.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from panther_core.decide.scoring import SURPRISE
from panther_core.model.codes import ATTRIBUTES
from panther_core.model.panther import Panther

OWN = ("table", "profile_table", "attribute_heads.weight", "attribute_heads.bias")
SHARED = ("amount", "gap", "hour", "flags")
Segment = tuple[int, int]


@torch.no_grad()
def carry_over(source: Panther, target: Panther) -> float:
    """Overwrite the weights of `target` that mean the same in `source`; returns their share of its parameters."""
    theirs, taken, total = dict(source.named_parameters()), 0, 0
    for name, parameter in target.named_parameters():
        total += parameter.numel()
        if name not in OWN and name in theirs and theirs[name].shape == parameter.shape:
            parameter.copy_(theirs[name])
            taken += parameter.numel()
    taken += _rows(source.table, target.table, table_rows(source), table_rows(target))
    heads = head_rows(source), head_rows(target)
    taken += _rows(source.attribute_heads.weight, target.attribute_heads.weight, *heads)
    taken += _rows(source.attribute_heads.bias, target.attribute_heads.bias, *heads)
    return taken / total


def table_rows(panther: Panther) -> dict[str, Segment]:
    """The rows of `Panther.table` that belong to each attribute."""
    bounds = [*panther.offsets.tolist()[1:], len(panther.table)]
    return dict(zip(ATTRIBUTES, zip(panther.offsets.tolist(), bounds, strict=True), strict=True))


def head_rows(panther: Panther) -> dict[str, Segment]:
    """The outputs of `Panther.attribute_heads` that belong to each attribute."""
    bounds = [0]
    for size in panther.surprise_sizes:
        bounds.append(bounds[-1] + size)
    return dict(zip(SURPRISE, pairwise(bounds), strict=True))


def _rows(source: torch.Tensor, target: torch.Tensor, at: dict[str, Segment], to: dict[str, Segment]) -> int:
    taken = 0
    for name in SHARED:
        if name in at and at[name][1] - at[name][0] == to[name][1] - to[name][0]:
            part = source[slice(*at[name])]
            target[slice(*to[name])] = part
            taken += part.numel()
    return taken
