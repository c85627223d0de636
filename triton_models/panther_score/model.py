"""panther_score on Triton's Python backend: a thin adapter over panther_core.model.serving."""

import os
from pathlib import Path

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

from panther_core.decide.scoring import ScoreRequest, tensors
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.model.tensors import instance_device, read, wrap
from panther_core.state.features import WIDTH
from panther_core.state.window import RECENT

_INPUTS, _OUTPUTS = tensors(ScoreRequest), tensors(ScoreRequest.response)


class TritonPythonModel:
    """One process for each version; the artifact lies beside this file."""

    def initialize(self, args):
        """Load the version, and run it once, so that compiling does not delay the first request."""
        torch.set_num_threads(int(os.environ.get("PANTHER_TORCH_THREADS", "1")))
        folder = Path(args["model_repository"]) / args["model_version"] / "artifact"
        self.model = model = PantherModel.load(folder, instance_device(args, os.environ))
        features, cached = np.zeros((2, WIDTH), np.float32), np.zeros((2, cached_width(model.config)), np.float32)
        codes, profile = np.ones((2, RECENT), np.uint64), np.zeros((2, 8), np.uint8)
        model.score(ScoreRequest(features, codes[:, 0], codes, profile, cached, np.arange(2, dtype=np.int32)))

    def execute(self, requests):
        """One response for each request, in order. A request that fails gets an error response; the others are
        answered."""
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        columns = [read(pb_utils.get_input_tensor_by_name(request, name)) for name in _INPUTS]
        try:
            answer = self.model.score(ScoreRequest(*columns))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"panther_score failed: {error!r}"))
        return pb_utils.InferenceResponse([wrap(pb_utils, name, getattr(answer, name)) for name in _OUTPUTS])
