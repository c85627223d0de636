"""This project's worker in `panther bench worker`, `restore` and `memory`, with a scorer that answers at once.

What remains to be measured is intake, state, changelog and publishing.

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
    """Answers score 0 and outputs of zeros without a call; `cached` is the width of the outputs in a state."""

    def __init__(self, cached: int, attributes: int) -> None:
        self._cached, self._attributes = cached, attributes

    async def ask(self, request: Request[R], version: int) -> R:
        """Score 0 for every transaction, so no alert asks for an explanation; zeros for every encoded user."""
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
    """Run the worker with settings from the environment; PANTHER_MODELS_DIR must hold version 1."""
    import mode.loop

    mode.loop.use("uvloop")
    from stream.faust_parts.worker import EndingWorker
    from stream.ops.ending import Ending
    from stream.ops.health import Health
    from stream.worker.app import make_app

    settings = PantherSettings()
    manifest = load_manifest(Path(settings.models_dir) / "1")
    scorer = NullScorer(manifest.cached_width, len(manifest.typical_surprise))
    ending = Ending(Health())
    EndingWorker(make_app(KafkaSettings(), settings, scorer, ending=ending), ending, loglevel="info").run()


if __name__ == "__main__":
    main()
