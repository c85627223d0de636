"""Decisions from a model's answers or, without one, from the rules: DECISION rows, and the reasons in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from panther_core.data.decision import ALERT, COLD, DECISION, EXPLAINED, LATE, PLACES, REUSED, Degraded
from panther_core.decide.reasons import rank_reasons, strongest
from panther_core.decide.rules import RuleModel
from panther_core.decide.scoring import ExplainResponse, ScoreResponse
from panther_core.state.transition import Events

SCORE_DECIMALS = 6  # published scores are rounded, so that float noise between batch shapes does not show


@dataclass(frozen=True)
class LiveModel:
    """What the engine must know of the serving model version. `typical_surprise` [A]: mean on training events, nats."""

    version: int
    threshold: float
    rules: RuleModel
    typical_surprise: NDArray[np.float32]


def make_decisions(
    events: Events,
    features: NDArray[np.float32],
    model: LiveModel,
    answer: ScoreResponse | None,
    *,
    live: NDArray[np.bool_],
    current: NDArray[np.bool_],
    history_len: NDArray[np.int64],
    late: NDArray[np.bool_],
    expected: NDArray[np.void],
    reused: NDArray[np.bool_] | None = None,
) -> NDArray[np.void]:
    """DECISION rows [B], complete but for the clock fields.

    `live` [B]: the model answered for this row. `current` [B]: it answered from outputs that had seen all events before
    this one. `reused` [B]: the user has used the transaction's id before, for another payment; None: nobody has.
    """
    score = model.rules.score(features).astype(np.float64)
    surprise = None
    if answer is not None:
        score = np.where(live, answer.score, score)
        surprise = np.where(live[:, None], answer.surprise - model.typical_surprise, 0)
    score = np.round(score, SCORE_DECIMALS)
    kinds, contributions = rank_reasons(surprise, model.rules.contributions(features))
    alert = score >= model.threshold

    out = np.zeros(len(events), DECISION)
    out["transaction"] = events["transaction"]
    out["score"], out["threshold"] = score, model.threshold
    out["history_len"] = np.minimum(history_len, 2**31 - 1)
    out["model_version"] = np.where(live, model.version, 0)
    out["flags"] = alert * ALERT + (history_len == 0) * COLD + late * LATE
    if reused is not None:
        out["flags"] |= reused * np.uint8(REUSED)
    out["degraded"] = np.where(live, np.where(current, Degraded.LIVE, Degraded.CACHED), Degraded.RULES)
    out["reason"], out["contribution"], out["expected"] = kinds, contributions, expected
    return out


def deviations(scored: ScoreResponse | None, model: LiveModel, live: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How much more surprising than usual each payment [B] was to the model, nats; NaN where it did not answer."""
    if scored is None:
        return np.full(len(live), np.nan, np.float32)
    return np.where(live, (scored.surprise - model.typical_surprise).sum(axis=1), np.nan).astype(np.float32)


def to_explain(decision: NDArray[np.void]) -> NDArray[np.intp]:
    """Rows of which panther_explain is asked for reasons: alerts that the model scored."""
    return np.flatnonzero(((decision["flags"] & ALERT) > 0) & (decision["degraded"] != Degraded.RULES))


def give_reasons(decision: NDArray[np.void], rows: NDArray[np.intp], why: ExplainResponse | None) -> None:
    """Put the model's reasons into these rows; a row keeps its own reasons where the model gives none."""
    if why is None:
        return
    decision["prototype"][rows], decision["similarity"][rows] = why.prototype, why.similarity
    kinds, contributions = strongest(why.contribution)
    found = kinds[:, 0] > 0
    decision["reason"][rows[found]] = kinds[found]
    decision["contribution"][rows[found]] = contributions[found]


def recall(decision: np.void, published: np.void) -> None:
    """Overwrite a decision with the one that was published before a crash, in place, so that no reader is contradicted.

    The two can differ: another model may be live by now, or the first decision was made without a model. Reasons are
    taken over where they are known (of alerts). What was expected comes from the state, which is the same both times.
    """
    for name in (*PLACES, *(EXPLAINED if published["reason"][0] else ())):
        decision[name] = published[name]
