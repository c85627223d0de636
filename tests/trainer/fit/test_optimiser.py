"""Every parameter is trained once, prototypes fast enough to leave where chance has put them."""

from __future__ import annotations

import numpy as np
import torch

from tests.panther_core.model.conftest import CONFIG as MODEL
from tests.panther_core.model.conftest import make_model, random_history
from trainer.fit.optimiser import PROTOTYPE_RATE, adamw, set_rate
from trainer.fit.pretrain import pretrain
from trainer.fit.train_config import TrainConfig


def test_every_parameter_is_in_one_group_and_prototypes_in_the_fast_one() -> None:
    panther = make_model(MODEL).panther
    optimiser = adamw(panther, lr=1.0)
    set_rate(optimiser, 0.5)
    rate = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(rate)
    for name, value in panther.named_parameters():
        assert rate[id(value)] == (0.5 * PROTOTYPE_RATE if name.endswith("prototypes_MD") else 0.5), name


def test_pretraining_moves_the_prototypes_as_far_for_their_size_as_what_reads_them() -> None:
    panther = make_model(MODEL).panther
    before = {name: value.detach().clone() for name, value in panther.named_parameters()}
    history = random_history(np.random.default_rng(0), [40, 33, 17, 60])
    pretrain(panther, history, TrainConfig(model=MODEL, batch_positions=128, epochs=4), seed=1)

    def moved(end: str) -> float:
        of = [(value, before[name]) for name, value in panther.named_parameters() if name.endswith(end)]
        return float(np.mean([float(torch.norm(now.detach() - then) / torch.norm(then)) for now, then in of]))

    assert moved("prototypes_MD") > 0.5 * moved("sprm.out.weight") > 0
