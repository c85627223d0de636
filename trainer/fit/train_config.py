"""How a model version is trained: every setting with its range, and presets by name."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
from panther_core.data.schema import SCALES, Scale
from panther_core.model_config import ModelConfig


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a training. `*_from`: starts of the time slices, as shares of the transactions (fine-tuning,
    validation, test). Raises BadInput."""

    model: ModelConfig = ModelConfig()
    """Shape and losses."""
    vocabulary: Annotated[int, Range(1, 1_000_000)] = 60_000
    """K, most frequent combinations that become tokens (paper 3.2)."""
    coverage: Annotated[float, Range(0.01, 1)] = 1.0
    """Share of the training events that tokens must cover: the vocabulary is cut to the fewest tokens that do, and to
    `vocabulary` at most. 1 = no cut."""
    amount_buckets: Annotated[int, Range(2, 253)] = 20
    """Number of buckets of the amount."""
    amount_scale: Scale = "quantile"
    """"quantile": amount buckets of equal counts; "log": of equal ratio."""
    sized: bool = False
    """Whether the shape of the model, `batch_positions` and `epochs` follow the log's size (trainer.fit.sizing)."""
    updates: Annotated[int, Range(0, 10_000_000)] = 0
    """With `sized`, about so many steps of pretraining, in at most `epochs` passes; 0 = `epochs` passes."""
    epochs: Annotated[int, Range(0, 1000)] = 10
    """Passes of pretraining over the training events; 0 leaves the weights as they are (with continue_from)."""
    minutes: Annotated[float, Range(0, 10_000)] = 0.0
    """Minutes after which pretraining stops even if epochs are left; 0 = no limit."""
    patience: Annotated[int, Range(0, 1000)] = 0
    """Epochs without a better HR@10 on the validation slice after which pretraining ends; the best epoch's weights are
    kept. 0 = run all epochs."""
    validation_sample: Annotated[int, Range(1, 1_000_000)] = 4000
    """Events of the validation slice whose next-token rank is taken after each epoch, with `patience`."""
    batch_positions: Annotated[int, Range(64, 1_000_000)] = 8192
    """Padded window positions of a pretraining batch."""
    learning_rate: Annotated[float, Range(1e-6, 1)] = 1e-3
    """Peak learning rate of pretraining (AdamW, warm-up then cosine)."""
    head_epochs: Annotated[int, Range(1, 1000)] = 10
    """Passes of fine-tuning; the weights after the pass with the best validation average precision are kept."""
    head_updates: Annotated[int, Range(0, 1_000_000)] = 400
    """Least number of steps of fine-tuning: few rows are passed over more often than `head_epochs` times."""
    head_batch: Annotated[int, Range(8, 1_000_000)] = 1024
    """Rows of a fine-tuning batch."""
    head_learning_rate: Annotated[float, Range(1e-6, 1)] = 3e-3
    """Peak learning rate of fine-tuning."""
    negatives: Annotated[int, Range(1, 10_000)] = 40
    """Legitimate rows sampled for each fraud; calibration undoes the sampling."""
    head_rows: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Most rows that the heads are fitted on: of many frauds, each has fewer than `negatives`; 0 = no limit."""
    cold_share: Annotated[float, Range(0, 1)] = 0.3
    """Share of the head's rows that are taken once more with a history of few events, or of none."""
    alert_budget: Annotated[float, Range(1e-6, 0.5)] = 0.005
    """Share of transactions that become alerts, from which the threshold is set."""
    merchant_budget: Annotated[float, Range(0, 1)] = 0.0002
    """Share of the merchants that become alerts a day, from which their threshold is set."""
    finetune_from: Annotated[float, Range(0, 0.9)] = 0.3
    """Start of fine-tuning. Labels before it feed the merchant risk table, labels after it the fraud head."""
    validation_from: Annotated[float, Range(0.1, 0.98)] = 0.7
    """Start of the validation slice, which picks the epoch, calibrates and sets the threshold."""
    test_from: Annotated[float, Range(0.11, 0.99)] = 0.85
    """Start of the test slice, on which metrics are measured."""

    apart: bool = True
    """Whether a slice uses only labels that had matured before the next one began, so that the next one judges as a
    deployment would. False: all that have come, each in one slice still."""

    def __post_init__(self) -> None:
        check_ranges(self, "the training config")
        if self.amount_scale not in SCALES:
            known = ", ".join(SCALES)
            raise BadInput(f"expected amount_scale out of {known}, got {self.amount_scale!r} in the training config")
        if not self.finetune_from < self.validation_from < self.test_from:
            raise BadInput(
                "expected finetune_from < validation_from < test_from, got "
                f"{self.finetune_from}, {self.validation_from}, {self.test_from} in the training config"
            )


PRESETS: dict[str, TrainConfig] = {
    # sized for 5,000 users and half a million events in under four minutes on two cores; the paper's lambda (0.1) costs
    # HR@10 on the generator's logs (docs/benchmarks)
    "demo": TrainConfig(
        model=ModelConfig(layers=2, dropout=0.05, contrastive_weight=0.01),
        epochs=8,
        batch_positions=4096,
        learning_rate=2e-3,
        head_epochs=6,
        negatives=30,
    ),
    # for tests: seconds
    "tiny": TrainConfig(
        model=ModelConfig(
            d=16, layers=1, length=16, prototypes=8, user_dim=8, cnn_dim=4, cnn_filters=4, head_hidden=16
        ),
        epochs=2,
        batch_positions=2048,
        learning_rate=5e-3,
        head_epochs=3,
        head_updates=0,
        head_batch=128,
        head_learning_rate=5e-3,
    ),
    # fits itself to any log: at most a quarter of an hour for a million rows on two cores
    "default": TrainConfig(
        model=ModelConfig(layers=2, dropout=0.05, contrastive_weight=0.01),
        sized=True,
        updates=3000,
        epochs=40,
        patience=3,
        learning_rate=2e-3,
        head_epochs=6,
        negatives=400,
        head_rows=150_000,
    ),
    "paper": TrainConfig(epochs=20, patience=3),
    # continues the training of the version in service on newer transactions: few passes, small steps; slices are not
    # apart, since with labels a week late the newest fraud that a head learns of would be five weeks old
    "refresh": TrainConfig(
        epochs=1,
        learning_rate=3e-4,
        head_epochs=2,
        head_updates=0,
        head_learning_rate=3e-4,
        negatives=10,
        validation_from=0.9,
        test_from=0.95,
        apart=False,
    ),
}


def preset(name: str) -> TrainConfig:
    """Config by name. Raises BadInput."""
    if name not in PRESETS:
        raise BadInput(f"expected a preset out of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def lost(config: TrainConfig, base: TrainConfig) -> list[str]:
    """Fields of `config` that have no effect when training continues from a version trained with `base`, and that
    differ.

    A version keeps the shape of the model and the vocabulary of the one it continues from.
    """
    kept = ("model", "vocabulary", "coverage", "amount_buckets", "amount_scale")
    return [name for name in kept if getattr(config, name) != getattr(base, name)]


def from_file(path: Path, base: TrainConfig) -> TrainConfig:
    """`base` with the changes in a TOML file: fields of TrainConfig, and of ModelConfig under `[model]`.

    Raises BadInput, with the file's name, for an unreadable file, unknown fields and values out of range.
    """
    try:
        changes = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"expected a TOML file of training settings in {path}, got {error}: check --config") from None
    fields, model = msgspec.to_builtins(base), changes.get("model", {})
    if isinstance(model, dict):
        changes["model"] = fields["model"] | model
    try:
        return msgspec.convert(fields | changes, TrainConfig)
    except (msgspec.ValidationError, BadInput) as error:
        raise BadInput(f"{path}: {error}; docs/training.md has the fields") from None
