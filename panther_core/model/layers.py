"""One PANTHER layer (paper 3.3): causal attention in parallel with SPRM, then feed-forward.

Shapes: B rows, T positions, D width, H heads, K = D / H, M prototypes. Padding is on the right; a causal layer computes
nothing before the padding from it. Everything but `attend` and the taps of the convolution works on any leading shape:
the incremental step (panther_core.model.kernels), which keeps keys, values and the last REACH inputs of each user, has
an attention and taps of its own, and uses `Sprm.convolve`, `Sprm.look_up` and `combine` of this file for the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panther_core.model_config import ModelConfig

#: distance of the furthest input of the causal convolutions: kernel 3 with dilation 2
REACH = 4
TAPS = (0, 1, 2, 4)  # distances that kernel 3 reaches with dilations 1 (0, 1, 2) and 2 (0, 2, 4)


class Sprm(nn.Module):
    """Structured pattern recognition: depthwise causal convolutions, then attention over learned prototypes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d
        self.near_3D = nn.Parameter(torch.randn(3, d) / 3)
        self.far_3D = nn.Parameter(torch.randn(3, d) / 3)
        self.bias_D = nn.Parameter(torch.zeros(d))
        self.prototypes_MD = nn.Parameter(torch.randn(config.prototypes, d))
        self.out = nn.Linear(d, d, bias=False)

    def taps(self, u_BTD: Tensor) -> list[Tensor]:
        """The inputs at distances TAPS before each position; zeros before the first."""
        padded, length = F.pad(u_BTD, (0, 0, REACH, 0)), u_BTD.shape[1]
        return [padded[:, REACH - tap : REACH - tap + length] for tap in TAPS]

    def taps_4D(self) -> Tensor:
        """Weights [4, D] at distances TAPS. The sum of two convolutions is one convolution with the sum of their
        kernels."""
        near, far = self.near_3D, self.far_3D
        return torch.stack([near[0] + far[0], near[1], near[2] + far[1], far[2]])

    def convolve(self, taps: list[Tensor]) -> Tensor:
        """H' [..., D] from inputs [..., D] at distances TAPS."""
        c = self.bias_D
        for tap, weight in zip(taps, self.taps_4D(), strict=True):
            c = c + tap * weight
        return c

    def weights(self, c: Tensor) -> Tensor:
        """Attention weights [..., M] over the prototypes; they add up to 1."""
        return torch.softmax(c @ self.prototypes_MD.T * c.shape[-1] ** -0.5, dim=-1)

    def look_up(self, c: Tensor) -> Tensor:
        """Output [..., D] of attention over the prototypes."""
        out: Tensor = self.weights(c) @ self.out(self.prototypes_MD)  # projects M rows, not all positions
        return out


class Layer(nn.Module):
    """x = x + Attn(u) + SPRM(u) with u = LN(x), then x = x + FFN(LN(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d
        self.heads = config.heads
        self.norm = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d, d)
        self.sprm = Sprm(config) if config.sprm else None
        self.ffn_norm = nn.LayerNorm(d)
        self.ffn = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.dropout = nn.Dropout(config.dropout)

    def project(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [..., H, K]."""
        q, k, v = self.qkv(u).view(*u.shape[:-1], 3, self.heads, -1).unbind(-3)
        return q, k, v

    def attend(self, u_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Causal self-attention over whole sequences: result [B, T, D] before the output projection, keys and values
        [B, H, T, K]."""
        q_BHTK, k_BHTK, v_BHTK = (part.transpose(1, 2) for part in self.project(u_BTD))
        a_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
        return a_BHTK.transpose(1, 2).flatten(2), k_BHTK, v_BHTK

    def newest(self, x_BTD: Tensor, u_BTD: Tensor, last_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The layer's output [B, D] at position `last` of each row alone, and keys and values of all positions.

        For an encoder's last layer when only the newest event's outputs are wanted. u = LN(x).
        """
        d, rows = x_BTD.shape[2], torch.arange(len(last_B), device=last_B.device)
        kv_BTE = F.linear(u_BTD, self.qkv.weight[d:], self.qkv.bias[d:])
        k_BHTK, v_BHTK = kv_BTE.view(*kv_BTE.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q_BD = F.linear(u_BTD[rows, last_B], self.qkv.weight[:d], self.qkv.bias[:d])
        seen_B11T = (torch.arange(x_BTD.shape[1], device=last_B.device) <= last_B[:, None])[:, None, None]
        q_BH1K = q_BD.view(len(last_B), self.heads, 1, -1)
        a_BHK = F.scaled_dot_product_attention(q_BH1K, k_BHTK, v_BHTK, attn_mask=seen_B11T)[:, :, 0]
        pattern = None
        if self.sprm is not None:
            at_B4 = last_B[:, None] - torch.tensor(TAPS, device=last_B.device)
            taps_B4D = u_BTD[rows[:, None], at_B4.clamp(min=0)] * (at_B4 >= 0)[..., None]
            pattern = self.sprm.look_up(self.sprm.convolve(list(taps_B4D.unbind(1))))
        return self.combine(x_BTD[rows, last_B], a_BHK.flatten(1), pattern), k_BHTK, v_BHTK

    def pattern(self, u_BTD: Tensor) -> Tensor | None:
        """The pattern branch [B, T, D]; None for the plain transformer."""
        return None if self.sprm is None else self.sprm.look_up(self.sprm.convolve(self.sprm.taps(u_BTD)))

    def combine(self, x: Tensor, attended: Tensor, pattern: Tensor | None) -> Tensor:
        """The layer's output [..., D] from its two branches: add them to x, then the feed-forward part."""
        branch = self.out(attended)
        if pattern is not None:
            branch = branch + pattern
        x = x + self.dropout(branch)
        out: Tensor = x + self.dropout(self.ffn(self.ffn_norm(x)))
        return out

    def since(self, x_BTD: Tensor, start: int) -> Tensor:
        """As `forward`, for positions from `start` on alone, [B, T - start, D].

        For an encoder's last layer when the outputs of earlier events are not wanted.
        """
        d, length = x_BTD.shape[2], x_BTD.shape[1]
        u_BTD = self.norm(x_BTD)
        kv_BTE = F.linear(u_BTD, self.qkv.weight[d:], self.qkv.bias[d:])
        k_BHTK, v_BHTK = kv_BTE.view(*kv_BTE.shape[:2], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q_BSD = F.linear(u_BTD[:, start:], self.qkv.weight[:d], self.qkv.bias[:d])
        q_BHSK = q_BSD.view(*q_BSD.shape[:2], self.heads, -1).transpose(1, 2)
        at_T = torch.arange(length, device=x_BTD.device)
        a_BHSK = F.scaled_dot_product_attention(q_BHSK, k_BHTK, v_BHTK, attn_mask=at_T <= at_T[start:, None])
        low = max(0, start - REACH)
        pattern = self.pattern(u_BTD[:, low:])
        if pattern is not None:
            pattern = pattern[:, start - low :]
        return self.combine(x_BTD[:, start:], a_BHSK.transpose(1, 2).flatten(2), pattern)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] to [B, T, D]; position t sees positions up to t only."""
        u_BTD = self.norm(x_BTD)
        return self.combine(x_BTD, self.attend(u_BTD)[0], self.pattern(u_BTD))
