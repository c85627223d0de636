"""Weights from a model of one log into a model of another: what means the same in both is taken over (paper C.2).

Tokens, categories, channels, risk levels and profile words are each log's own. Layers, prototypes, positions and the
heads behind them speak of neither; amount buckets (quantiles: no currency in them), time gaps, hours and flags mean
the same everywhere.
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
    """Overwrite what fits in `target`; returns the share of its parameters that came from `source`."""
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
    """Rows of `Panther.table` of each attribute."""
    bounds = [*panther.offsets.tolist()[1:], len(panther.table)]
    return dict(zip(ATTRIBUTES, zip(panther.offsets.tolist(), bounds, strict=True), strict=True))


def head_rows(panther: Panther) -> dict[str, Segment]:
    """Outputs of `Panther.attribute_heads` of each attribute."""
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
