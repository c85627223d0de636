"""Losses of pretraining (paper 3.3 and 3.4): next transaction, its attributes, InfoNCE over profiles.

N predictions, D width, V tokens, B users.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from panther_core.model.codes import attributes
from panther_core.model.panther import Panther

FULL_SOFTMAX = 8192  # tokens; for a larger vocabulary the denominator is estimated from so many uniform samples
_LOGITS = 8 << 20  # logits held in memory at a time


def next_token(panther: Panther, h_ND: Tensor, code_N: Tensor, generator: torch.Generator) -> Tensor:
    """Mean cross-entropy of the next transactions `code_N` given the states `h_ND`, nats.

    The softmax is over the full vocabulary, or over a sample of it if it has more than FULL_SOFTMAX tokens.
    """
    target = panther.tokeniser(attributes(code_N))
    query, size = panther.query(h_ND), panther.tokeniser.size
    if size <= FULL_SOFTMAX:
        table = panther.token_table()
        pieces = zip(
            torch.split(query, max(1, _LOGITS // size)), torch.split(target, max(1, _LOGITS // size)), strict=True
        )
        return torch.stack([F.cross_entropy(q @ table, t, reduction="sum") for q, t in pieces]).sum() / len(target)
    sample = torch.randint(size, (FULL_SOFTMAX,), generator=generator).to(h_ND.device)
    own = (query * panther.token_rows(target)).sum(dim=1, keepdim=True)
    # the S uniform samples stand for the V - 1 other tokens, so each counts (V - 1) / S times; a sample that
    # equals the target is left out
    others = query @ panther.token_rows(sample).T + torch.tensor((size - 1) / FULL_SOFTMAX).log()
    others = others.masked_fill(sample == target[:, None], -torch.inf)
    return (torch.cat([own, others], dim=1).logsumexp(dim=1) - own[:, 0]).mean()


def profile_contrast(e_BU: Tensor, profile_B8: Tensor, temperature: float) -> Tensor:
    """InfoNCE over users: positives of a user agree with the user in more than half of the profile facts known of the
    user.

    Facts count as equal when they are known of both. All other users of the batch are negatives.
    """
    known = profile_B8 > 0
    same = ((profile_B8[:, None] == profile_B8[None]) & known[:, None] & known[None]).sum(dim=2)
    positive = (2 * same > known.sum(dim=1)[:, None]).fill_diagonal_(False)
    return info_nce(e_BU, positive, temperature)


def info_nce(e_BU: Tensor, positive_BB: Tensor, temperature: float) -> Tensor:
    """Mean -log p of a row's positives among all other rows, nats; p = softmax(e e^T / temperature), e of unit length.

    With several positives their log-likelihoods are averaged (arXiv 2004.11362, eq. 2). 0 when no row has a positive.
    """
    self_mask = torch.eye(len(e_BU), dtype=torch.bool, device=e_BU.device)
    log_p = (e_BU @ e_BU.T / temperature).masked_fill(self_mask, -torch.inf).log_softmax(dim=1)
    anchors = positive_BB.any(dim=1)
    if not bool(anchors.any()):
        return e_BU.new_zeros(())
    mean = torch.where(positive_BB, log_p, 0).sum(dim=1)[anchors] / positive_BB.sum(dim=1)[anchors]
    return -mean.mean()
