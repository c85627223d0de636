"""Why the served head gave its score, whatever it blends: the calibrated logit as a base plus one term for each kind of
reason.

The kinds partition the head's inputs (panther_core.decide.reasons.KINDS). Starting from a base input, the kinds' inputs
are replaced by the row's own one kind after the other. A kind's term is how far its step moved the logit, so the terms
add up to logit - base. An effect that two kinds have only together falls to the step of the later kind; the steps are
taken in the order of KINDS and in the reverse order, and averaged, which splits such an effect evenly between the two.

The base is an average transaction of a user of whom nothing is known: dense inputs at their training mean (0 when
standardised), e_u of a user without profile and history, no window of the text convolution. Every artifact holds the
numbers for it.

Beside the terms: the prototypes of the last layer (paper 3.3) nearest to the user's state before the transaction. The
inner states from which SPRM weighs prototypes are not among the cached outputs. So the contribution that each prototype
makes to a state is compared, by its direction, with the state itself.

Shapes: B rows, G kinds, S = 2 G steps a row, X dense inputs, U width of e_u, P pooled features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from panther_core.data.decision import PROTOTYPES
from panther_core.decide.reasons import DENSE_KIND, EMBEDDING_KIND, KINDS, TEXT_KIND
from panther_core.model.layers import Layer
from panther_core.model.panther import Panther

_ROWS = 256  # rows explained at a time, which bounds memory

# Which inputs each step uses: taken[s, g] says that step s has the inputs of kind g from the row, not from the base.
# Steps of the first half add one kind after the other until all are the row's; steps of the second half begin with the
# first kind at the base and end with all of them there.
_G = len(KINDS)
_TAKEN = torch.from_numpy(np.concatenate([np.tri(_G), 1 - np.tri(_G)]) > 0)


def nearest_prototypes(panther: Panther, h_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers [B, PROTOTYPES], counted from 1, of the prototypes whose contribution to a state has the direction
    nearest to h, and the cosines; zeros where the model has too few prototypes."""
    number = torch.zeros(len(h_BD), PROTOTYPES, dtype=torch.int32, device=h_BD.device)
    cosine = h_BD.new_zeros(len(h_BD), PROTOTYPES)
    last = panther.layers[-1]
    if isinstance(last, Layer) and last.sprm is not None:
        way_MD = F.normalize(last.sprm.out(last.sprm.prototypes_MD), dim=1)
        top = (F.normalize(h_BD, dim=1) @ way_MD.T).topk(min(PROTOTYPES, len(way_MD)), dim=1)
        found = top.indices.shape[1]
        number[:, :found], cosine[:, :found] = top.indices.int() + 1, top.values
    return number, cosine


def explain(
    logit: Callable[[Tensor, Tensor, Tensor], Tensor],
    mean_X: Tensor,
    dense_BX: Tensor,
    e_BU: Tensor,
    pooled_BP: Tensor,
    base_U: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Terms [B, G], base [B] and logit [B], all of the calibrated logit that `logit` computes (PantherModel.logit);
    `mean` and `base_U`: the base's dense inputs and e_u."""
    taken_SG = _TAKEN.to(dense_BX.device)
    dense_SX = taken_SG[:, torch.from_numpy(DENSE_KIND).to(dense_BX.device)]
    e_S1, text_S1 = taken_SG[:, EMBEDDING_KIND, None], taken_SG[:, TEXT_KIND, None]
    logits = []
    for dense, e, pooled in zip(
        *(torch.split(part[:, None], _ROWS) for part in (dense_BX, e_BU, pooled_BP)), strict=True
    ):
        steps = (
            torch.where(dense_SX, dense, mean_X),
            torch.where(e_S1, e, base_U),
            torch.where(text_S1, pooled, torch.zeros_like(pooled)),
        )
        logits.append(logit(*(step.flatten(0, 1) for step in steps)).view(len(dense), 2 * _G))
    logit_BS = torch.cat(logits)
    forward, backward = logit_BS[:, :_G], logit_BS[:, _G:]
    last, base = forward[:, -1:], backward[:, -1:]
    added = forward - torch.cat([base, forward[:, :-1]], dim=1)
    removed = torch.cat([last, backward[:, :-1]], dim=1) - backward
    return (added + removed) / 2, base[:, 0], last[:, 0]
