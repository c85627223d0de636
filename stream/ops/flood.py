"""Dead letters in the log: the first one loudly, a flood loudly once, and then one line a minute that counts them.

A producer whose every record is refused is silent otherwise: the stream goes on, and only a metric rises.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable

from panther_core.data.topics import TRANSACTIONS

logger = logging.getLogger(__name__)

EVERY_S = 60.0
#: dead letters within a minute that are a flood
FLOOD = 100
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


class DeadLetterNotice:
    """Says what becomes a dead letter, at most three times a minute. `now_s`: a clock that does not go back."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._since_s = 0.0
        self._said = 0  # of the letters counted
        self._letters: Counter[tuple[str, int]] = Counter()  # by code and partition, of this minute

    def note(self, code: str, partition: int, offset: int, reason: str) -> None:
        """Count a dead letter; its reason is said without what stands in quotes, which may be somebody's identifier."""
        self.tell()
        count = self._letters.total()
        if not count:
            self._since_s = self._now_s()
            logger.warning(
                "dead letter %s at %s %d:%d: %s (others of this minute are counted)",
                code,
                TRANSACTIONS,
                partition,
                offset,
                _QUOTED.sub("'...'", reason),
            )
            self._said = 1
        self._letters[code, partition] += 1
        if count + 1 == FLOOD:
            self._say("a flood of dead letters")

    def tell(self) -> None:
        """Say the count of the minute that has passed, if any was not said; to be called now and then."""
        if self._letters and self._now_s() - self._since_s >= EVERY_S:
            if self._letters.total() > self._said:
                self._say("dead letters")
            self._letters.clear()

    def _say(self, what: str) -> None:
        self._said = self._letters.total()
        each = ", ".join(f"{code} {count:,} in partition {p}" for (code, p), count in self._letters.most_common(8))
        logger.warning(
            "%s: %s within %.0f s: %s", what, f"{self._said:,}", max(1.0, self._now_s() - self._since_s), each
        )
