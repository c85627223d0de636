"""`panther bench pretrain`: events a second of pretraining, beside a plain PyTorch transformer on the same data.

Both sides have the same windows, the same optimiser and a full softmax; they alternate, and medians count. "plain" is
the simplest transformer: `torch.nn.Embedding` of the token, `torch.nn.TransformerEncoder` of the same size, a linear
output layer, and rows padded in random order. It has no attributes, no SPRM, no profile, no attribute heads and no
contrast. "plain, bucketed" is the same on PANTHER's batches, whose rows have about equal length.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.schema import CODE
from panther_core.data.vocabulary import fit_vocabulary
from panther_core.model.bulk import padded, plan
from panther_core.model.codes import as_tensor, attributes
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.history import History, prepare
from trainer.fit.optimiser import adamw
from trainer.fit.parallel import join
from trainer.fit.pretrain import Batch, Batches, train_step
from trainer.fit.schema_fit import fit_log_schema
from trainer.fit.train_config import TrainConfig

_ROUNDS = 5


class PlainTransformer(nn.Module):
    """A next-token transformer of unmodified PyTorch layers."""

    def __init__(self, config: ModelConfig, tokens: int) -> None:
        super().__init__()
        d = config.d
        self.token, self.position = nn.Embedding(tokens, d), nn.Embedding(config.length, d)
        layer = nn.TransformerEncoderLayer(
            d, config.heads, 4 * d, config.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.out = nn.Linear(d, tokens)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        length = tokens_BT.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens_BT.device)
        x = self.token(tokens_BT) + self.position(torch.arange(length, device=tokens_BT.device))
        logits: Tensor = self.out(self.encoder(x, mask=mask, is_causal=True))
        return logits


def run_pretrain(users: int = 2000, days: int = 120, seed: int = 0) -> dict[str, Any]:
    """Events a second of PANTHER, plain and plain bucketed, and PANTHER's ratio to each of the others."""
    config = TrainConfig(model=ModelConfig())
    table = generate(GeneratorConfig(users=users, days=days, seed=seed))
    schema = fit_log_schema(table, PROFILE, config)
    history = prepare(table.events(schema, None), schema, config.model.length)
    vocabulary, _ = fit_vocabulary(schema, history.code[history.order].view(CODE), config.vocabulary)
    torch.manual_seed(seed)
    group = join()
    model = PantherModel(config.model, schema, vocabulary).to(group.device)
    batches = list(Batches(history, config, seed, group).epoch(0))[: 2 * _ROUNDS]
    plain = PlainTransformer(config.model, vocabulary.size).to(group.device)
    unordered = _unordered(history, config, len(batches), seed)
    sides: dict[str, tuple[list[Any], Callable[[Any], int]]] = {
        "panther": (batches, _panther_step(model, config)),
        "plain": (unordered, _plain_step(plain, model, config)),
        "plain_bucketed": ([b.codes_BT for b in batches], _plain_step(plain, model, config)),
    }
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(_ROUNDS):
        for name, (data, step) in sides.items():
            events, started = 0, time.perf_counter()
            for batch in data[2 * turn : 2 * turn + 2]:
                events += step(batch)
            spent[name].append(events / (time.perf_counter() - started))
    rate = {name: float(np.median(values[1:])) for name, values in spent.items()}  # the first round warms up
    return {
        "events_per_s": {name: round(value) for name, value in rate.items()},
        "ratio_to_plain": round(rate["panther"] / rate["plain"], 2),
        "ratio_to_plain_bucketed": round(rate["panther"] / rate["plain_bucketed"], 2),
        "vocabulary": vocabulary.size,
        "device": str(group.device),
        "torch_threads": torch.get_num_threads(),
    }


def _panther_step(model: PantherModel, config: TrainConfig) -> Callable[[Batch], int]:
    optimiser, generator = adamw(model.panther, lr=config.learning_rate), torch.Generator()
    model.panther.train()

    def step(batch: Batch) -> int:
        train_step(model.panther, optimiser, batch, generator)
        return len(batch.target_N)

    return step


def _plain_step(plain: PlainTransformer, model: PantherModel, config: TrainConfig) -> Callable[[Tensor], int]:
    optimiser = torch.optim.AdamW(plain.parameters(), lr=config.learning_rate)

    def step(codes_BT: Tensor) -> int:
        codes_BT = codes_BT.to(model.device)
        tokens_BT = model.panther.tokeniser(attributes(codes_BT))
        there = (codes_BT[:, 1:] != 0).flatten()
        logits = plain(tokens_BT[:, :-1]).flatten(0, 1)[there]
        loss = nn.functional.cross_entropy(logits, tokens_BT[:, 1:].flatten()[there])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        return int(there.sum())

    return step


def _unordered(history: History, config: TrainConfig, count: int, seed: int) -> list[Tensor]:
    """Batches of windows in random order, padded to the longest of each, with the positions of the bucketed ones."""
    windows, codes = plan(history, config.model.length), history.code[history.order]
    order = np.random.default_rng(seed).permutation(len(windows))
    size, out = max(1, config.batch_positions // config.model.length), []
    for low in range(0, min(len(order), count * size), size):
        part = windows.take(order[low : low + size])
        codes_BT: NDArray[np.uint64] = padded(codes, part.begin, part.end)
        out.append(as_tensor(codes_BT, torch.device("cpu")))
    return out
