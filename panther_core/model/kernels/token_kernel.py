"""CPU kernel of the next-token prediction: what is kept of a row of logits over the whole vocabulary.

Shapes: B rows, V tokens, E likeliest tokens.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from panther_core.model.kernels.arithmetic import F32, I64, exp, jit

_PIECE = 64  # logits whose maximum is taken at a time


def token_statistics(logits_BV: F32, log_z_B: F32, square_B: F32, likely_BE: I64) -> None:
    """Of each row of logits: log of the softmax denominator, sum of squared probabilities, the E likeliest tokens.

    Token 0, [UNK], is no behaviour to expect. What three passes of operators give, in one over the cache.
    """
    # numba's threads must not be asked from several of Python's: their simplest kind ends the process then
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
