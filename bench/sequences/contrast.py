"""PANTHER's contrastive term (paper 3.4) for users without a profile, as `panther bench seqrec` trains it.

The paper draws together users who share profile attributes. Of the users of these sets nothing is known but their
items. Positives are therefore histories that are followed by the same item, and the same history under another dropout
mask (DuoRec, arXiv 2110.05730, 3.3 and 3.4); every other history of the batch is a negative.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.fit.losses import info_nce


def behaviour_contrast(first_BTD: Tensor, second_BTD: Tensor, next_BT: Tensor, temperature: float) -> Tensor:
    """InfoNCE (scalar, nats) over two views h [B, T, D] of a batch, at one random unpadded position of each row.

    `next_BT`: the item after each position, 0 where padded; every row has at least one unpadded position.
    """
    at_B1 = (torch.rand(next_BT.shape) * (next_BT > 0)).argmax(dim=1, keepdim=True)
    rows_B1 = torch.arange(len(next_BT))[:, None]
    views = torch.cat([first_BTD[rows_B1, at_B1], second_BTD[rows_B1, at_B1]]).squeeze(1)
    next_2B = next_BT.gather(1, at_B1).repeat(2, 1).squeeze(1)
    positive = (next_2B[:, None] == next_2B).fill_diagonal_(False)
    return info_nce(F.normalize(views, dim=1), positive, temperature)
