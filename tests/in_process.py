"""The models in this process, behind the interface that Triton is reached by."""

from __future__ import annotations

from collections.abc import Mapping

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.scoring import R, Request
from panther_core.model.serving import PantherModel


class InProcessScorer:
    """Implements scoring.Scorer over loaded versions. Calls block the event loop: they are the computation."""

    def __init__(self, versions: Mapping[int, PantherModel]) -> None:
        self.versions = dict(versions)

    async def ask(self, request: Request[R], version: int) -> R:
        """Answer with model `version`."""
        if version not in self.versions:
            raise ScorerUnavailable(
                f"expected one of the loaded model versions {sorted(self.versions)}, got {version}: load it first"
            )
        return self.versions[version].answer(request)
