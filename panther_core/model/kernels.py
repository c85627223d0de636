"""Decode kernels on CPU: they read each user's slab in place, where a gather would copy all of it first.

Shapes: B rows, U slots, H heads, T positions of a slab, K width of a head, D width, R positions of a conv ring,
P pooled features. numba compiles on first use (some seconds) and keeps the result on disk.

Plain-torch twins of these functions stand in the tests; both must agree.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U16 = NDArray[np.uint16]


@numba.njit(parallel=True, fastmath=True, cache=True)
def append_and_attend(
    keys_UHTK: F32,
    values_UHTK: F32,
    slot_B: I64,
    at_B: I64,
    qkv_B3HK: F32,
    out_BHK: F32,
) -> None:
    """Write one new key and value a row at position `at`, then attend over positions 0..at; result in `out`.

    `qkv` holds query, key and value side by side, as one projection gives them.
    """
    heads, width = keys_UHTK.shape[1], keys_UHTK.shape[3]
    scale = np.float32(1.0 / np.sqrt(width))
    for b in numba.prange(len(slot_B)):
        slot, at = slot_B[b], at_B[b]
        weight = np.empty(at + 1, np.float32)
        for h in range(heads):
            keys, values, q = keys_UHTK[slot, h], values_UHTK[slot, h], qkv_B3HK[b, 0, h]
            for j in range(width):
                keys[at, j] = qkv_B3HK[b, 1, h, j]
                values[at, j] = qkv_B3HK[b, 2, h, j]
            top = np.float32(-np.inf)
            for t in range(at + 1):
                dot = np.float32(0)
                for j in range(width):
                    dot += keys[t, j] * q[j]
                dot *= scale
                weight[t] = dot
                top = max(top, dot)
            total = np.float32(0)
            for t in range(at + 1):
                weight[t] = np.exp(weight[t] - top)
                total += weight[t]
            out = out_BHK[b, h]
            out[:] = 0
            for t in range(at + 1):
                share = weight[t] / total
                for j in range(width):
                    out[j] += share * values[t, j]


@numba.njit(parallel=True, fastmath=True, cache=True)
def append_and_attend_16(
    keys_UHTK: U16,
    values_UHTK: U16,
    slot_B: I64,
    at_B: I64,
    qkv_B3HK: F32,
    bits_B3HK: U16,
    out_BHK: F32,
    decode: F32,
) -> None:
    """The same over 16-bit slabs (float16 or bfloat16, as their bits).

    `bits` is `qkv` in that type; `decode` [65536] turns bits into float32.
    """
    heads, width = keys_UHTK.shape[1], keys_UHTK.shape[3]
    scale = np.float32(1.0 / np.sqrt(width))
    for b in numba.prange(len(slot_B)):
        slot, at = slot_B[b], at_B[b]
        weight = np.empty(at + 1, np.float32)
        for h in range(heads):
            keys, values, q = keys_UHTK[slot, h], values_UHTK[slot, h], qkv_B3HK[b, 0, h]
            for j in range(width):
                keys[at, j] = bits_B3HK[b, 1, h, j]
                values[at, j] = bits_B3HK[b, 2, h, j]
            top = np.float32(-np.inf)
            for t in range(at + 1):
                dot = np.float32(0)
                for j in range(width):
                    dot += decode[keys[t, j]] * q[j]
                dot *= scale
                weight[t] = dot
                top = max(top, dot)
            total = np.float32(0)
            for t in range(at + 1):
                weight[t] = np.exp(weight[t] - top)
                total += weight[t]
            out = out_BHK[b, h]
            out[:] = 0
            for t in range(at + 1):
                share = weight[t] / total
                for j in range(width):
                    out[j] += share * decode[values[t, j]]


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


@numba.njit(parallel=True, fastmath=True, cache=True)
def convolve(
    ring_URD: F32, slot_B: I64, at_B: I64, u_BD: F32, weight_4D: F32, bias_D: F32, distance_4: I64, out_BD: F32
) -> None:
    """Put the newest input into its user's ring (position modulo R), then convolve over the distances."""
    places, width = ring_URD.shape[1], ring_URD.shape[2]
    for b in numba.prange(len(slot_B)):
        ring, at, out = ring_URD[slot_B[b]], at_B[b], out_BD[b]
        for j in range(width):
            ring[at % places, j] = u_BD[b, j]
            out[j] = bias_D[j]
        for i in range(len(distance_4)):
            # positions before the window's first hold zeros: the ring is cleared when a slab is filled
            tap = ring[(at - distance_4[i]) % places]
            for j in range(width):
                out[j] += tap[j] * weight_4D[i, j]
