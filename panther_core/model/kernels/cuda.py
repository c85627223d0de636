"""GPU kernels of the incremental step, in the Triton language (which is unrelated to the Triton server): the functions
of panther_core.model.kernels.plain, with the slabs read in place.

One program a row and head reads the row's keys and values once, a block of positions at a time, under a running
softmax in float32. This module is imported when a model is loaded on a GPU, so a machine without one does not need the
package `triton` (torch for Linux brings it). With TRITON_INTERPRET=1 set before the import the kernels run on CPU
tensors, slowly; tests do this where there is no GPU. Block sizes are not tuned. The
kernels' arguments have no types, because Triton's compiler takes a name such as `Any` for a global variable and
refuses it.

Shapes as in panther_core.model.kernels.pool; B rows, E = 3 D.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from panther_core.model.kernels.plain import Slabs

_BLOCK = 32  # positions at a time


@triton.jit
def _append_attend(
    qkv,
    keys,
    values,
    slots,
    ats,
    out,
    heads,
    positions,
    width,
    scale,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program (row, head); WIDTH is `width` rounded up to a power of two, as blocks must be."""
    row, head = tl.program_id(0), tl.program_id(1)
    slot, at = tl.load(slots + row), tl.load(ats + row)  # int64: a pool has more than 2^31 elements
    j = tl.arange(0, WIDTH)
    inside = j < width
    d = heads * width
    newest = qkv + row * 3 * d + head * width + j
    slab = (slot * heads + head) * positions * width
    q = tl.load(newest, mask=inside, other=0.0).to(tl.float32) * scale
    k = tl.load(newest + d, mask=inside, other=0.0).to(keys.dtype.element_ty)
    v = tl.load(newest + 2 * d, mask=inside, other=0.0).to(values.dtype.element_ty)
    tl.store(keys + slab + at * width + j, k, mask=inside)
    tl.store(values + slab + at * width + j, v, mask=inside)
    # The running softmax starts with the newest position, from registers; the loop reads earlier positions alone, so
    # that it never reads what this program has just written.
    top = tl.sum(k.to(tl.float32) * q, 0)
    total = tl.exp(top - top)
    mixed = v.to(tl.float32)
    for first in range(0, at, BLOCK):
        t = first + tl.arange(0, BLOCK)
        seen = t < at
        place = slab + t[:, None] * width + j[None, :]
        there = seen[:, None] & inside[None, :]
        k_TK = tl.load(keys + place, mask=there, other=0.0).to(tl.float32)
        v_TK = tl.load(values + place, mask=there, other=0.0).to(tl.float32)
        score = tl.where(seen, tl.sum(k_TK * q[None, :], 1), float("-inf"))
        higher = tl.maximum(top, tl.max(score, 0))
        kept = tl.exp(top - higher)
        weight = tl.exp(score - higher)
        total = total * kept + tl.sum(weight, 0)
        mixed = mixed * kept + tl.sum(weight[:, None] * v_TK, 0)
        top = higher
    tl.store(out + row * d + head * width + j, (mixed / total).to(out.dtype.element_ty), mask=inside)


def append_attend(qkv_BE: Tensor, slabs: Slabs, slot_B: Tensor, at_B: Tensor) -> Tensor:
    """As plain.append_attend; `slot` and `at` are int64."""
    _, heads, positions, width = slabs[0].shape
    out_BD = torch.empty(len(qkv_BE), heads * width, dtype=qkv_BE.dtype, device=qkv_BE.device)
    sizes = {"WIDTH": triton.next_power_of_2(width), "BLOCK": _BLOCK}
    _append_attend[(len(qkv_BE), heads)](
        qkv_BE.contiguous(), *slabs, slot_B, at_B, out_BD, heads, positions, width, width**-0.5, **sizes
    )
    return out_BD


@triton.jit
def _pooled_maximum(
    active,
    new,
    slots,
    ats,
    reaches,
    out,
    positions,
    filters,
    FILTERS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program (row); FILTERS is `filters` rounded up to a power of two."""
    row = tl.program_id(0)
    slot, at = tl.load(slots + row), tl.load(ats + row)
    p = tl.arange(0, FILTERS)
    inside = p < filters
    slab = slot * positions * filters
    reach = tl.load(reaches + p, mask=inside, other=0)
    newest = tl.load(new + row * filters + p, mask=inside, other=0.0)
    tl.store(active + slab + at * filters + p, newest, mask=inside)
    best = tl.where(reach > 0, newest, 0.0)
    oldest = tl.maximum(at - tl.max(reach, 0) + 1, 0)
    for first in range(oldest, at, BLOCK):
        t = first + tl.arange(0, BLOCK)
        counts = (t < at)[:, None] & (at - t[:, None] < reach[None, :])  # columns beyond the filters have reach 0
        kept = tl.load(active + slab + t[:, None] * filters + p[None, :], mask=counts, other=0.0)
        best = tl.maximum(best, tl.max(kept, 0))
    tl.store(out + row * filters + p, best, mask=inside)


def pooled_maximum(active_UTP: Tensor, new_BP: Tensor, slot_B: Tensor, at_B: Tensor, reach_P: Tensor) -> Tensor:
    """As plain.pooled_maximum; `slot`, `at` and `reach` are int64, the rest float32."""
    _, positions, filters = active_UTP.shape
    out_BP = torch.empty_like(new_BP, memory_format=torch.contiguous_format)
    sizes = {"FILTERS": triton.next_power_of_2(filters), "BLOCK": _BLOCK}
    _pooled_maximum[(len(new_BP),)](
        active_UTP, new_BP.contiguous(), slot_B, at_B, reach_P, out_BP, positions, filters, **sizes
    )
    return out_BP
