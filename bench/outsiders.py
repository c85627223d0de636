"""What outsiders may write onto the topics: ids that are the program's own words, garbage, forged decisions.

For `panther bench cases`, `panther chaos` and `panther bench fuzz`.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from panther_core.data.decision import MODEL_NAME, Decision, ModelRef
from panther_core.data.topics import ALERTS, SCORES
from stream.faust_parts.producer import Outgoing

#: Ids that no sender may have: keys of the program's own records in a state store, and other control characters.
POISON_IDS = ("__panther\0application", "__faust\0offset__", "\0", "u\0", "u\nu", "\x1b[31mu", "u\x1fu")
#: Ids that look like words of the program, and are ids like any other.
ODD_IDS = ("__panther", "__faust", "None", "null", "transactions", "0", "-1", '"u"', "u:0", "../u", "u/../../v")

FORGED_SCORE = 0.000123

Headers = list[tuple[str, Any]]  # a header's value may be null, which aiokafka's types do not know


def garbage(number: int) -> bytes:
    """A payment message of another system (ISO 20022, as in Tazama): a dead letter, `invalid_field`."""
    sizes = {"NbOfTxs": 1, "MsgId": f"msg-{number}", "CreDtTm": "2025-01-01T10:00:00.000Z"}
    amount = {"InstdAmt": {"Amt": {"Amt": 125.5, "Ccy": "XTS"}}, "PmtId": {"EndToEndId": f"e2e-{number}"}}
    return json.dumps(
        {"TxTp": "pacs.008.001.10", "FIToFICstmrCdtTrf": {"GrpHdr": sizes, "CdtTrfTxInf": amount}}
    ).encode()


def forgeries(app_id: str, partition: int, offset: int) -> list[tuple[str, Outgoing]]:
    """(topic, record) of broken and of forged decisions in an application's name; none of them answers a transaction.

    `offset`: of a transaction to come, for which one record claims to be the decision.
    """
    app = app_id.encode()
    sources: list[Any] = [None, b"\xff\xfe", "0:²".encode(), b"", b":", b"0", b"-1:-1", b"0:" + b"9" * 40, b"99:0"]
    sources += [f"{partition}:{offset}".encode(), f"{partition}:{offset + 1}".encode()]
    values = [decision("forged", "somebody"), b"", b"{}", b"not json", None]
    records: list[tuple[str, Outgoing]] = []
    for topic in (SCORES, ALERTS):
        for source in sources:
            headers: Headers = [("source", source), ("app", app)]
            records += [(topic, (b"somebody", value, headers)) for value in values]
        records += [(topic, (b"somebody", values[0], headers)) for headers in _odd_headers(app)]
    return records


def _odd_headers(app: bytes) -> list[Headers]:
    return [[], [("app", None)], [("app", app)], [("source", b"0:0"), ("app", None)], [("source", b"0:0")] * 3]


def decision(transaction_id: str, user_id: str) -> bytes:
    """A decision that an outsider could have written, by its look a good one."""
    made = Decision(
        transaction_id=transaction_id,
        user_id=user_id,
        event_time=1_750_000_000_000,
        scored_at=1_750_000_000_000,
        latency_ms=3,
        score=FORGED_SCORE,
        threshold=0.5,
        alert=False,
        history_len=7,
        cold_start=False,
        late=False,
        degraded=None,
        model=ModelRef(MODEL_NAME, 1),
    )
    return msgspec.json.encode(made)
