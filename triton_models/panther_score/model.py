"""panther_score on Triton's Python backend: a thin adapter over panther_core.model.serving."""

import os
from functools import partial
from pathlib import Path

import triton_python_backend_utils as pb_utils

from panther_core.base.priority import load_unhurried


class TritonPythonModel:
    """One process for each version; the artifact lies beside this file."""

    def initialize(self, args):
        """Load the version, and run it once, behind the versions that serve."""
        load_unhurried(partial(self._load, args), args, os.environ)

    def _load(self, args):
        import torch  # here: an import of seconds is part of what may take its time

        from panther_core.decide.scoring import ScoreRequest
        from panther_core.model.serving import PantherModel
        from panther_core.model.tensors import instance_device, respond

        torch.set_num_threads(int(os.environ.get("PANTHER_TORCH_THREADS", "1")))
        folder = Path(args["model_repository"]) / args["model_version"] / "artifact"
        model = PantherModel.load(folder, instance_device(args, os.environ))
        model.warm_up(ScoreRequest)
        self.respond = partial(respond, pb_utils, kind=ScoreRequest, answer=model.score)

    def execute(self, requests):
        """One response for each request, in order."""
        return [self.respond(request) for request in requests]
