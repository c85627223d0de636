"""AdamW for pretraining, where a step means as much to every parameter.

Adam moves each parameter by about the learning rate, whatever its size. The prototypes of SPRM (paper 3.3) begin at
deviation 1, a linear layer's weights at .07: at the same rate they stay where chance has put them (their cosine
with their beginning was .999 after a whole pretraining), and what is looked up in them is noise that never changes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PROTOTYPE_RATE = 20.0  # times the learning rate
_SCALE = "rate_scale"


def adamw(model: nn.Module, **options: Any) -> torch.optim.AdamW:
    """AdamW over all parameters of `model`; `set_rate` before each step. Prototypes do not decay: their size is how
    sharply they are told apart."""
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
