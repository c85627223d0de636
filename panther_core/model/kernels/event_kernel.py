"""CPU kernels that scoring and encoding both apply to events: attribute codes, token, text windows.

Tests compare them with `Tokeniser` and `TextCnn`. Shapes as in panther_core.model.head; R rows of a block,
E = RECENT + 1 events, C channels, V tokens. Weight matrices are [inputs, outputs].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from panther_core.model.codes import Tokeniser, as_words
from panther_core.model.head import TextCnn
from panther_core.model.kernels.arithmetic import F32, I64, U64, array, jit


class EventWeights(NamedTuple):
    """Parameters of tokeniser and text convolution as the kernels take them."""

    words_7: tuple[U64, U64]  # shift and mask of each attribute in a packed code
    radix_4: I64
    keys: I64  # sorted; the last is a sentinel above all others
    table: F32
    offset_7: I64  # first row of each attribute in the table
    filter_XP: F32  # [E * C, P]
    bias_P: F32
    width_P: I64  # events under each filter


def event_weights(tokeniser: Tokeniser, text: TextCnn) -> EventWeights:
    """Copies of the parameters."""
    return EventWeights(
        words_7=as_words(),
        radix_4=np.array(tokeniser.radix, np.int64),
        keys=tokeniser.keys.numpy(),
        table=array(text.table),
        offset_7=np.array(text.offsets, np.int64),
        filter_XP=array((text.weight_PWC * text.taps_PW[..., None]).flatten(1).T),
        bias_P=array(text.bias_P),
        width_P=np.array(text.widths, np.int64),
    )


@jit
def token_id(parts_7: I64, weights: EventWeights) -> Any:
    """Token of attribute codes; 0, [UNK], where the vocabulary has none for them."""
    number = np.int64(0)
    for a in range(len(weights.radix_4)):
        number = number * weights.radix_4[a] + parts_7[a]
    at = np.searchsorted(weights.keys, number)
    return at + 1 if weights.keys[at] == number else 0


@jit
def text_window(codes_E: U64, weights: EventWeights, parts_7: I64, window_X: F32) -> int:
    """Write the embeddings of the newest E events side by side into `window`, and the newest event's attribute codes
    into `parts`. Returns a bit for each event that exists, or -1 for a code that is not in the schema.
    """
    shifts, masks = weights.words_7
    channels, rows, there = weights.table.shape[1], len(weights.table), 0
    window_X[:] = 0
    for e in range(len(codes_E)):
        for a in range(len(parts_7)):
            parts_7[a] = np.int64((codes_E[e] >> shifts[a]) & masks[a])
            row = weights.offset_7[a] + parts_7[a]
            if row >= (weights.offset_7[a + 1] if a + 1 < len(parts_7) else rows):
                return -1
            for c in range(channels):
                window_X[e * channels + c] += weights.table[row, c]
        if parts_7[0] > 0:  # every real event has an amount code of 1 or more
            there |= 1 << e
    return there


@jit
def text_newest(window_RX: F32, there_R: I64, weights: EventWeights) -> Any:
    """Activations [R, P] of the windows that end at the newest event; a window counts when its first and last exist."""
    out_RP = np.dot(window_RX, weights.filter_XP) + weights.bias_P
    events = window_RX.shape[1] // weights.table.shape[1]
    for r in range(len(out_RP)):
        for p in range(out_RP.shape[1]):
            ends = (1 << (events - weights.width_P[p])) | (1 << (events - 1))
            out_RP[r, p] = max(out_RP[r, p], np.float32(0)) if there_R[r] & ends == ends else np.float32(0)
    return out_RP
