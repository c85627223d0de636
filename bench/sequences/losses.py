"""Cross-entropy over tens of thousands of items without holding all logits at once, for `panther bench seqrec`.

Shapes: M predictions, D width, N + 1 rows of the item table (row 0 is padding and no item), S sampled items.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

_LOGITS = 4 << 20  # logits held in memory at a time
_ROWS = 256  # predictions of a sampled softmax at a time, so that their logits stay in the cache


class SampledItems(NamedTuple):
    """Sampled items [S] and target items [M]; where a sampled item is a row's target, it is left out of that row."""

    sample_S: Tensor
    target_M: Tensor


class FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of `target_M` under softmax(query table^T); gradients are computed in the forward pass,
    chunk by chunk, while the logits are in the cache."""

    @staticmethod
    def forward(ctx: Any, query_MD: Tensor, table_ND: Tensor, target_M: Tensor) -> Tensor:
        """Loss (scalar, nats). Row 0 of the table, the padding, is left out."""
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
        """Gradients of the query and of the table."""
        query, table = ctx.saved_tensors
        return query * grads[0], table * grads[0], None


def full_softmax(query_MD: Tensor, table_ND: Tensor, target_M: Tensor) -> Tensor:
    """Mean cross-entropy in nats over all items; see FullSoftmax."""
    loss: Tensor = FullSoftmax.apply(query_MD, table_ND, target_M)
    return loss


class SampledSoftmax(torch.autograd.Function):
    """Cross-entropy where S sampled items stand for all but the target; chunked and fused as FullSoftmax is."""

    @staticmethod
    def forward(
        ctx: Any, query_MD: Tensor, own_MD: Tensor, other_SD: Tensor, sampled: SampledItems, weight: float
    ) -> Tensor:
        """Loss (scalar, nats); `own_MD`, `other_SD`: rows of the targets and of the sample."""
        grad_query, grad_other = torch.empty_like(query_MD), torch.zeros_like(other_SD)
        error_M1 = query_MD.new_empty(len(query_MD), 1)  # probability of the own item, less 1, over M
        total, count = query_MD.new_zeros(()), len(query_MD)
        for start in range(0, count, _ROWS):
            part = slice(start, start + _ROWS)
            q, own = query_MD[part], (query_MD[part] * own_MD[part]).sum(dim=1, keepdim=True)
            is_target = sampled.sample_S == sampled.target_M[part, None]
            other = (q @ other_SD.T).add_(weight).masked_fill_(is_target, -torch.inf)
            peak = torch.maximum(own, other.amax(dim=1, keepdim=True))
            probability = other.sub_(peak).exp_()
            z = probability.sum(dim=1, keepdim=True) + (own - peak).exp()
            total += (z.log() + peak - own).sum()
            error_M1[part] = ((own - peak).exp() / z - 1) / count
            probability /= z * count
            grad_query[part] = torch.addmm(error_M1[part] * own_MD[part], probability, other_SD)
            grad_other.addmm_(probability.T, q)
        ctx.save_for_backward(grad_query, error_M1 * query_MD, grad_other)
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Gradients of the query, of the targets' rows and of the sample's rows."""
        query, own, other = ctx.saved_tensors
        return query * grads[0], own * grads[0], other * grads[0], None, None


def sampled_softmax(query_MD: Tensor, own_MD: Tensor, other_SD: Tensor, sampled: SampledItems, items: int) -> Tensor:
    """Estimate of `full_softmax`: S uniformly sampled items (`other_SD`) stand for all but the target (`own_MD`).

    Each sampled item counts (N - 1) / S times, and not at all in rows whose target it is.
    """
    weight = math.log((items - 1) / len(other_SD))
    loss: Tensor = SampledSoftmax.apply(query_MD, own_MD, other_SD, sampled, weight)
    return loss
