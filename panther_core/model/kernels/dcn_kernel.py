"""CPU kernel of a DCN-v2 (panther_core.model.dcn) over standardised inputs.

Shapes: R rows, X dense inputs, W width of the cross layers, H hidden, L cross layers. Weight matrices are
[inputs, outputs].
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from torch import Tensor, nn

from panther_core.model.dcn import CrossLayers, DeepLayers
from panther_core.model.kernels.arithmetic import F32, array, jit


class DcnHead(Protocol):
    """A head of these layers, whose dense inputs are standardised by `mean` and `std`."""

    mean: Tensor
    std: Tensor
    cross: CrossLayers
    deep: DeepLayers
    out: nn.Linear


class DcnWeights(NamedTuple):
    """Copies of a head's weights."""

    mean_X: F32
    std_X: F32
    cross_LWW: F32
    cross_bias_LW: F32
    deep: tuple[F32, F32, F32, F32]
    out: F32  # output weights of the crossed columns, then of the hidden ones
    bias: F32  # of the logit, one number


def dcn_weights(head: DcnHead) -> DcnWeights:
    """Copies of what `head` holds at this moment."""
    first, second = cast(nn.Linear, head.deep[0]), cast(nn.Linear, head.deep[3])
    cross = [cast(nn.Linear, layer) for layer in head.cross]
    return DcnWeights(
        mean_X=array(head.mean),
        std_X=array(head.std),
        cross_LWW=np.stack([array(layer.weight.T) for layer in cross]),
        cross_bias_LW=np.stack([array(layer.bias) for layer in cross]),
        deep=(array(first.weight.T), array(first.bias), array(second.weight.T), array(second.bias)),
        out=array(head.out.weight[0]),
        bias=array(head.out.bias),
    )


@jit
def dcn_logits(x0_RW: F32, weights: DcnWeights) -> Any:
    """Logits [R] of the standardised columns, before calibration."""
    up_WH, up_bias_H, mid_HH, mid_bias_H = weights.deep
    x_RW = x0_RW.copy()
    for layer in range(len(weights.cross_LWW)):
        x_RW += x0_RW * (np.dot(x_RW, weights.cross_LWW[layer]) + weights.cross_bias_LW[layer])
    hidden_RH = np.maximum(np.dot(x0_RW, up_WH) + up_bias_H, np.float32(0))
    hidden_RH = np.maximum(np.dot(hidden_RH, mid_HH) + mid_bias_H, np.float32(0))
    width = x0_RW.shape[1]
    return np.dot(x_RW, weights.out[:width]) + np.dot(hidden_RH, weights.out[width:]) + weights.bias[0]
