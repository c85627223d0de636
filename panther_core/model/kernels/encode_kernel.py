"""CPU kernels of what the incremental step does before and after the layers. One compiled call takes the place of many
operators on few rows, as in score_kernel.

Tests compare them with `Panther.embed_parts`, `TextCnn` and `PantherModel.outputs`. Shapes as in
panther_core.model.kernels.event_kernel; D width, U of the user embedding.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import nn

from panther_core.data.decision import EXPECTED
from panther_core.model.head import FraudHead
from panther_core.model.kernels.arithmetic import F32, I64, U64, array, jit
from panther_core.model.kernels.event_kernel import EventWeights, event_weights, text_newest, text_window, token_id
from panther_core.model.kernels.token_kernel import token_statistics
from panther_core.model.panther import Panther

_NORM_EPS, _UNIT_EPS = np.float32(1e-5), np.float32(1e-12)
_Mlp = tuple[F32, F32, F32, F32]  # weight and bias of two linear layers with a GELU between them


class _InputWeights(NamedTuple):
    events: EventWeights
    table: F32
    embedded: tuple[I64, I64]  # numbers of the attributes that have rows in the table, and the first row of each
    position_TD: F32
    profile_table: F32
    profile_offset: I64  # first row of each field; empty where the profile is not added to every event
    profile_mlp: _Mlp


class EncodeKernel:
    """Holds copies of a served model's weights, which do not change with the model's own."""

    def __init__(self, panther: Panther, head: FraudHead) -> None:
        own = panther._embedded
        added = panther.config.profile == "positional"
        self._inputs = _InputWeights(
            event_weights(panther.tokeniser, head.text),
            table=array(panther.table),
            embedded=(np.array(own, np.int64), panther.offsets[own].numpy()),
            position_TD=array(panther.position_TD),
            profile_table=array(panther.profile_table),
            profile_offset=np.array(panther.profile_offsets if added else [], np.int64),
            profile_mlp=_mlp(panther.profile_mlp),
        )
        self._norm = array(panther.norm.weight), array(panther.norm.bias)
        self._user = _mlp(panther.user_head)
        self._table_DV = panther.token_table().detach().contiguous()
        self._codes = panther.tokeniser.codes.numpy().view(np.uint64)

    def inputs(self, codes_BE: U64, at_B: I64, profile_B8: Any) -> tuple[F32, F32]:
        """Input of the first layer for the newest of each row's events, [B, D], and its text activations [B, P].

        Raises ValueError for a code that the model's schema does not have.
        """
        x_BD = np.empty((len(codes_BE), self._inputs.position_TD.shape[1]), np.float32)
        new_BP = np.empty((len(codes_BE), len(self._inputs.events.width_P)), np.float32)
        if not _inputs(codes_BE, at_B, np.ascontiguousarray(profile_B8), self._inputs, x_BD, new_BP):
            raise ValueError("expected attribute codes of the model's schema, got a larger one")
        return x_BD, new_BP

    def outputs(self, x_BD: F32, pooled_BP: F32) -> tuple[F32, U64]:
        """Blocks to cache [B, K] and codes of the likeliest tokens, as `PantherModel.outputs`, of the last layer's
        output."""
        rows, d = x_BD.shape
        size, user = self._table_DV.shape[1], len(self._user[3])
        cached_BK = np.empty((rows, d + user + pooled_BP.shape[1] + 3), np.float32)
        cached_BK[:, d + user : -3] = pooled_BP
        query_BD, square_B = np.empty((rows, d), np.float32), np.empty(rows, np.float32)
        _states(x_BD, self._norm, self._user, cached_BK, query_BD)
        likely = np.zeros((rows, min(EXPECTED, size - 1)), np.int64)
        logits_BV = torch.from_numpy(query_BD) @ self._table_DV
        log_z_B = np.empty(rows, np.float32)
        token_statistics(logits_BV.numpy(), log_z_B, square_B, likely)
        cached_BK[:, -3], cached_BK[:, -2] = log_z_B, 1 / size
        cached_BK[:, -1] = np.sqrt(np.maximum(square_B / size - np.float32(1 / size) ** 2, 0))
        codes = np.zeros((rows, EXPECTED), np.uint64)
        codes[:, : likely.shape[1]] = self._codes[likely]
        return cached_BK, codes


def _mlp(module: nn.Module) -> _Mlp:
    first, second = (cast(nn.Linear, cast(nn.Sequential, module)[i]) for i in (0, 2))
    return array(first.weight.T), array(first.bias), array(second.weight.T), array(second.bias)


@jit
def _two_layers(x_RD: F32, mlp: _Mlp) -> Any:
    up, up_bias, down, down_bias = mlp
    hidden = np.dot(x_RD, up) + up_bias
    for r in range(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            hidden[r, j] *= np.float32(0.5) * (
                np.float32(1) + np.float32(math.erf(hidden[r, j] * np.float32(0.70710678)))
            )
    return np.dot(hidden, down) + down_bias


@jit
def _inputs(codes_BE: U64, at_B: I64, profile_B8: Any, weights: _InputWeights, x_BD: F32, new_BP: F32) -> bool:
    rows, d = x_BD.shape
    parts, there_B = np.empty(len(weights.events.offset_7), np.int64), np.empty(rows, np.int64)
    window_BX = np.empty((rows, len(weights.events.filter_XP)), np.float32)
    attribute, first = weights.embedded
    for b in range(rows):
        there_B[b] = text_window(codes_BE[b], weights.events, parts, window_BX[b])
        if there_B[b] < 0:
            return False
        x, token, place = x_BD[b], weights.table[token_id(parts, weights.events)], weights.position_TD[at_B[b]]
        for j in range(d):
            x[j] = token[j] + place[j]
        for a in range(len(attribute)):
            row = weights.table[first[a] + parts[attribute[a]]]
            for j in range(d):
                x[j] += row[j]
    new_BP[:] = text_newest(window_BX, there_B, weights.events)
    if len(weights.profile_offset):
        sum_BD = np.zeros((rows, d), np.float32)
        for b in range(rows):
            for i in range(len(weights.profile_offset)):
                number = weights.profile_offset[i] + profile_B8[b, i]
                if number >= len(weights.profile_table):
                    return False
                sum_BD[b] += weights.profile_table[number]
        x_BD += _two_layers(sum_BD, weights.profile_mlp)
    return True


@jit
def _states(x_BD: F32, norm: tuple[F32, F32], user: _Mlp, cached_BK: F32, query_BD: F32) -> None:
    """Write h and e_u into the block to cache, and h at unit length into `query`."""
    rows, d = x_BD.shape
    scale, bias = norm
    h_BD = np.empty((rows, d), np.float32)
    for b in range(rows):
        x, mean, square, length = x_BD[b], np.float32(0), np.float32(0), np.float32(0)
        for j in range(d):
            mean += x[j]
        mean /= np.float32(d)
        for j in range(d):
            square += (x[j] - mean) * (x[j] - mean)
        factor = np.float32(1) / np.sqrt(square / np.float32(d) + _NORM_EPS)
        for j in range(d):
            h_BD[b, j] = (x[j] - mean) * factor * scale[j] + bias[j]
            length += h_BD[b, j] * h_BD[b, j]
        length = max(np.sqrt(length), _UNIT_EPS)
        for j in range(d):
            query_BD[b, j] = h_BD[b, j] / length
    cached_BK[:, :d] = h_BD
    e_BU = _two_layers(h_BD, user)
    for b in range(rows):
        length = max(np.sqrt((e_BU[b] * e_BU[b]).sum()), _UNIT_EPS)
        for j in range(e_BU.shape[1]):
            cached_BK[b, d + j] = e_BU[b, j] / length
