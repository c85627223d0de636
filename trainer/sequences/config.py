"""One run of the sequence benchmark: every knob with its check, and the grid that each model is tuned over."""

from __future__ import annotations

from typing import Literal

import msgspec

from panther_core.errors import BadInput
from panther_core.model.config import ModelConfig

MODELS = ("transformer", "sasrec", "hstu", "panther")
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "patience": (1, 10_000),
    "batch_positions": (16, 1_000_000),
    "steps_per_epoch": (0, 100_000),
    "learning_rate": (1e-6, 1),
    "warm_up": (0, 100_000),
    "weight_decay": (0, 1),
    "negatives": (0, 1_000_000),
}


class SequenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it is the same for every model but `model.encoder` and what the grid varies. Raises BadInput."""

    model: ModelConfig = ModelConfig(length=50, layers=2, dropout=0.5, profile="none")
    """Shape of the encoder; d = 64, 2 layers, 2 heads, length 50 as published (S3-Rec, arXiv 2008.07873, 5.1)."""
    similarity: Literal["dot", "cosine"] = "cosine"
    """Logits: h . e, or the cosine of both times a learnt temperature."""
    epochs: int = 40
    """Rounds at most; each ends with a validation."""
    patience: int = 3
    """Rounds without a better validation HR@10 after which training stops."""
    steps_per_epoch: int = 128
    """Least updates of a round: small sets are passed over more than once between validations."""
    batch_positions: int = 2048
    """Padded positions of a batch."""
    learning_rate: float = 2e-3
    """Of Adam, constant after the warm-up."""
    warm_up: int = 100
    """Updates over which the learning rate rises."""
    weight_decay: float = 0.0
    """Of AdamW."""
    negatives: int = 1024
    """Items that the softmax is sampled from, uniformly, anew each batch; 0 = all items."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"expected {low:g} <= {name} <= {high:g}, got {value!r} in the sequence config")
        if self.similarity not in ("dot", "cosine"):
            raise BadInput(f"expected similarity dot or cosine, got {self.similarity!r} in the sequence config")


def grid(base: SequenceConfig) -> list[SequenceConfig]:
    """What is tried for every model on every set; the best on the validation items is kept."""
    replace = msgspec.structs.replace
    return [
        replace(base, learning_rate=rate, model=replace(base.model, dropout=dropout))
        for dropout in (0.5, 0.2)
        for rate in (2e-3, 1e-3)
    ]
