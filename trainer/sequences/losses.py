"""Cross-entropy over tens of thousands of items, without ever holding all logits.

Shapes: M predictions, D width, N + 1 rows of the item table (row 0 is padding and no item), S sampled items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LOGITS = 4 << 20  # held at a time


class FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of `target_M` under softmax(query table^T); gradients are made in the forward pass, chunk by
    chunk, while the logits are in cache."""

    @staticmethod
    def forward(ctx: Any, query_MD: Tensor, table_ND: Tensor, target_M: Tensor) -> Tensor:
        """Scalar, nats. Row 0 of the table takes no part."""
        grad_query, grad_table = torch.empty_like(query_MD), torch.zeros_like(table_ND)
        total, count, size = query_MD.new_zeros(()), len(query_MD), max(1, _LOGITS // len(table_ND))
        for start in range(0, count, size):
            part = slice(start, start + size)
            q, target = query_MD[part], target_M[part, None]
            logits = q @ table_ND.T
            logits[:, 0] = -torch.inf
            own = logits.gather(1, target)
            logits -= logits.amax(dim=1, keepdim=True)
            shift = logits.gather(1, target)
            probability = logits.exp_()
            z = probability.sum(dim=1, keepdim=True)
            total += (z.log() - shift).sum()
            probability /= z * count
            probability.scatter_add_(1, target, torch.full_like(own, -1 / count))
            grad_query[part] = probability @ table_ND
            grad_table.addmm_(probability.T, q)
        ctx.save_for_backward(grad_query, grad_table)
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, None]:
        """Of the query and of the table."""
        query, table = ctx.saved_tensors
        return query * grads[0], table * grads[0], None


def full_softmax(query_MD: Tensor, table_ND: Tensor, target_M: Tensor) -> Tensor:
    """Mean cross-entropy, nats; see FullSoftmax."""
    loss: Tensor = FullSoftmax.apply(query_MD, table_ND, target_M)
    return loss


def sampled_softmax(query_MD: Tensor, own_MD: Tensor, other_SD: Tensor, same_MS: Tensor, items: int) -> Tensor:
    """The same, estimated: S uniformly sampled items (`other_SD`) stand for all but the own one (`own_MD`), each
    counting (N - 1) / S times; where the sample is the own item (`same_MS`) it does not count."""
    own = (query_MD * own_MD).sum(dim=1, keepdim=True)
    weight = torch.tensor((items - 1) / len(other_SD), device=own.device).log()
    other = (query_MD @ other_SD.T + weight).masked_fill(same_MS, -torch.inf)
    return (torch.cat([own, other], dim=1).logsumexp(dim=1) - own[:, 0]).mean()
