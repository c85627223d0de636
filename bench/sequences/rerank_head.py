"""The recommendation head (paper 4.2.3) of `panther bench rerank`: a DCN that reorders the encoder's first candidates.

The encoder is frozen. Training lists come from training items only; the epoch is chosen on the validation items, and
epoch 0, the encoder's own order, is among the choices. Items outside the candidates keep the encoder's order behind
them, so every figure is of the full ranking. Shapes as in candidates.py; X width of the DCN's input, C candidates of a
list in a training step.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Annotated

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.sequences.candidates import CandidateLists
from bench.sequences.model import SequenceModel
from panther_core.base.errors import BadInput
from panther_core.base.ranges import Range, check_ranges
from panther_core.data.formats.sequences import LeaveOneOut
from panther_core.model.dcn import Dcn
from trainer.fit.ranking import metrics, places_among

CHOSEN_BY = "ndcg@10"
_SCALARS = 4  # logit, rank, popularity, seen
_ROWS = 256  # lists ranked at a time
_CLIP = 8.0  # inputs are cut off at so many standard deviations


class RerankConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the head and of its training. Raises BadInput for a value out of range."""

    candidates: Annotated[int, Range(2, 10_000)] = 100
    """N: how many of the items that the encoder ranks first the head reorders."""
    sampled: Annotated[int, Range(2, 10_000)] = 32
    """C: candidates of a list in a training step, the target and others drawn anew for each step."""
    lists: Annotated[int, Range(1, 10_000_000)] = 50_000
    """Most training lists."""
    held_in: Annotated[int, Range(1, 1000)] = 5
    """Newest training items of each user that the second protocol keeps from the encoder and trains the head on."""
    epochs: Annotated[int, Range(0, 1000)] = 20
    """Most passes over the training lists."""
    patience: Annotated[int, Range(1, 1000)] = 3
    """Passes without a better validation NDCG@10 after which training stops."""
    batch: Annotated[int, Range(1, 100_000)] = 128
    """Lists of one update."""
    learning_rates: tuple[float, ...] = (1e-3, 1e-4)
    """Constant learning rates of AdamW; each is tried, and the best on the validation items is kept."""
    weight_decay: Annotated[float, Range(0, 1)] = 1e-2
    """Weight decay of AdamW."""

    def __post_init__(self) -> None:
        check_ranges(self, "the rerank config")
        if not self.learning_rates or not all(1e-6 <= rate <= 1 for rate in self.learning_rates):
            raise BadInput(f"expected learning_rates between 1e-06 and 1, got {self.learning_rates}: see RerankConfig")


class Reranker(nn.Module):
    """Score of a candidate = a * the encoder's logit + DCN(h, e, h * e, logit, rank, popularity, seen).

    The weight a starts at 1 and the DCN's output at 0, so an untrained head ranks as the encoder does.
    """

    mean_X: Tensor
    std_X: Tensor
    item_ID: Tensor
    popularity_I: Tensor

    def __init__(self, encoder: SequenceModel, popularity: NDArray[np.float64]) -> None:
        super().__init__()
        with torch.no_grad():
            table_ID = encoder.output_rows().detach().clone()
        width = 3 * table_ID.shape[1] + _SCALARS
        self.register_buffer("item_ID", table_ID)
        self.register_buffer("popularity_I", torch.from_numpy(np.log1p(popularity)).float())
        self.register_buffer("mean_X", torch.zeros(width))
        self.register_buffer("std_X", torch.ones(width))
        self.weight = nn.Parameter(torch.ones(()))
        self.dcn = Dcn(width, encoder.config.model)

    def take_items_of(self, encoder: SequenceModel) -> None:
        """Use the item embeddings of `encoder`, a later state of the encoder that this head was trained with."""
        with torch.no_grad():
            self.item_ID.copy_(encoder.output_rows())

    def inputs(self, lists: CandidateLists, place_MN: Tensor) -> Tensor:
        """Unscaled input [M, N, X] of lists whose candidates have the encoder's ranks `place_MN`."""
        e_MND = self.item_ID[lists.item_MN]
        h_MND = lists.h_MD[:, None].expand_as(e_MND)
        logit_MN = lists.logit_MN.where(lists.logit_MN > -torch.inf, 0)
        scalars = [logit_MN, place_MN.float().log1p(), self.popularity_I[lists.item_MN], lists.seen_MN.float()]
        return torch.cat([h_MND, e_MND, h_MND * e_MND, torch.stack(scalars, dim=2)], dim=2)

    def fit_scale(self, lists: CandidateLists) -> None:
        """Set mean and deviation of each input from about 1,000 of the training lists."""
        some = lists.take(torch.arange(0, len(lists), max(1, len(lists) // 1000)))
        x = self.inputs(some, _places(some)).flatten(0, 1)
        self.mean_X.copy_(x.mean(dim=0))
        self.std_X.copy_(x.std(dim=0, unbiased=False))
        self.std_X[self.std_X < 1e-6] = 1.0

    def forward(self, lists: CandidateLists, place_MN: Tensor) -> Tensor:
        """Scores [M, N]; -inf where a list has no candidate."""
        x_MNX = ((self.inputs(lists, place_MN) - self.mean_X) / self.std_X).clamp(-_CLIP, _CLIP)
        there_MN = lists.logit_MN > -torch.inf
        score_MN = self.weight * lists.logit_MN.where(there_MN, 0) + self.dcn(x_MNX)
        return torch.where(there_MN, score_MN, -torch.inf)


def popularity(split: LeaveOneOut) -> NDArray[np.float64]:
    """How often each item [I] occurs among the training items."""
    sequences = split.sequences
    begin, end = sequences.bounds[:-1], split.train_end
    items = np.concatenate([sequences.items[a:b] for a, b in zip(begin, end, strict=True)])
    return np.bincount(items, minlength=len(sequences.item_names) + 1).astype(np.float64)


@torch.inference_mode()
def new_places(head: Reranker, lists: CandidateLists) -> NDArray[np.int64]:
    """Rank [M] of each target among all items after re-ranking, 0 = best, ties against it."""
    head.eval()
    out, count = lists.place_M.clone(), lists.item_MN.shape[1]
    for rows in torch.split(torch.nonzero(lists.place_M < count)[:, 0], _ROWS):
        part = lists.take(rows)
        score_MN = head(part, _places(part))
        own_M1 = score_MN[part.item_MN == part.target_M[:, None]][:, None]
        out[rows] = places_among(score_MN, own_M1)
    return out.numpy()


def train_head(
    head: Reranker,
    lists: CandidateLists,
    validation: CandidateLists,
    config: RerankConfig,
    rate_and_seed: tuple[float, int],
) -> dict[str, float]:
    """Train in place on the lists that hold their target; keep the epoch with the best validation NDCG@10.

    Returns the kept epoch (0: the encoder's own order), its figure, and the best figure of the epochs from 1 on, as
    `trained_ndcg@10`.
    """
    rate, seed = rate_and_seed
    lists = lists.take(torch.nonzero(lists.place_M < lists.item_MN.shape[1])[:, 0])
    figures: dict[str, float] = {"lists": len(lists), "best_epoch": 0, "rate": rate, f"trained_{CHOSEN_BY}": 0.0}
    figures[CHOSEN_BY] = metrics(new_places(head, validation))[CHOSEN_BY]
    if not len(lists):
        return figures
    torch.manual_seed(seed)
    head.fit_scale(lists)
    optimiser = torch.optim.AdamW(head.parameters(), rate, weight_decay=config.weight_decay)
    best = copy.deepcopy(head.state_dict())
    for epoch in range(1, config.epochs + 1):
        head.train()
        for rows in torch.split(torch.randperm(len(lists)), config.batch):
            _step(head, optimiser, lists.take(rows), config.sampled)
        figure = metrics(new_places(head, validation))[CHOSEN_BY]
        figures[f"trained_{CHOSEN_BY}"] = max(figure, figures[f"trained_{CHOSEN_BY}"])
        if figure > figures[CHOSEN_BY]:
            figures |= {CHOSEN_BY: figure, "best_epoch": epoch}
            best = copy.deepcopy(head.state_dict())
        if epoch - figures["best_epoch"] >= config.patience:
            break
    head.load_state_dict(best)
    return figures


def _step(head: Reranker, optimiser: torch.optim.Optimizer, lists: CandidateLists, sampled: int) -> None:
    own_MN = lists.item_MN == lists.target_M[:, None]
    drawn_MC = torch.rand(own_MN.shape).masked_fill(own_MN, 2.0).topk(min(sampled, own_MN.shape[1]), dim=1).indices
    part = replace(
        lists,
        item_MN=lists.item_MN.gather(1, drawn_MC),
        logit_MN=lists.logit_MN.gather(1, drawn_MC),
        seen_MN=lists.seen_MN.gather(1, drawn_MC),
    )
    # the target gets the highest draw, 2, so topk puts it into column 0
    loss = nn.functional.cross_entropy(head(part, drawn_MC), torch.zeros(len(part), dtype=torch.long))
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()


def _places(lists: CandidateLists) -> Tensor:
    return torch.arange(lists.item_MN.shape[1]).expand_as(lists.item_MN)
