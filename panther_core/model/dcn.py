"""DCN-v2 (arXiv 2008.13535), parallel: explicit crosses of the inputs beside a deep part, one logit a row.

Shapes: X width of the input, any leading shape.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from panther_core.model_config import ModelConfig


class CrossLayers(nn.ModuleList):
    """Explicit crosses: x_l+1 = x_0 * (W_l x_l + b_l) + x_l (DCN-v2, eq. 1)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__([nn.Linear(width, width) for _ in range(layers)])

    def forward(self, x0: Tensor) -> Tensor:
        """[..., X] to [..., X]."""
        x = x0
        for layer in self:
            x = x0 * layer(x) + x
        return x


class DeepLayers(nn.Sequential):
    """Two hidden layers, each followed by ReLU and dropout."""

    def __init__(self, width: int, hidden: int, rate: float) -> None:
        drop = nn.Dropout(rate)
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), drop, nn.Linear(hidden, hidden), nn.ReLU(), drop)


class Dcn(nn.Module):
    """Cross and deep layers sized by `cross_layers`, `head_hidden` and `head_dropout`. Untrained, it gives 0 for any
    row."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        hidden, rate = config.head_hidden, config.head_dropout
        self.cross = CrossLayers(width, config.cross_layers)
        self.deep = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(rate), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.dropout = nn.Dropout(rate)
        self.out = nn.Linear(width + hidden, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x0: Tensor) -> Tensor:
        """Logit [...] of standardised inputs [..., X]."""
        out: Tensor = self.out(self.dropout(torch.cat([self.cross(x0), self.deep(x0)], dim=-1)))
        return out[..., 0]
