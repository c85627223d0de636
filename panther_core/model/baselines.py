"""Encoder layers to compare PANTHER's with, each as its authors describe it; all map [B, T, D] to [B, T, D] causally.

Shapes: B rows, T positions, D width, H heads, K = D / H. Padding on the right, as in panther_core.model.layers.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panther_core.model.layers import Layer
from panther_core.model_config import ModelConfig


class SasRecLayer(nn.Module):
    """SASRec's block (arXiv 1808.09781, 3.2): y = x + Dropout(g(LayerNorm(x))) for attention, then for the FFN.

    Attention has no output projection; the point-wise FFN has the width of its input and a ReLU.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d
        self.heads, self.rate = config.heads, config.dropout
        self.norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.ffn_norm = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(d, d))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; position t sees positions up to t only."""
        q, k, v = self.qkv(self.norm(x_BTD)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        a_BHTK = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
        x_BTD = x_BTD + self.dropout(a_BHTK.transpose(1, 2).flatten(2))
        out: Tensor = x_BTD + self.dropout(self.ffn(self.ffn_norm(x_BTD)))
        return out


class HstuLayer(nn.Module):
    """HSTU's layer (arXiv 2402.17152, 3.2): U, V, Q, K = SiLU(f1(LN(x))); A = SiLU(Q K^T + rab) V / n without a
    softmax; y = x + f2(LN(A) * U). The relative bias rab depends on positions alone, since a layer is not given
    times."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d
        self.heads, self.length = config.heads, config.length
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.uvqk = nn.Linear(d, 4 * d, bias=False)
        # bias by distance; + 1 for the profile as first token
        self.bias_N = nn.Parameter(torch.randn(config.length + 1) * 0.02)
        self.attended_norm = nn.LayerNorm(d, eps=1e-6)
        self.out = nn.Linear(d, d)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D], T <= length + 1; position t sees positions up to t only."""
        u_BTD, *vqk = F.silu(self.uvqk(self.norm(x_BTD))).chunk(4, dim=-1)
        v, q, k = (part.reshape(*part.shape[:2], self.heads, -1).transpose(1, 2) for part in vqk)
        at = torch.arange(x_BTD.shape[1], device=x_BTD.device)
        distance_TT = at[:, None] - at
        weight_BHTT = F.silu(q @ k.transpose(2, 3) + self.bias_N[distance_TT.clamp(min=0)]) / self.length
        a_BTD = (weight_BHTT.masked_fill(distance_TT < 0, 0) @ v).transpose(1, 2).flatten(2)
        out: Tensor = x_BTD + self.out(self.dropout(self.attended_norm(a_BTD) * u_BTD))
        return out


def encoder_layers(config: ModelConfig) -> nn.ModuleList:
    """The layers that `config.encoder` names, each [B, T, D] -> [B, T, D]."""
    if config.encoder == "transformer":
        config = msgspec.structs.replace(config, sprm=False)
    kind = {"sasrec": SasRecLayer, "hstu": HstuLayer}.get(config.encoder, Layer)
    return nn.ModuleList([kind(config) for _ in range(config.layers)])
