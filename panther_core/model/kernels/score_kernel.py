"""CPU kernel of the fraud head: what `PantherModel.score` does to a micro-batch.

In torch this is some 150 operators on a few rows, and most of the time goes into calling them: 1 ms for 64 rows in a
tight loop, 2.4 ms in a server process, whose caches hold other data at the next request. The kernel takes 0.3 ms. Tests
compare it with `FraudHead` and `Panther`.

Shapes as in panther_core.model.head; E events, W width of the cross layers, V tokens, A attributes with a surprise,
Y number of all their codes. Weight matrices are [inputs, outputs].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from panther_core.base.odds import sigmoid
from panther_core.decide.scoring import SURPRISE, NewEvents, ScoreResponse
from panther_core.model.blend import Blend
from panther_core.model.codes import ATTRIBUTES
from panther_core.model.head import CLIP, MAX_Z, MIN_SIGMA, FraudHead
from panther_core.model.kernels.arithmetic import F32, I64, U64, array, jit
from panther_core.model.kernels.dcn_kernel import DcnWeights, dcn_logits, dcn_weights
from panther_core.model.kernels.event_kernel import EventWeights, event_weights, text_newest, text_window, token_id
from panther_core.model.kernels.threads import one_product_thread
from panther_core.model.panther import Panther

_CLIP, _MAX_Z, _MIN_SIGMA = np.float32(CLIP), np.float32(MAX_Z), np.float32(MIN_SIGMA)


class _Weights(NamedTuple):
    events: EventWeights
    token_VD: F32
    attribute_DY: F32
    attribute_bias_Y: F32
    place_A: I64  # index of each surprise's attribute in ATTRIBUTES
    first_A1: I64  # first column of each attribute in Y, and the end of the last
    dcn: DcnWeights


class ScoreKernel:
    """Holds copies of a served model's weights, which do not change with the model's own."""

    def __init__(self, panther: Panther, head: FraudHead) -> None:
        one_product_thread()
        self._calibration = head.scale.item(), head.bias.item()
        self._widths = (panther.config.d, panther.config.user_dim, panther.config.pooled)
        self._weights = _Weights(
            event_weights(panther.tokeniser, head.text),
            token_VD=array(panther.token_table().T),
            attribute_DY=array(panther.attribute_heads.weight.T),
            attribute_bias_Y=array(panther.attribute_heads.bias),
            place_A=np.array([ATTRIBUTES.index(name) for name in SURPRISE]),
            first_A1=np.cumsum([0, *panther.surprise_sizes]),
            dcn=dcn_weights(head),
        )

    def score(self, request: NewEvents, known_BK: F32, blend: Blend | None = None) -> ScoreResponse:
        """As `PantherModel.score`. `known`: outputs cached after the event before; for users without one, those of the
        start.

        Raises ValueError for a code that the model's schema does not have.
        """
        rows = len(request.code)
        dense = request.features.shape[1] + 4 + len(SURPRISE)
        dense_BX, e_BU = np.empty((rows, dense), np.float32), known_BK[:, self._widths[0] : sum(self._widths[:2])]
        out = (
            *(np.empty(rows, np.float32) for _ in range(3)),
            np.empty((rows, len(SURPRISE)), np.float32),
            dense_BX,
        )
        codes = np.concatenate([request.recent, request.code[:, None]], axis=1)
        cold = (request.history_len == 0).astype(np.float32)
        if not _score(np.ascontiguousarray(request.features), codes, cold, known_BK, self._widths, self._weights, out):
            raise ValueError("expected attribute codes of the model's schema, got a larger one")
        logit, log_p, z, surprise, _ = out
        if blend is None:
            scale, bias = self._calibration
            chance = sigmoid(scale * logit + bias)
        else:
            chance = sigmoid(blend.logit(logit.astype(np.float64), dense_BX, e_BU))
        return ScoreResponse(chance.astype(np.float32), surprise, log_p, z)


@jit
def _deviation(h_D: F32, logits_Y: F32, scalars: F32, parts: I64, weights: _Weights, surprise_A: F32) -> Any:
    """log p and z of an event, and its surprise by attribute, given the state before it."""
    token = token_id(parts, weights.events)
    dot, square = np.float32(0), np.float32(0)
    for j in range(len(h_D)):
        dot += h_D[j] * weights.token_VD[token, j]
        square += h_D[j] * h_D[j]
    log_p = dot / max(np.sqrt(square), np.float32(1e-12)) - scalars[0]
    z = (np.exp(log_p) - scalars[1]) / max(scalars[2], _MIN_SIGMA)
    for a in range(len(weights.place_A)):
        part = logits_Y[weights.first_A1[a] : weights.first_A1[a + 1]]
        top, total = part.max(), np.float32(0)
        for j in range(len(part)):
            total += np.exp(part[j] - top)
        surprise_A[a] = np.log(total) + top - part[parts[weights.place_A[a]]]
    return log_p, min(max(z, -_MAX_Z), _MAX_Z)


@jit
def _score(
    features_BF: F32,
    codes_BE: U64,
    cold_B: F32,
    known_BK: F32,
    widths: tuple[int, int, int],
    weights: _Weights,
    out: tuple[F32, F32, F32, F32, F32],
) -> bool:
    """Write logits, log p, z, surprises and dense inputs into `out`. `codes`: the newest known events of each row,
    oldest first, then the new one. Returns False, with `out` unfinished, for a code that is not in the schema."""
    out_B, log_p_B, z_B, surprise_BA, dense_BX = out
    rows, features = features_BF.shape
    d, user, pooled = widths
    dense = features + 4 + surprise_BA.shape[1]
    parts = np.empty(len(weights.events.offset_7), np.int64)
    h_BD = known_BK[:, :d].copy()
    logits_BY = np.dot(h_BD, weights.attribute_DY) + weights.attribute_bias_Y
    window_BX = np.empty((rows, len(weights.events.filter_XP)), np.float32)
    x0_BW, there_B = np.empty((rows, weights.dcn.cross_bias_LW.shape[1]), np.float32), np.empty(rows, np.int64)
    for b in range(rows):
        x0 = x0_BW[b]
        there_B[b] = text_window(codes_BE[b], weights.events, parts, window_BX[b])
        if there_B[b] < 0:
            return False
        scalars = known_BK[b, d + user + pooled :]
        log_p_B[b], z_B[b] = _deviation(h_BD[b], logits_BY[b], scalars, parts, weights, surprise_BA[b])
        x0[:features] = features_BF[b]
        x0[features] = log_p_B[b]
        x0[features + 1] = np.arcsinh(z_B[b])
        x0[features + 2] = np.log(max(scalars[2], _MIN_SIGMA))
        x0[features + 3] = cold_B[b]
        x0[features + 4 : dense] = surprise_BA[b]
        dense_BX[b] = x0[:dense]
        for j in range(dense):
            x0[j] = min(max((x0[j] - weights.dcn.mean_X[j]) / weights.dcn.std_X[j], -_CLIP), _CLIP)
        x0[dense:] = known_BK[b, d : d + user + pooled]
    newest_BP = text_newest(window_BX, there_B, weights.events)
    for b in range(rows):
        for p in range(pooled):
            x0_BW[b, dense + user + p] = max(x0_BW[b, dense + user + p], newest_BP[b, p])
    logit_B = dcn_logits(x0_BW, weights.dcn)
    out_B[:] = logit_B
    return True
