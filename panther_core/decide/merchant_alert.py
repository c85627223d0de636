"""The alert on a merchant, from one look at it (panther_core.entities.merchant_alerts): pure functions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from panther_core.base.odds import sigmoid
from panther_core.base.times import HOUR_MS
from panther_core.data.decision import Reason
from panther_core.data.merchant_events import RISK_NAMES, MerchantAlert, ReportedPayment
from panther_core.decide.reasons import reported
from panther_core.entities.merchant_alerts import RISK

_ALERTS = uuid.UUID("0f0c5f6e-8d0f-5b57-a2c3-6f5b0c0d7f41")  # namespace of the ids
_DIGITS = 6
_UNUSUAL = 1.5  # times what payers usually pay, from which on it is said


def merchant_alert(
    merchant_id: str,
    hour: int,
    seller: NDArray[np.float32],
    threshold: float,
    payments: Sequence[ReportedPayment],
    deviation: float | None = None,
) -> MerchantAlert:
    """`hour`, `seller`: as in LOOK; `threshold`: log odds. The same look gives the same alert, whoever makes it."""
    risk, least = sigmoid(np.array([float(seller[RISK]), threshold])).round(_DIGITS).tolist()
    return MerchantAlert(
        alert_id=str(uuid.uuid5(_ALERTS, f"{merchant_id}\0{hour}")),
        merchant_id=merchant_id,
        as_of=hour * HOUR_MS,
        risk=risk,
        threshold=least,
        reasons=_reasons(seller, hour),
        payments=[*payments],
        deviation=deviation,
    )


def _reasons(seller: NDArray[np.float32], hour: int) -> list[Reason]:
    """What was reported, and, where payments are larger than their payers' usual ones, how much larger."""
    known = dict(zip(RISK_NAMES, seller.tolist(), strict=True))
    text, numbers = reported(known, hour // 24)
    risk = float(seller[RISK])
    out = [Reason("MERCHANT_REPORTED", text, round(risk, 3), numbers)]
    times = round(known["mean_ratio_7d"], 2)
    if times >= _UNUSUAL:
        text = f"Payments here were on average {times:g} times what their payers usually pay, in the last 7 days"
        out.append(Reason("UNUSUAL_AMOUNT", text, 0.0, {"times_usual_7d": times}))
    return out
