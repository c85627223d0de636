"""The models in this process, behind the interface that Triton is reached by: for tests, replay and the benchmark."""

from __future__ import annotations

from collections.abc import Mapping

from panther_core.base.errors import ScorerUnavailable
from panther_core.decide.scoring import EncodeRequest, EncodeResponse, ExplainResponse, ScoreRequest, ScoreResponse
from panther_core.model.serving import PantherModel


class InProcessScorer:
    """Implements scoring.Scorer over loaded versions. Calls block the event loop: they are the computation."""

    def __init__(self, versions: Mapping[int, PantherModel]) -> None:
        self.versions = dict(versions)

    async def score(self, request: ScoreRequest, version: int) -> ScoreResponse:
        """Score new events with model `version`."""
        return self._model(version).score(request)

    async def explain(self, request: ScoreRequest, version: int) -> ExplainResponse:
        """Why `score` answers this request as it does."""
        return self._model(version).explain(request)

    async def encode(self, request: EncodeRequest, version: int) -> EncodeResponse:
        """Encode context windows with model `version`."""
        return self._model(version).encode(request.codes, request.length, request.profile)

    def _model(self, version: int) -> PantherModel:
        try:
            return self.versions[version]
        except KeyError:
            raise ScorerUnavailable(
                f"expected one of the loaded model versions {sorted(self.versions)}, got {version}: load it first"
            ) from None
