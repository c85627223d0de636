"""The project's worker with a scorer that answers at once: what is left is intake, state, changelog and publishing.

python -m bench.worker.null_worker
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from panther_core.artifact import load_manifest
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.decide.scoring import EncodeRequest, EncodeResponse, R, Request, ScoreRequest, ScoreResponse


class NullScorer:
    """Score 0 and zeros for outputs, without a call; `cached`: floats that a state keeps of a model's outputs."""

    def __init__(self, cached: int, attributes: int) -> None:
        self._cached, self._attributes = cached, attributes

    async def ask(self, request: Request[R], version: int) -> R:
        """No fraud anywhere, so nothing is ever to be explained."""
        answer: Any
        if isinstance(request, EncodeRequest):
            rows = len(request.user)
            answer = EncodeResponse(np.zeros((rows, self._cached), np.float32), np.zeros((rows, 3), np.uint64))
        else:
            assert isinstance(request, ScoreRequest), "no score is above the threshold"
            rows = len(request.code)
            answer = ScoreResponse(np.zeros(rows, np.float32), np.zeros((rows, self._attributes), np.float32))
        return cast(R, answer)


def main() -> None:
    """Run it with the settings of the environment; version 1 is expected in PANTHER_MODELS_DIR."""
    import mode.loop

    mode.loop.use("uvloop")
    from stream.worker.app import make_app

    settings = PantherSettings()
    manifest = load_manifest(Path(settings.models_dir) / "1")
    scorer = NullScorer(manifest.cached_width, len(manifest.typical_surprise))
    raise SystemExit(make_app(KafkaSettings(), settings, scorer).Worker(loglevel="info").execute_from_commandline())


if __name__ == "__main__":
    main()
