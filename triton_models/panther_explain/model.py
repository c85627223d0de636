"""panther_explain on Triton's Python backend: a thin adapter over panther_core.model.serving."""

import os
from pathlib import Path

import torch
import triton_python_backend_utils as pb_utils

from panther_core.decide.scoring import ExplainRequest
from panther_core.model.serving import PantherModel
from panther_core.model.tensors import respond


class TritonPythonModel:
    """One process for each version, on the CPU; the artifact lies beside this file."""

    def initialize(self, args):
        """Load the version, and run it once."""
        torch.set_num_threads(int(os.environ.get("PANTHER_TORCH_THREADS", "1")))
        self.model = PantherModel.load(Path(args["model_repository"]) / args["model_version"] / "artifact")
        self.model.warm_up(ExplainRequest)

    def execute(self, requests):
        """One response for each request, in order."""
        return [respond(pb_utils, request, ExplainRequest, self.model.explain) for request in requests]
