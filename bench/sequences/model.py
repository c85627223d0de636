"""The model of `panther bench seqrec`: item embedding, learned positions, the encoder's layers, tied output.

Shapes: B rows, T positions, D width, N items (0 is padding), M predictions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.sequences.sequence_config import SequenceConfig
from panther_core.model.baselines import encoder_layers

_MAX_TEMPERATURE = 100.0


class SequenceModel(nn.Module):
    """The frame around every encoder. Item embeddings are scaled by sqrt(d), as in SASRec's and HSTU's own code."""

    def __init__(self, config: SequenceConfig, items: int) -> None:
        super().__init__()
        d = config.model.d
        self.config = config
        self.item_ND = nn.Parameter(torch.randn(items + 1, d) * 0.02)
        self.position_TD = nn.Parameter(torch.randn(config.model.length, d) * 0.02)
        self.dropout = nn.Dropout(config.model.dropout)
        self.layers = encoder_layers(config.model)
        self.norm = nn.LayerNorm(d)
        self.log_temperature = nn.Parameter(torch.tensor(10.0).log())

    def forward(self, items_BT: Tensor) -> Tensor:
        """State h [B, T, D] after each item; items are padded with 0 on the right."""
        scale = self.item_ND.shape[1] ** 0.5
        x_BTD = F.embedding(items_BT, self.item_ND) * scale + self.position_TD[: items_BT.shape[1]]
        x_BTD = self.dropout(x_BTD)
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        h_BTD: Tensor = self.norm(x_BTD)
        return h_BTD

    def query(self, h: Tensor) -> Tensor:
        """Vectors [..., D] whose products with `output_rows` are the logits of the next item."""
        if self.config.similarity == "dot":
            return h
        return F.normalize(h, dim=-1) * self.log_temperature.exp().clamp(max=_MAX_TEMPERATURE)

    def output_rows(self, items_M: Tensor | None = None) -> Tensor:
        """Output embeddings [M, D] of the given items, or [N + 1, D] of all items."""
        rows = self.item_ND if items_M is None else F.embedding(items_M, self.item_ND)
        return rows if self.config.similarity == "dot" else F.normalize(rows, dim=-1)
