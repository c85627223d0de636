"""Why the fraud head gave its score: the calibrated logit as a base plus one term for each kind of reason, exactly.

The kinds partition the head's inputs (panther_core.decide.reasons.KINDS). Starting from a base input, the kinds' inputs
are replaced by the row's own one kind after the other; a kind's term is how far its step moved the logit, so the terms
telescope to logit - base. What two kinds do only together goes to the later one: the steps are taken in the order of
KINDS and in the reverse order, and averaged, which splits it evenly between any two.

The base is an average transaction of a user of whom nothing is known: dense inputs at their training mean (0 when
standardised), e_u as a user without profile and history has it, no window of the text convolution. It is made of what
every artifact holds already.

Beside the terms: the prototypes of the last layer (paper 3.3) nearest to the user's state before the transaction. What
SPRM weighs them by are inner states that the cached outputs do not hold; their direction in the state they helped to
make is compared instead.

Shapes: B rows, G kinds, S = 2 G steps a row, X dense inputs, U width of e_u, P pooled features.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from panther_core.data.decision import PROTOTYPES
from panther_core.decide.reasons import DENSE_KIND, EMBEDDING_KIND, KINDS, TEXT_KIND
from panther_core.model.head import FraudHead
from panther_core.model.layers import Layer
from panther_core.model.panther import Panther

_ROWS = 256  # rows at a time: bounds memory

# From the base every forward step adds a kind, from the row's own input every backward step takes the first one away:
# taken[s, g] = step s has kind g as the row has it. The first half ends at the row itself, the second at the base.
_G = len(KINDS)
_TAKEN = torch.from_numpy(np.concatenate([np.tri(_G), 1 - np.tri(_G)]) > 0)


def nearest_prototypes(panther: Panther, h_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers [B, PROTOTYPES], from 1, of the prototypes whose contribution to a state points most the way h does, and
    the cosines; zeros where the model has none."""
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
    head: FraudHead, dense_BX: Tensor, e_BU: Tensor, pooled_BP: Tensor, base_U: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Terms [B, G], base [B] and logit [B], all of the calibrated logit; inputs as FraudHead.logit takes them."""
    taken_SG = _TAKEN.to(dense_BX.device)
    dense_SX = taken_SG[:, torch.from_numpy(DENSE_KIND).to(dense_BX.device)]
    e_S1, text_S1 = taken_SG[:, EMBEDDING_KIND, None], taken_SG[:, TEXT_KIND, None]
    logits = []
    for dense, e, pooled in zip(
        *(torch.split(part[:, None], _ROWS) for part in (dense_BX, e_BU, pooled_BP)), strict=True
    ):
        steps = (
            torch.where(dense_SX, dense, head.mean),
            torch.where(e_S1, e, base_U),
            torch.where(text_S1, pooled, torch.zeros_like(pooled)),
        )
        logits.append(head.logit(*(step.flatten(0, 1) for step in steps)).view(len(dense), 2 * _G))
    logit_BS = head.scale * torch.cat(logits) + head.bias
    forward, backward = logit_BS[:, :_G], logit_BS[:, _G:]
    logit, base = forward[:, -1:], backward[:, -1:]
    added = forward - torch.cat([base, forward[:, :-1]], dim=1)
    removed = torch.cat([logit, backward[:, :-1]], dim=1) - backward
    return (added + removed) / 2, base[:, 0], logit[:, 0]
