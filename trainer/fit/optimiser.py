"""AdamW for pretraining, with a higher learning rate for the prototypes.

Adam moves each parameter by about the learning rate, whatever the parameter's size. The prototypes of SPRM (paper 3.3)
are initialised with standard deviation 1, a linear layer's weights with .07. At one rate for both, the prototypes stay
near their random start: after a whole pretraining their cosine with it was .999, so SPRM looked up noise.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PROTOTYPE_RATE = 20.0  # learning rate of prototypes, in learning rates of the other parameters
_SCALE = "rate_scale"


def adamw(model: nn.Module, **options: Any) -> torch.optim.AdamW:
    """AdamW over all parameters of `model`; call `set_rate` before each step.

    Prototypes have no weight decay: their size sets how sharply the attention over them distinguishes them.
    """
    named = list(model.named_parameters())
    prototypes = [value for name, value in named if name.endswith("prototypes_MD")]
    others = [value for name, value in named if not name.endswith("prototypes_MD")]
    groups: list[dict[str, Any]] = [{"params": others, _SCALE: 1.0}]
    if prototypes:
        groups.append({"params": prototypes, _SCALE: PROTOTYPE_RATE, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, **options)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group[_SCALE]
