"""Neural heads on encoded columns: DCN-v2 and DeepFM. DCN-v2 with behaviour inputs is PANTHER's head (paper eq. 3).

Shapes: B rows, F columns, T bins, U width of e_u, S events of the text convolution, P pooled features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from panther_core.base.console import progress_bar
from panther_core.data.schema import AttributeSchema
from panther_core.model.dcn import CrossLayers, DeepLayers
from panther_core.model.head import TextCnn
from panther_core.model_config import ModelConfig
from panther_core.state.window import RECENT
from trainer.heads.encoding import PiecewiseLinear

_CHUNK = 4096


@dataclass(frozen=True)
class NeuralInputs:
    """Inputs of a neural head for N rows; those from PANTHER (e_u, codes) have width 0 for heads without PANTHER."""

    x_NF: Tensor
    e_NU: Tensor
    codes_NS: Tensor

    def take(self, index: Tensor) -> NeuralInputs:
        """Inputs of the rows `index`."""
        return NeuralInputs(self.x_NF[index], self.e_NU[index], self.codes_NS[index])


@dataclass(frozen=True)
class Training:
    """How a neural head is trained; chosen on windows before the published test folds."""

    columns: int = 32
    """Number of columns used, those with the largest gain in boosting; with all columns a neural head has .02 less
    AP."""
    bins: int = 8
    """Of the encoding of a column."""
    hidden: int = 128
    field: int = 8
    """Width of a field's embedding in DeepFM."""
    cross_layers: int = 2
    dropout: float = 0.2
    epochs: int = 6
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.3


class DcnHead(nn.Module):
    """DCN-v2, parallel: cross layers over [levels, e_u, text convolution], deep layers over these and the encodings."""

    def __init__(self, encoding: PiecewiseLinear, user_dim: int, text: TextCnn | None, training: Training) -> None:
        super().__init__()
        self.encoding, self.text = encoding, text
        width = len(encoding.low_FT) + user_dim + (0 if text is None else len(text.widths))
        self.cross = CrossLayers(width, training.cross_layers)
        self.deep = DeepLayers(width + encoding.size, training.hidden, training.dropout)
        self.out = nn.Linear(width + training.hidden, 1)
        self.dropout = nn.Dropout(training.dropout)

    def forward(self, inputs: NeuralInputs) -> Tensor:
        """Fraud logit [B]."""
        encoded = self.encoding(inputs.x_NF)
        learnt = [inputs.e_NU]
        if self.text is not None:
            learnt.append(self.text.activations(F.pad(inputs.codes_NS, (RECENT, 0))).amax(dim=1))
        x0 = torch.cat([self.encoding.level(encoded), self.dropout(torch.cat(learnt, dim=1))], dim=1)
        crossed = self.cross(
            x0
        )  # before the deep part: the order of the two sets the order in which gradients are summed
        deep = self.deep(torch.cat([x0, encoded.flatten(1)], dim=1))
        out: Tensor = self.out(torch.cat([crossed, deep], dim=1))
        return out[:, 0]


class DeepFmHead(nn.Module):
    """DeepFM: each column is a field whose embedding is linear in its encoding; pairs of fields, and deep layers."""

    def __init__(self, encoding: PiecewiseLinear, training: Training) -> None:
        super().__init__()
        self.encoding = encoding
        fields, bins = encoding.low_FT.shape
        self.linear = nn.Linear(encoding.size, 1)
        self.field_FTK = nn.Parameter(torch.randn(fields, bins, training.field) * 0.1)
        self.deep = DeepLayers(fields * training.field, training.hidden, training.dropout)
        self.out = nn.Linear(training.hidden, 1)

    def forward(self, inputs: NeuralInputs) -> Tensor:
        """Fraud logit [B]."""
        encoded = self.encoding(inputs.x_NF)
        v_BFK = torch.einsum("bft,ftk->bfk", encoded, self.field_FTK)
        pairs = 0.5 * (v_BFK.sum(dim=1).square() - v_BFK.square().sum(dim=1)).sum(dim=1)
        out: Tensor = self.linear(encoded.flatten(1))[:, 0] + pairs + self.out(self.deep(v_BFK.flatten(1)))[:, 0]
        return out


def build(
    deepfm: bool, encoding: PiecewiseLinear, training: Training, behaviour: tuple[ModelConfig, AttributeSchema] | None
) -> nn.Module:
    """A fresh DeepFM or DCN-v2; `behaviour` (config and schema of the pretrained model) is for DCN-v2 only."""
    if deepfm:
        return DeepFmHead(encoding, training)
    if behaviour is None:
        return DcnHead(encoding, 0, None, training)
    return DcnHead(encoding, behaviour[0].user_dim, TextCnn(*behaviour), training)


def fit(model: nn.Module, inputs: NeuralInputs, label: NDArray[np.int8], training: Training, seed: int) -> None:
    """Train in place: AdamW, one cycle of the learning rate, a fixed number of epochs.

    No validation ends training, because labels of the test week are not known when a head is fitted.
    """
    torch.manual_seed(seed)
    target = torch.from_numpy(label.astype(np.float32))
    batches = max(1, len(target) // training.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    total = training.epochs * batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=total + 1)
    model.train()
    with progress_bar() as bar:
        task = bar.add_task("  neural head", total=total, note="")
        for _ in range(training.epochs):
            for index in torch.randperm(len(target)).tensor_split(batches):
                loss = F.binary_cross_entropy_with_logits(model(inputs.take(index)), target[index])
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimiser.step()
                schedule.step()
                bar.update(task, advance=1)
    model.eval()


@torch.inference_mode()
def logits(model: nn.Module, inputs: NeuralInputs) -> NDArray[np.float64]:
    """Fraud logits [N]."""
    parts = [model(inputs.take(index)) for index in torch.split(torch.arange(len(inputs.x_NF)), _CHUNK)]
    return torch.cat(parts).double().numpy()
