"""Which device an instance of a model on Triton takes."""

from __future__ import annotations

import pytest
import torch

from panther_core.base.errors import BadInput
from panther_core.model.tensors import instance_device

ON_CPU = {"model_name": "panther_encode", "model_instance_kind": "CPU", "model_instance_device_id": "0"}
ON_GPU = ON_CPU | {"model_instance_kind": "GPU", "model_instance_device_id": "1"}


def test_the_cpu_is_the_default() -> None:
    assert instance_device(ON_CPU, {}) == instance_device(ON_CPU, {"PANTHER_DEVICE": "cpu"}) == "cpu"


def test_an_instance_on_a_gpu_takes_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert instance_device(ON_GPU, {}) == instance_device(ON_GPU, {"PANTHER_DEVICE": "cuda"}) == "cuda:1"
    assert instance_device(ON_CPU, {"PANTHER_DEVICE": "cuda"}) == "cuda"


@pytest.mark.parametrize(("args", "environment"), [(ON_GPU, {}), (ON_CPU, {"PANTHER_DEVICE": "cuda"})])
def test_a_gpu_that_is_not_there_is_said_so(
    args: dict[str, str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=r"expected a GPU that torch can use .* PANTHER_DEVICE=cpu"):
        instance_device(args, environment)
