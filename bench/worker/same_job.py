"""The job of every contender of `panther bench worker`: count the transaction in a state, answer with a decision.

It computes as little as possible, so that the frameworks are compared and not this code.
"""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def next_state(state: bytes | None, size: int) -> bytes:
    """The state after one more event: a counter in 8 bytes, filled up to `size` bytes."""
    count = int.from_bytes(state[:8], "little") if state else 0
    return (count + 1).to_bytes(8, "little") + (state[8:] if state else b"\1" * (size - 8))


def decide(transaction: dict[str, Any], state: bytes | None) -> bytes:
    """A record of the size and fields of the project's own decisions."""
    return _encode(
        {
            "transaction_id": transaction["transaction_id"],
            "user_id": transaction["user_id"],
            "event_time": transaction["event_time"],
            "scored_at": 1_700_000_000_000,
            "latency_ms": 12,
            "score": 0.012345,
            "threshold": 0.5,
            "alert": False,
            "history_len": int.from_bytes(state[:8], "little") if state else 0,
            "cold_start": False,
            "late": False,
            "degraded": None,
            "model": {"name": "panther", "version": 1},
            "schema_version": 1,
        }
    )
