"""Settings of a run of `panther bench seqrec`, its models, and the grid that each model is tuned over."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
from panther_core.model_config import Encoder, ModelConfig

#: Layers of each model, and the weight of its contrastive term (bench.sequences.contrast). `sprm` is PANTHER's layers
#: without the term; `transformer+contrast` is the term without PANTHER's layers, to tell their effects apart.
MODELS: dict[str, tuple[Encoder, float]] = {
    "transformer": ("transformer", 0.0),
    "sasrec": ("sasrec", 0.0),
    "hstu": ("hstu", 0.0),
    "sprm": ("panther", 0.0),
    "panther": ("panther", 0.1),
    "transformer+contrast": ("transformer", 0.1),
}


class SequenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings shared by all models; only what MODELS and the grid vary differs. Raises BadInput."""

    model: ModelConfig = ModelConfig(length=50, layers=2, dropout=0.5, profile="none", contrastive_weight=0.0)
    """Shape of the encoder; d = 64, 2 layers, 2 heads, length 50 as published (S3-Rec, arXiv 2008.07873, 5.1)."""
    similarity: Literal["dot", "cosine"] = "cosine"
    """Logit of an item: the product h . e, or the cosine of h and e times a learnt temperature."""
    epochs: Annotated[int, Range(1, 10_000)] = 40
    """Most rounds of training; each ends with a validation."""
    patience: Annotated[int, Range(1, 10_000)] = 3
    """Rounds without a better validation HR@10 after which training stops."""
    steps_per_epoch: Annotated[int, Range(0, 100_000)] = 128
    """Fewest updates of a round: on small sets a round passes over the data more than once."""
    batch_positions: Annotated[int, Range(16, 1_000_000)] = 2048
    """Most positions of a batch, padding included."""
    learning_rate: Annotated[float, Range(1e-6, 1)] = 2e-3
    """Learning rate of AdamW, constant after the warm-up."""
    warm_up: Annotated[int, Range(0, 100_000)] = 100
    """Updates over which the learning rate rises to its value."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.0
    """Weight decay of AdamW."""
    negatives: Annotated[int, Range(0, 1_000_000)] = 1024
    """Items drawn uniformly for each batch that stand for all others in the softmax; 0 = use all items."""
    average: Annotated[float, Range(0, 0.99999)] = 0.998
    """Decay per update of the averaged weights, which are the ones validated and tested. The first updates decay
    faster; 0 = no averaging."""

    def __post_init__(self) -> None:
        check_ranges(self, "the sequence config")
        if self.similarity not in ("dot", "cosine"):
            raise BadInput(f"expected similarity dot or cosine, got {self.similarity!r} in the sequence config")


def named(base: SequenceConfig, model: str) -> SequenceConfig:
    """`base` with the layers and contrastive weight of a model out of MODELS."""
    encoder, contrast = MODELS[model]
    replace = msgspec.structs.replace
    return replace(base, model=replace(base.model, encoder=encoder, contrastive_weight=contrast))


def grid(base: SequenceConfig) -> list[SequenceConfig]:
    """Settings tried for every model on every set; the best on the validation items is kept.

    The learning rate is not in the grid: half of it gave level results where it was tried, before weights were averaged
    (docs/benchmarks/seqrec.md).
    """
    replace = msgspec.structs.replace
    return [replace(base, model=replace(base.model, dropout=dropout)) for dropout in (0.5, 0.2)]
