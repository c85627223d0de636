"""What a version was judged by, offline (trainer.rollout.gate) and in the stream (trainer.rollout.watch)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One check of the gate: what the champion has, what the challenger has, and the 95 % interval of what was judged
    (None where there is none). `why` says it in a sentence."""

    check: str
    held: bool
    champion: float | None
    challenger: float | None
    interval: tuple[float, float] | None
    why: str


def refusals(checks: Sequence[Check]) -> list[str]:
    """Why the challenger must not go live; empty where every check held."""
    return [check.why for check in checks if not check.held]
