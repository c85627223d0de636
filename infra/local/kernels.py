"""Compiles the kernels that serve a model, before a model is trained: `make setup` does it, and the demo elsewhere.

Numba keeps compiled kernels in a cache beside the sources, which every process of this checkout uses. On a
fresh machine the first load of a version into Triton would otherwise compile for half a minute.
"""

from __future__ import annotations

import numpy as np
import torch

from panther_core.data.schema import CODE, PROFILE_FIELDS, AttributeSchema, ProfileField
from panther_core.data.vocabulary import fit_vocabulary
from panther_core.decide.scoring import ScoreRequest
from panther_core.model.incremental import IncrementalEncoder
from panther_core.model.kernels.score_kernel import ScoreKernel
from panther_core.model.kernels.step import step_for
from panther_core.model.kernels.tree_kernel import Trees, sum_of
from panther_core.model.outputs import cached_width
from panther_core.model.serving import PantherModel
from panther_core.model_config import ModelConfig
from panther_core.state.features import WIDTH
from panther_core.state.window import RECENT

_SCHEMA = AttributeSchema(
    amount_edges=(1.0,), categories=("food",), channels=("online",), profile=(ProfileField("age", edges=(30.0,)),)
)
_POOL_BYTES = 64 << 20


def compile_kernels() -> None:
    """Let an untrained model encode and score: compiled code depends on the types of arrays, not on their sizes."""
    torch.set_num_threads(1)  # the training of the demo runs at the same time
    vocabulary, _ = fit_vocabulary(_SCHEMA, np.ones(1, CODE), 1, 1.0)
    model = PantherModel(ModelConfig(layers=1), _SCHEMA, vocabulary)
    IncrementalEncoder(model, _POOL_BYTES, "float32", step_for).warm_up()
    codes = np.ones((2, RECENT), np.uint64)
    request = ScoreRequest(
        features=np.zeros((2, WIDTH), np.float32),
        code=codes[:, 0],
        recent=codes,
        profile=np.zeros((2, PROFILE_FIELDS), np.uint8),
        cached=np.zeros((2, cached_width(model.config)), np.float32),
        history_len=np.arange(2, dtype=np.int32),
    )
    ScoreKernel(model.panther, model.head).score(request, request.cached)
    number, node = np.zeros(1), np.zeros(1, np.int32)
    bits = np.zeros(1, np.uint64)
    stump = Trees(node, number, ~node, ~node, bits, number, bits, *(np.full(1, n, np.int64) for n in (0, 0, 1)))
    sum_of(stump, request.features, np.zeros(WIDTH))


if __name__ == "__main__":
    compile_kernels()
