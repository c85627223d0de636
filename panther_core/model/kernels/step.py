"""The incremental step, one new event a row, over a pool's slabs: an implementation for the CPU, and one in torch.

Shapes as in panther_core.model.kernels.pool; B rows, E = 3 D.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from panther_core.model.kernels.layer_kernel import layer_step, layer_weights, pooled_maximum
from panther_core.model.kernels.plain import Slabs
from panther_core.model.kernels.pool import RING, SlabPool
from panther_core.model.kernels.precision import BFLOAT, decode_table
from panther_core.model.kernels.step_interface import Step
from panther_core.model.kernels.threads import one_product_thread
from panther_core.model.layers import TAPS, Layer
from panther_core.model.serving import PantherModel


class NumbaStep:
    """On the CPU: one compiled kernel a layer; arithmetic is float32 for slabs of any precision."""

    def __init__(self, model: PantherModel, pool: SlabPool) -> None:
        one_product_thread()
        self._pool, self._slabs = pool, pool.arrays()
        self._weights = [layer_weights(layer) for layer in _layers(model)]
        self._decode = None if pool.precision == "float32" else decode_table(pool.dtype)
        self._bfloat = BFLOAT[pool.precision]
        self._reach_P = _reach(model)

    def advance(self, x_BD: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        x_array, where = x_BD.numpy(), (slot_B.numpy(), at_B.numpy())
        for weights, slabs in zip(self._weights, self._slabs, strict=True):
            layer_step(x_array, where, slabs, weights, self._decode, self._bfloat)
        return x_BD

    def pooled(self, new_BP: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        out, active = np.empty(new_BP.shape, np.float32), self._pool.active_UTP.numpy()
        pooled_maximum(active, slot_B.numpy(), at_B.numpy(), new_BP.numpy(), self._reach_P, out)
        return torch.from_numpy(out)

    def computing(self) -> AbstractContextManager[object]:
        return nullcontext()


class Operations(Protocol):
    """A module that reads slabs in place: `plain` of this package says what the functions do, `cuda` does it fast."""

    def append_attend(self, qkv_BE: Tensor, slabs: Slabs, slot_B: Tensor, at_B: Tensor) -> Tensor: ...

    def pooled_maximum(
        self, active_UTP: Tensor, new_BP: Tensor, slot_B: Tensor, at_B: Tensor, reach_P: Tensor
    ) -> Tensor: ...


class TorchStep:
    """On any device: the operators of `Layer`, matrix products in the slabs' type (autocast), residuals in float32."""

    def __init__(self, model: PantherModel, pool: SlabPool, operations: Operations) -> None:
        self._pool, self._layers, self._operations = pool, _layers(model), operations
        self._taps_4 = torch.tensor(TAPS, device=model.device)
        self._reach_P = torch.from_numpy(_reach(model)).to(model.device)

    def advance(self, x_BD: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        with self.computing():
            for n, layer in enumerate(self._layers):
                u_BD = layer.norm(x_BD)
                slabs = self._pool.keys[n], self._pool.values[n]
                attended_BD = self._operations.append_attend(layer.qkv(u_BD), slabs, slot_B, at_B)
                x_BD = layer.combine(x_BD, attended_BD, self._pattern(n, u_BD, slot_B, at_B))
        return x_BD

    def pooled(self, new_BP: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor:
        return self._operations.pooled_maximum(self._pool.active_UTP, new_BP, slot_B, at_B, self._reach_P)

    def computing(self) -> AbstractContextManager[object]:
        dtype = self._pool.dtype
        return torch.autocast(self._taps_4.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def _pattern(self, n: int, u_BD: Tensor, slot_B: Tensor, at_B: Tensor) -> Tensor | None:
        """The pattern branch [B, D] of layer `n`; puts its new input into the ring, at position modulo RING."""
        sprm, ring_URD = self._layers[n].sprm, self._pool.ring_NURD[n]
        if sprm is None:
            return None
        ring_URD[slot_B, at_B % RING] = u_BD
        # a ring holds zeros for positions before the window's first one: filling a slab clears its ring
        taps_B4D = ring_URD[slot_B[:, None], (at_B[:, None] - self._taps_4) % RING]
        return sprm.look_up(sprm.convolve(list(taps_B4D.unbind(1))))


def step_for(model: PantherModel, pool: SlabPool, graphs: bool = False) -> Step:
    """The step for the device that the model is on. `graphs`: record CUDA graphs
    (panther_core.model.kernels.graphs)."""
    if model.device.type == "cpu":
        return NumbaStep(model, pool)
    from panther_core.model.kernels import cuda
    from panther_core.model.kernels.graphs import GraphedStep

    step = TorchStep(model, pool, cuda)
    return GraphedStep(step) if graphs else step


def _layers(model: PantherModel) -> list[Layer]:
    return [cast(Layer, layer) for layer in model.panther.layers]


def _reach(model: PantherModel) -> NDArray[np.int64]:
    """Number of newest positions [P] over which each text filter's maximum is taken."""
    reach: NDArray[np.int64] = np.maximum(model.config.span - np.array(model.head.text.widths), 0).astype(np.int64)
    return reach
