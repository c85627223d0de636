"""Arrays in and out of Triton's Python backend, by DLPack.

Never `tensor.as_numpy()` and `Tensor(name, array)`: the stub is built against numpy 1, and with numpy 2 the first
gives arrays in which every element equals the first, the second gives outputs of zero bytes; neither says so.
`tests/scoring` sends random values through to hold this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray


def read(tensor: Any) -> NDArray[Any]:
    """Values of a `pb_utils.Tensor`; a view that is valid while the request lives."""
    array: NDArray[Any] = torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).numpy()
    return array


def wrap(pb_utils: Any, name: str, array: NDArray[Any]) -> Any:
    """A `pb_utils.Tensor` over `array`."""
    return pb_utils.Tensor.from_dlpack(name, torch.from_numpy(np.ascontiguousarray(array)))
