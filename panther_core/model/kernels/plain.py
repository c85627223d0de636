"""The incremental step in plain torch operators: what the kernels for CPU and GPU do, and are compared with in tests.

Works on every device, and slowly, because it gathers whole slabs.

Shapes as in panther_core.model.kernels.pool; B rows, E = 3 D.
"""

from __future__ import annotations

import torch
from torch import Tensor

Slabs = tuple[Tensor, Tensor]  # keys and values [U, H, T, K] of a layer


def append_attend(qkv_BE: Tensor, slabs: Slabs, slot_B: Tensor, at_B: Tensor) -> Tensor:
    """Put the keys and values of position `at` into each row's slab; return its attention over positions 0..at, [B, D].

    Keys and values are used as the slab holds them (rounded to its type), all arithmetic is float32, the result has
    the type of `qkv`. Two rows may have one slot only if they are equal.
    """
    keys_UHTK, values_UHTK = slabs
    _, heads, positions, width = keys_UHTK.shape
    q_BHK, k_BHK, v_BHK = qkv_BE.view(len(qkv_BE), 3, heads, width).unbind(1)
    keys_UHTK[slot_B, :, at_B] = k_BHK.to(keys_UHTK.dtype)
    values_UHTK[slot_B, :, at_B] = v_BHK.to(values_UHTK.dtype)
    k_BHTK, v_BHTK = keys_UHTK[slot_B].float(), values_UHTK[slot_B].float()
    seen_BT = torch.arange(positions, device=at_B.device) <= at_B[:, None]
    # products and sums, not matmul: autocast and TF32 leave them in float32
    score_BHT = (k_BHTK * q_BHK.float()[:, :, None]).sum(-1) * width**-0.5
    weight_BHT = score_BHT.masked_fill(~seen_BT[:, None], -torch.inf).softmax(-1)
    unwritten_B1T1 = ~seen_BT[:, None, :, None]  # slabs are allocated without values: NaN, for example
    out_BHK = (weight_BHT[..., None] * v_BHTK.masked_fill(unwritten_B1T1, 0)).sum(2)
    out_BD: Tensor = out_BHK.flatten(1).to(qkv_BE.dtype)
    return out_BD


def pooled_maximum(active_UTP: Tensor, new_BP: Tensor, slot_B: Tensor, at_B: Tensor, reach_P: Tensor) -> Tensor:
    """Write the newest activations (>= 0) at position `at`; maximum [B, P] over each filter's newest `reach` ones."""
    active_UTP[slot_B, at_B] = new_BP
    back_R = torch.arange(active_UTP.shape[1], device=at_B.device)
    position_BR = at_B[:, None] - back_R
    counts_BRP = (position_BR >= 0)[..., None] & (back_R[:, None] < reach_P)
    kept_BRP = active_UTP[slot_B[:, None], position_BR.clamp(min=0)]
    return torch.where(counts_BRP, kept_BRP, 0).amax(1)
