"""CPU kernels of the incremental step: one layer's work for one new event a row, as `Layer.forward` does it for the
last position, and the running maximum of the text convolution.

A block of a few rows passes through a whole layer before the next block begins, so its values stay in the cache of one
core. Torch operators on 64 rows spend more time on being called than on computing. The kernels read slabs in place,
where a gather would copy them first. numba compiles on first use (some seconds) and keeps the result on disk. Tests
compare the kernels with `Layer`.

Shapes: B rows, R rows of a block, U slots, H heads, T positions of a slab, K width of a head, D width, M prototypes,
P places of a convolution ring (in `pooled_maximum`: pooled features). Weight matrices are [inputs, outputs].
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numba
import numpy as np

from panther_core.model.kernels.arithmetic import F32, I64, array, exp, gelu, jit, layer_norm
from panther_core.model.kernels.precision import half_bits
from panther_core.model.layers import TAPS, Layer


class LayerWeights(NamedTuple):
    """A layer's parameters as the kernel takes them. For a layer without the pattern branch, the arrays of that branch
    are empty."""

    norm_scale_D: F32
    norm_bias_D: F32
    qkv_DE: F32
    qkv_bias_E: F32
    out_DD: F32
    out_bias_D: F32
    taps_4D: F32
    taps_bias_D: F32
    prototypes_DM: F32
    projected_MD: F32
    ffn_scale_D: F32
    ffn_bias_D: F32
    up_DF: F32
    up_bias_F: F32
    down_FD: F32
    down_bias_D: F32


def layer_weights(layer: Layer) -> LayerWeights:
    """Copies of a layer's parameters; the prototypes are scaled and projected here, once."""
    d, sprm = layer.qkv.in_features, layer.sprm
    none = np.zeros((0, d), np.float32)
    up, down = cast(Any, layer.ffn[0]), cast(Any, layer.ffn[2])
    return LayerWeights(
        array(layer.norm.weight),
        array(layer.norm.bias),
        array(layer.qkv.weight.T),
        array(layer.qkv.bias),
        array(layer.out.weight.T),
        array(layer.out.bias),
        none if sprm is None else array(sprm.taps_4D()),
        none[:, 0] if sprm is None else array(sprm.bias_D),
        none.T.copy() if sprm is None else array(sprm.prototypes_MD.T * d**-0.5),
        none if sprm is None else array(sprm.out(sprm.prototypes_MD)),
        array(layer.ffn_norm.weight),
        array(layer.ffn_norm.bias),
        array(up.weight.T),
        array(up.bias),
        array(down.weight.T),
        array(down.bias),
    )


@jit
def _store(row_K: F32, out_K: Any, bfloat: bool | None) -> None:
    """Write a key or value into its slab, of float32 where `bfloat` (panther_core.model.kernels.precision) is None."""
    if bfloat is None:
        for j in range(len(row_K)):
            out_K[j] = row_K[j]
    else:
        bits = row_K.view(np.uint32)
        for j in range(len(row_K)):
            out_K[j] = half_bits(bits[j], bfloat)


@jit
def _attend(keys_TK: Any, values_TK: Any, q_K: F32, decode: Any, buffers: Any, out_K: F32) -> None:
    """Softmax attention of one head over all positions given. `decode`: float32 of each bit pattern of a 16-bit slab;
    None for a float32 slab. `buffers`: memory to work in."""
    weights, bits = buffers
    count, width = keys_TK.shape
    weight = weights[:count]
    scale = np.float32(1 / np.sqrt(width))
    top = np.float32(-np.inf)
    for t in range(count):
        dot = np.float32(0)
        for j in range(width):
            dot += (keys_TK[t, j] if decode is None else decode[keys_TK[t, j]]) * q_K[j]
        weight[t] = dot * scale
        top = max(top, weight[t])
    for t in range(count):
        weight[t] -= top
    exp(weight, bits[:count])
    total = weight.sum()
    out_K[:] = 0
    for t in range(0, count - count % 4, 4):  # four positions at a time keep the sum in registers for longer
        for j in range(width):
            for i in range(4):
                value = values_TK[t + i, j] if decode is None else decode[values_TK[t + i, j]]
                out_K[j] += weight[t + i] * value
    for t in range(count - count % 4, count):
        for j in range(width):
            out_K[j] += weight[t] * (values_TK[t, j] if decode is None else decode[values_TK[t, j]])
    for j in range(width):
        out_K[j] /= total


@jit
def _convolve(ring_PD: F32, at: int, u_D: F32, weights: LayerWeights, distance_4: I64, out_D: F32) -> None:
    """Put the newest input into the ring, at its position modulo P; then convolve the inputs at the distances TAPS."""
    places, width = ring_PD.shape
    for j in range(width):
        ring_PD[at % places, j] = u_D[j]
        out_D[j] = weights.taps_bias_D[j]
    for i in range(len(distance_4)):
        # a ring holds zeros for positions before the window's first one: filling a slab clears its ring
        tap, weight = ring_PD[(at - distance_4[i]) % places], weights.taps_4D[i]
        for j in range(width):
            out_D[j] += tap[j] * weight[j]


@numba.njit(parallel=True, fastmath=True, cache=True)
def layer_step(
    x_BD: F32,
    where: tuple[I64, I64],
    slabs: tuple[Any, Any, F32],
    weights: LayerWeights,
    decode: Any,
    bfloat: bool | None,
) -> None:
    """Replace `x` by the layer's output for it, and append keys, values and convolution inputs to the slabs.

    `where`: slot and position [B] of each row. `slabs`: keys and values [U, H, T, K], ring [U, P, D].
    """
    slot_B, at_B = where
    keys_UHTK, values_UHTK, ring_UPD = slabs
    rows, d = x_BD.shape
    heads, positions, width = keys_UHTK.shape[1:]
    distance_4 = np.array(TAPS)
    hidden, prototypes = weights.up_DF.shape[1], weights.projected_MD.shape[0]
    # blocks are small enough for the matrix library to compute a product on this thread alone
    block = max(2, min(32, 65536 // (d * hidden) * 4))
    for number in numba.prange((rows + block - 1) // block):
        low = number * block
        x_RD = x_BD[low : low + block]
        size = len(x_RD)
        u_RD, mixed_RD, y_RD = np.empty((size, d), np.float32), np.empty((size, d), np.float32), np.empty_like(x_RD)
        qkv_RE, f_RF = np.empty((size, 3 * d), np.float32), np.empty((size, hidden), np.float32)
        longest = max(hidden, positions, prototypes)
        scratch, bits = np.empty(longest, np.float32), np.empty(longest, np.int32)

        for r in range(size):
            layer_norm(x_RD[r], weights.norm_scale_D, weights.norm_bias_D, u_RD[r])
        np.dot(u_RD, weights.qkv_DE, qkv_RE)
        for r in range(size):
            slot, at = slot_B[low + r], at_B[low + r]
            qkv = qkv_RE[r]
            for e in range(3 * d):
                qkv[e] += weights.qkv_bias_E[e]
            for h in range(heads):
                keys, values = keys_UHTK[slot, h], values_UHTK[slot, h]
                first = h * width
                _store(qkv[d + first : d + first + width], keys[at], bfloat)
                _store(qkv[2 * d + first : 2 * d + first + width], values[at], bfloat)
                q_K, out_K = qkv[first : first + width], mixed_RD[r, first : first + width]
                _attend(keys[: at + 1], values[: at + 1], q_K, decode, (scratch, bits), out_K)
        np.dot(mixed_RD, weights.out_DD, y_RD)
        for r in range(size):
            for j in range(d):
                x_RD[r, j] += y_RD[r, j] + weights.out_bias_D[j]
        if prototypes:
            s_RM = np.empty((size, prototypes), np.float32)
            for r in range(size):
                _convolve(ring_UPD[slot_B[low + r]], at_B[low + r], u_RD[r], weights, distance_4, mixed_RD[r])
            np.dot(mixed_RD, weights.prototypes_DM, s_RM)
            for r in range(size):
                s = s_RM[r]
                s -= s.max()
                exp(s, bits[:prototypes])
                s /= s.sum()
            np.dot(s_RM, weights.projected_MD, y_RD)
            x_RD += y_RD
        for r in range(size):
            layer_norm(x_RD[r], weights.ffn_scale_D, weights.ffn_bias_D, u_RD[r])
        np.dot(u_RD, weights.up_DF, f_RF)
        for r in range(size):
            f = f_RF[r]
            for j in range(hidden):
                f[j] += weights.up_bias_F[j]
            gelu(f, scratch[:hidden], bits[:hidden])
        np.dot(f_RF, weights.down_FD, y_RD)
        for r in range(size):
            for j in range(d):
                x_RD[r, j] += y_RD[r, j] + weights.down_bias_D[j]


@numba.njit(parallel=True, cache=True)
def pooled_maximum(active_UTP: F32, slot_B: I64, at_B: I64, new_BP: F32, reach_P: I64, out_BP: F32) -> None:
    """Write the newest activations at position `at`, then the maximum over each filter's newest `reach` positions."""
    filters = active_UTP.shape[2]
    longest = reach_P.max()
    for b in numba.prange(len(slot_B)):
        slab, at = active_UTP[slot_B[b]], at_B[b]
        for p in range(filters):
            slab[at, p] = new_BP[b, p]
            out_BP[b, p] = 0
        for t in range(max(0, at - longest + 1), at + 1):
            for p in range(filters):
                if at - t < reach_P[p] and slab[t, p] > out_BP[b, p]:
                    out_BP[b, p] = slab[t, p]
