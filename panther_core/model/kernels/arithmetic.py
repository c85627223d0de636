"""What the CPU kernels share: types, the options that numba compiles them with, and functions of one row."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

#: kernels release the interpreter's lock, so that threads.side_by_side can run several at once
jit: Any = numba.njit(fastmath=True, cache=True, nogil=True)

_EPS = 1e-5  # torch's default for layer norms


def array(tensor: Tensor) -> F32:
    """Contiguous float32 array of a parameter."""
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())


@jit
def exp(x: F32, bits: NDArray[np.int32]) -> None:
    """x = e^x in place for x <= 0, to 2 units in the last place. With e^x = 2^(n + f), n integer and |f| <= 1/2: 2^n is
    made of the exponent's bits, 2^f is a polynomial. `bits` is memory to work in."""
    power = bits.view(np.float32)
    for t in range(len(x)):
        y = max(x[t] * np.float32(1.4426950408889634), np.float32(-126))
        n = np.floor(y + np.float32(0.5))
        f = y - n
        p = np.float32(1.5403530393381609e-04)
        p = p * f + np.float32(1.3333558146428443e-03)
        p = p * f + np.float32(9.618129107628477e-03)
        p = p * f + np.float32(5.5504108664821576e-02)
        p = p * f + np.float32(2.402265069591007e-01)
        p = p * f + np.float32(6.931471805599453e-01)
        x[t] = p * f + np.float32(1)
        bits[t] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for t in range(len(x)):
        x[t] *= power[t]


@jit
def gelu(x: F32, e: F32, bits: NDArray[np.int32]) -> None:
    """GELU: x = x * Phi(x) in place; erf by Abramowitz and Stegun 7.1.26, error below 1.5e-7. `e`, `bits`: as in
    `exp`."""
    for j in range(len(x)):
        e[j] = np.float32(-0.5) * x[j] * x[j]
    exp(e, bits)
    for j in range(len(x)):
        t = np.float32(1) / (np.float32(1) + np.float32(0.3275911 * 0.7071067811865476) * abs(x[j]))
        p = np.float32(1.061405429)
        p = p * t + np.float32(-1.453152027)
        p = p * t + np.float32(1.421413741)
        p = p * t + np.float32(-0.284496736)
        p = p * t + np.float32(0.254829592)
        tail = np.float32(0.5) * p * t * e[j]
        x[j] *= tail if x[j] < 0 else np.float32(1) - tail


@jit
def layer_norm(x: F32, scale: F32, bias: F32, out: F32) -> None:
    """Layer norm of one row, written to `out`."""
    mean = np.float32(0)
    for j in range(len(x)):
        mean += x[j]
    mean /= np.float32(len(x))
    square = np.float32(0)
    for j in range(len(x)):
        square += (x[j] - mean) * (x[j] - mean)
    factor = np.float32(1) / np.sqrt(square / np.float32(len(x)) + np.float32(_EPS))
    for j in range(len(x)):
        out[j] = (x[j] - mean) * factor * scale[j] + bias[j]
