"""What the models on Triton's Python backend share: arrays in and out, by DLPack, and the device of an instance.

Never `tensor.as_numpy()` and `Tensor(name, array)`: the stub is built against numpy 1, and with numpy 2 the first
gives arrays in which every element equals the first, the second gives outputs of zero bytes; neither says so.
`tests/scoring` sends random values through to hold this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray

from panther_core.base.errors import BadInput


def read(tensor: Any) -> NDArray[Any]:
    """Values of a `pb_utils.Tensor`; a view that is valid while the request lives."""
    array: NDArray[Any] = torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).numpy()
    return array


def wrap(pb_utils: Any, name: str, array: NDArray[Any]) -> Any:
    """A `pb_utils.Tensor` over `array`."""
    return pb_utils.Tensor.from_dlpack(name, torch.from_numpy(np.ascontiguousarray(array)))


def instance_device(args: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Device of a model instance, from the `args` of its initialize: its own GPU if its instance group is KIND_GPU,
    otherwise PANTHER_DEVICE (cpu or cuda), otherwise the CPU.

    Raises BadInput for a GPU that torch does not see.
    """
    if args.get("model_instance_kind", "").endswith("GPU"):
        device = f"cuda:{args['model_instance_device_id']}"
    else:
        device = environment.get("PANTHER_DEVICE", "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise BadInput(
            f"expected a GPU that torch can use for device {device!r} of {args['model_name']}, found none: install the "
            "driver, or set PANTHER_DEVICE=cpu and export and load the model anew"
        )
    return device
