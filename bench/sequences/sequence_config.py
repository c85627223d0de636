"""One run of the sequence benchmark: every knob with its check, and the grid that each model is tuned over."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
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


class SequenceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same for every model but for what MODELS and the grid vary. Raises BadInput."""

    model: ModelConfig = ModelConfig(length=50, layers=2, dropout=0.5, profile="none", contrastive_weight=0.0)
    """Shape of the encoder; d = 64, 2 layers, 2 heads, length 50 as published (S3-Rec, arXiv 2008.07873, 5.1)."""
    similarity: Literal["dot", "cosine"] = "cosine"
    """Logits: h . e, or the cosine of both times a learnt temperature."""
    epochs: Annotated[int, Range(1, 10_000)] = 40
    """Rounds at most; each ends with a validation."""
    patience: Annotated[int, Range(1, 10_000)] = 3
    """Rounds without a better validation HR@10 after which training stops."""
    steps_per_epoch: Annotated[int, Range(0, 100_000)] = 128
    """Least updates of a round: small sets are passed over more than once between validations."""
    batch_positions: Annotated[int, Range(16, 1_000_000)] = 2048
    """Padded positions of a batch."""
    learning_rate: Annotated[float, Range(1e-6, 1)] = 2e-3
    """Of Adam, constant after the warm-up."""
    warm_up: Annotated[int, Range(0, 100_000)] = 100
    """Updates over which the learning rate rises."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.0
    """Of AdamW."""
    negatives: Annotated[int, Range(0, 1_000_000)] = 1024
    """Items that the softmax is sampled from, uniformly, anew each batch; 0 = all items."""
    average: Annotated[float, Range(0, 0.99999)] = 0.998
    """Decay per update of the averaged weights, which are what is validated and tested; less for the first updates; 0 =
    the weights as they are."""

    def __post_init__(self) -> None:
        check_ranges(self, "the sequence config")
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
