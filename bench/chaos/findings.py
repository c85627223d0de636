"""What the checker of `panther chaos` finds wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

_EXAMPLES = 5


@dataclass
class Findings:
    """Everything found wrong: how often each kind occurred, and its first examples (positions, no user identifiers).

    `not_identical` counts repeated records that differ only in the clock or in the last digit of the score; these are
    not wrong.
    """

    count: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    not_identical: int = 0

    def add(self, kind: str, what: object) -> None:
        """Count one more finding of `kind`; `what` is its example."""
        self.count[kind] += 1
        if len(self.examples[kind]) < _EXAMPLES:
            self.examples[kind].append(str(what))
