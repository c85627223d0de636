"""What was seen in a case, in words, and whether it was right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.cases.stage import Answer


class Seen:
    """Notes of one case: `outcome` says in words what happened, `ok` holds while nothing was wrong."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self.ok = True

    def that(self, right: bool, what: str) -> None:
        """Note `what`; a thing that is not right is marked, and the case is not ok."""
        self.ok = self.ok and right
        self._words.append(what if right else f"WRONG: {what}")

    def decided(self, answers: Sequence[Answer], what: str) -> None:
        """Note that each of these records has one decision, or one repeated, and no dead letter."""
        right = all(answer.decisions and not answer.codes for answer in answers)
        self.that(right, f"{what}: {_counted(answers)}")

    def refused(self, answers: Sequence[Answer], code: str, what: str) -> None:
        """Note that each of these records has a dead letter with this code, and no decision."""
        right = all(answer.codes == [code] and not answer.decisions for answer in answers)
        self.that(right, f"{what}: {_counted(answers)}")

    @property
    def outcome(self) -> str:
        """Everything noted, in order."""
        return "; ".join(self._words)


def _counted(answers: Sequence[Answer]) -> str:
    counts = Counter(answer.outcome for answer in answers)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
