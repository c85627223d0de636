"""One run of the sequence benchmark: every knob with its check, and the grid that each model is tuned over."""

from __future__ import annotations

from typing import Literal

import msgspec

from panther_core.base.errors import BadInput
from panther_core.model_config import Encoder, ModelConfig

#: layers of each model, and the weight of its contrastive term (bench.sequences.contrast). `sprm` is PANTHER's layers
#: alone; `transformer+contrast` tells what of PANTHER's figures the term does without its layers
MODELS: dict[str, tuple[Encoder, float]] = {
    "transformer": ("transformer", 0.0),
    "sasrec": ("sasrec", 0.0),
    "hstu": ("hstu", 0.0),
    "sprm": ("panther", 0.0),
    "panther": ("panther", 0.1),
    "transformer+contrast": ("transformer", 0.1),
}
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "patience": (1, 10_000),
    "batch_positions": (16, 1_000_000),
    "steps_per_epoch": (0, 100_000),
    "learning_rate": (1e-6, 1),
    "warm_up": (0, 100_000),
    "weight_decay": (0, 1),
    "negatives": (0, 1_000_000),
    "average": (0, 0.99999),
}


class SequenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same for every model but for what MODELS and the grid vary. Raises BadInput."""

    model: ModelConfig = ModelConfig(length=50, layers=2, dropout=0.5, profile="none", contrastive_weight=0.0)
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
    average: float = 0.998
    """Decay per update of the averaged weights, which are what is validated and tested; less for the first updates; 0 =
    the weights as they are."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadInput(f"expected {low:g} <= {name} <= {high:g}, got {value!r} in the sequence config")
        if self.similarity not in ("dot", "cosine"):
            raise BadInput(f"expected similarity dot or cosine, got {self.similarity!r} in the sequence config")


def named(base: SequenceConfig, model: str) -> SequenceConfig:
    """`base` for a model out of MODELS."""
    encoder, contrast = MODELS[model]
    replace = msgspec.structs.replace
    return replace(base, model=replace(base.model, encoder=encoder, contrastive_weight=contrast))


def grid(base: SequenceConfig) -> list[SequenceConfig]:
    """What is tried for every model on every set; the best on the validation items is kept. Not the learning rate: half
    of it was level where it was tried, before weights were averaged (docs/benchmarks/seqrec.md)."""
    replace = msgspec.structs.replace
    return [replace(base, model=replace(base.model, dropout=dropout)) for dropout in (0.5, 0.2)]
