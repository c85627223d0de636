"""CPU kernel of the next-token prediction: the statistics that are kept of a row of logits over the whole vocabulary.

Shapes: B rows, V tokens, E likeliest tokens.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from panther_core.model.kernels.arithmetic import F32, I64, exp, jit

_PIECE = 64  # logits of a row that are looked at together


def token_statistics(logits_BV: F32, log_z_B: F32, square_B: F32, likely_BE: I64) -> None:
    """For each row of logits l: log_z = log sum_v e^l_v, square = sum_v p_v^2 with p_v = e^(l_v - log_z), and the
    numbers of the E tokens with the largest logits, the largest first.

    Token 0, [UNK], is never among the E tokens: it stands for many behaviours. Torch operators need three passes over
    the logits, this kernel reads each row from memory once.
    """
    # Where several Python threads run this (threads.side_by_side), each has one numba thread and takes the serial
    # kernel: numba's simplest threading layer ends the process when two Python threads start parallel kernels.
    run = _statistics if numba.get_num_threads() > 1 else _statistics_alone
    run(logits_BV, log_z_B, square_B, likely_BE)


@numba.njit(parallel=True, fastmath=True, cache=True)
def _statistics(logits_BV: F32, log_z_B: F32, square_B: F32, likely_BE: I64) -> None:
    for b in numba.prange(len(logits_BV)):
        log_z_B[b], square_B[b] = _row_statistics(logits_BV[b], likely_BE[b])


@jit
def _statistics_alone(logits_BV: F32, log_z_B: F32, square_B: F32, likely_BE: I64) -> None:
    for b in range(len(logits_BV)):
        log_z_B[b], square_B[b] = _row_statistics(logits_BV[b], likely_BE[b])


@jit
def _row_statistics(logits: F32, likely: I64) -> Any:
    """log_z and square of one row; `likely` is filled in.

    With m the largest logit and w_v = e^(l_v - m): log_z = m + log sum_v w_v, square = sum_v w_v^2 / (sum_v w_v)^2.
    """
    size, wanted = len(logits), len(likely)
    best = np.full(wanted, -np.inf, np.float32)
    top = logits[0]
    for low in range(1, size, _PIECE):
        piece = logits[low : low + _PIECE]
        highest = piece.max()
        top = max(top, highest)
        if highest <= best[wanted - 1]:
            continue
        for j in range(len(piece)):
            place = wanted
            while place > 0 and piece[j] > best[place - 1]:
                place -= 1
            if place < wanted:
                best[place + 1 :] = best[place:-1].copy()
                likely[place + 1 :] = likely[place:-1].copy()
                best[place], likely[place] = piece[j], low + j
    weight, bits = np.empty(_PIECE, np.float32), np.empty(_PIECE, np.int32)
    total, square = np.float32(0), np.float32(0)
    for low in range(0, size, _PIECE):
        piece = logits[low : low + _PIECE]
        count = len(piece)
        for j in range(count):
            weight[j] = piece[j] - top
        exp(weight[:count], bits[:count])
        for j in range(count):
            total += weight[j]
            square += weight[j] * weight[j]
    return np.log(total) + top, square / (total * total)
