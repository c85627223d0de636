"""The K floats that `encode` caches in a user's state, in this order:

h        d          state after the newest event, from which the next transaction is predicted
e_u      user_dim   contrastive user embedding, unit length
pooled   3 x 16     largest activation of each text-convolution filter within the last S - 1 events
log_z    1          log of the softmax denominator of the next-token prediction
mu       1          mean of the predicted probabilities over the V tokens: 1 / V
sigma    1          their standard deviation (paper 4.1.3)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from panther_core.model_config import ModelConfig


@dataclass(frozen=True)
class Outputs:
    """The parts of a cached block; B rows."""

    h_BD: Tensor
    e_BU: Tensor
    pooled_BP: Tensor
    log_z_B: Tensor
    mu_B: Tensor
    sigma_B: Tensor

    def pack(self) -> Tensor:
        """[B, K] in the order at the top of this file."""
        scalars = torch.stack([self.log_z_B, self.mu_B, self.sigma_B], dim=1)
        return torch.cat([self.h_BD, self.e_BU, self.pooled_BP, scalars], dim=1)


def cached_width(config: ModelConfig) -> int:
    """K, the number of floats cached for a user."""
    return config.cached_width


def unpack(cached_BK: Tensor, config: ModelConfig) -> Outputs:
    """The parts of `cached_BK` as views."""
    h, e, pooled, scalars = torch.split(cached_BK, [config.d, config.user_dim, config.pooled, 3], dim=1)
    return Outputs(h, e, pooled, *scalars.unbind(1))
