"""What the models on Triton's Python backend share: arrays in and out, by DLPack, and the device of an instance.

Not by `tensor.as_numpy()` and `Tensor(name, array)`: Triton's stub is built against numpy 1. With numpy 2 the former
gives arrays in which every element equals the first, and the latter outputs of zero bytes, both without an error.
`tests/stream/scorer` sends random values through Triton and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from numpy.typing import NDArray

from panther_core.base.errors import BadInput
from panther_core.decide.scoring import Request, tensors


def read(tensor: Any) -> NDArray[Any]:
    """Values of a `pb_utils.Tensor`, as a view that is valid as long as the request is."""
    array: NDArray[Any] = torch.utils.dlpack.from_dlpack(tensor.to_dlpack()).numpy()
    return array


def wrap(pb_utils: Any, name: str, array: NDArray[Any]) -> Any:
    """A `pb_utils.Tensor` that holds `array`."""
    return pb_utils.Tensor.from_dlpack(name, torch.from_numpy(np.ascontiguousarray(array)))


def respond(pb_utils: Any, request: Any, kind: type[Request[Any]], answer: Callable[[Any], Any]) -> Any:
    """The response of Triton to its `request`, which holds the tensors of a `kind`; `answer` computes it.

    A request that fails gets an error response, so that the others beside it are answered.
    """
    columns = [read(pb_utils.get_input_tensor_by_name(request, name)) for name in tensors(kind)]
    try:
        found = answer(kind(*columns))
    except Exception as error:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"panther_{kind.step} failed: {error!r}"))
    outputs = [wrap(pb_utils, name, getattr(found, name)) for name in tensors(kind.response)]
    return pb_utils.InferenceResponse(outputs)


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
