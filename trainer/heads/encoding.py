"""Piecewise-linear encoding of numeric columns for neural heads (Gorishniy et al., "On Embeddings for Numerical
Features in Tabular Deep Learning", NeurIPS 2022).

Shapes: N rows, F columns, T bins. Column f of a row becomes T numbers in 0..1: how much of each bin lies below the
value. The mean of the T numbers grows with the value and stays in 0..1 for outliers too; it stands for the value
itself.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_TINY = 1e-6  # edges closer than this, relative to the largest edge, are one


class PiecewiseLinear(nn.Module):
    """The encoding. Edges of bins are quantiles of the frauds and of the legitimate rows, so that bins divide both
    groups."""

    low_FT: Tensor
    width_FT: Tensor
    used_FT: Tensor
    mean_F: Tensor
    std_F: Tensor

    def __init__(self, values_NF: NDArray[np.float32], label: NDArray[np.int8], bins: int) -> None:
        super().__init__()
        edges = [_edges(column, label == 1, bins) for column in values_NF.T]
        most = max(len(e) - 1 for e in edges)
        low, width, used = np.zeros((3, len(edges), most), np.float32)
        for f, e in enumerate(edges):
            count = len(e) - 1
            low[f, :count], width[f, :count], used[f, :count] = e[:-1], np.diff(e), 1
        width[used == 0] = 1
        for name, array in (("low_FT", low), ("width_FT", width), ("used_FT", used)):
            self.register_buffer(name, torch.from_numpy(array))
        self.register_buffer("mean_F", torch.zeros(len(edges)))
        self.register_buffer("std_F", torch.ones(len(edges)))
        level = torch.cat([self.level(self(part)) for part in torch.split(torch.from_numpy(values_NF), 8192)])
        self.mean_F, self.std_F = level.mean(dim=0), level.std(dim=0).clamp(min=1e-3)

    @property
    def size(self) -> int:
        """Numbers in a row's encoding, F x T."""
        return self.low_FT.numel()

    def forward(self, x_NF: Tensor) -> Tensor:
        """Encoding [N, F, T] of values [N, F]."""
        filled = ((x_NF[..., None] - self.low_FT) / self.width_FT).clamp(0, 1)
        return filled * self.used_FT

    def level(self, encoded_NFT: Tensor) -> Tensor:
        """Mean over the bins of each column, standardised: [N, F]."""
        share = encoded_NFT.sum(dim=2) / self.used_FT.sum(dim=1)
        return (share - self.mean_F) / self.std_F


def _edges(column: NDArray[np.float32], fraud: NDArray[np.bool_], bins: int) -> NDArray[np.float32]:
    at = np.linspace(0, 1, bins + 1)
    edges = np.unique(np.concatenate([np.quantile(column[g], at) for g in (fraud, ~fraud)]).astype(np.float32))
    apart = np.append(True, np.diff(edges) > _TINY * max(1.0, float(np.abs(edges).max())))
    edges = edges[apart]
    return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1], np.float32)
