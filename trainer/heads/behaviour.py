"""PANTHER's part of the fraud benchmarks: pretrain without labels, encode every history, make the inputs of heads.

N rows, U width of e_u, X columns of Delta, S events of the text convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from panther_core.data.schema import CODE, AttributeSchema
from panther_core.data.table import TransactionTable
from panther_core.data.vocabulary import fit_vocabulary
from panther_core.entities.arrays import Ints
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.features import NAMES
from panther_core.state.history import History, prepare
from trainer.fit.dataset import before
from trainer.fit.finetune import head_inputs
from trainer.fit.pretrain import pretrain
from trainer.fit.train_config import TrainConfig

BEHAVIOUR = TrainConfig(
    model=ModelConfig(
        d=32, layers=2, prototypes=32, user_dim=16, length=256, cnn_dim=8, cnn_filters=8, contrastive_weight=0.1
    ),
    amount_buckets=30,
    epochs=2,
    batch_positions=8192,
    learning_rate=2e-3,
)


@dataclass(frozen=True)
class BehaviourInputs:
    """Inputs of heads from PANTHER for N rows, each from the events before it: Delta, e_u, codes of the last S
    events."""

    delta_NX: NDArray[np.float32]
    e_NU: NDArray[np.float32]
    codes_NS: NDArray[np.uint64]


def histories(table: TransactionTable, schema: AttributeSchema, config: TrainConfig, label_delay_ms: int) -> History:
    """History of the whole table, with what decisions know of merchants as labels arrive.

    Merchants have no risk level (paper 3.2): a table of levels would be fitted on labels of rows that heads learn from.
    """
    events = table.events(schema, np.zeros(len(table), np.uint8))
    history = prepare(events, schema, config.model.length)
    see_merchants(history, events, table.label, table.labels_told_ms(label_delay_ms), MerchantHistory())
    return history


def pretrained(
    history: History, schema: AttributeSchema, known_until: int, config: TrainConfig, seed: int
) -> tuple[PantherModel, dict[str, float]]:
    """PANTHER pretrained on the events before row `known_until`, and its losses."""
    early = before(history, known_until)
    vocabulary, coverage = fit_vocabulary(schema, early.code[early.order].view(CODE), config.vocabulary)
    torch.manual_seed(seed)
    model = PantherModel(config.model, schema, vocabulary)
    return model, pretrain(model.panther, early, config, seed) | {"coverage": coverage}


def behaviour_inputs(model: PantherModel, history: History, rows: Ints) -> BehaviourInputs:
    """Inputs of `rows`, which must not be redeliveries: these have no outputs."""
    encoded = model.encode_history(history)
    inputs = head_inputs(model, history, encoded, rows)
    delta = inputs.dense_NX[:, len(NAMES) :].numpy()
    codes = inputs.codes_NS[torch.arange(len(rows))].numpy().view(np.uint64)
    return BehaviourInputs(delta, inputs.e_NU.numpy(), codes)
