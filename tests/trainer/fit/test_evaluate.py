"""Places of the next token: what cannot be told apart, or is no number, is no hit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trainer.fit.evaluate import token_ranks


class Second:
    """Every event is token 1 of 4."""

    size = 4

    def __call__(self, code_N7: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(code_N7), dtype=torch.long)


@pytest.mark.parametrize(
    ("logits", "place"),
    [([0.0, 3.0, 2.0, 1.0], 0), ([0.0, 1.0, 2.0, 3.0], 2), ([1.0, 1.0, 1.0, 1.0], 3), ([0.0, np.nan, 0.0, 0.0], 3)],
)
def test_ties_and_logits_that_are_no_number_count_against_the_model(logits: list[float], place: int) -> None:
    model = SimpleNamespace(token_table=lambda: torch.tensor(logits)[None], query=lambda h: h, tokeniser=Second())
    ranks = token_ranks(model, torch.ones(2, 1), np.zeros(2, np.uint64))  # type: ignore[arg-type]
    assert ranks.tolist() == [place, place]
