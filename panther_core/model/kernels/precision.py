"""How a slab (panther_core.model.kernels.pool) stores floats: in float32, or as the bits of a 16-bit type."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.model.kernels.arithmetic import jit

Precision = Literal["float32", "float16", "bfloat16"]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@jit
def bfloat16_bits(bits: Any) -> Any:
    """Bits of a float32 as bfloat16 (its upper 16 bits), rounded to nearest even."""
    return (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@jit
def float16_bits(bits: Any) -> Any:
    """Bits of a float32 as float16 (IEEE 754 binary16), rounded to nearest even; values out of range become
    infinite."""
    sign, a = (bits >> 16) & 0x8000, bits & 0x7FFFFFFF
    if a >= 0x47800000:
        return sign | (0x7E00 if a > 0x7F800000 else 0x7C00)
    if a >= 0x38800000:
        return sign | ((a + 0xFFF + ((a >> 13) & 1) - 0x38000000) >> 13)
    shift = 126 - (a >> 23)  # subnormal: the fraction moves right
    if shift > 24:
        return sign
    fraction = (a & 0x7FFFFF) | 0x800000
    half, rest, middle = fraction >> shift, fraction & ((1 << shift) - 1), 1 << (shift - 1)
    return sign | (half + int(rest > middle or (rest == middle and half & 1 == 1)))


#: which 16-bit type a slab stores: True for bfloat16; None: the float32 is stored itself. A number and no function,
#: since numba keeps no compiled code of a kernel that is given a function: each process would compile it anew.
BFLOAT: dict[str, bool | None] = {"float32": None, "float16": False, "bfloat16": True}


@jit
def half_bits(bits: Any, bfloat: bool) -> Any:
    """Bits of a float32 as those of the 16-bit type that a slab stores."""
    return bfloat16_bits(bits) if bfloat else float16_bits(bits)


def decode_table(dtype: torch.dtype) -> NDArray[np.float32]:
    """float32 value of each of the 65,536 bit patterns of a 16-bit type."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    table: NDArray[np.float32] = bits.view(dtype).float().numpy()
    return table
