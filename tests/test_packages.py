"""What must hold of the packages as such."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


@pytest.mark.parametrize("name", ["panther_core", "stream", "trainer", "offline", "infra", "bench", "cli"])
def test_each_package_is_ours(name: str) -> None:
    """PyPI has distributions that install top-level `trainer` and `stream`; one of those would shadow ours."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert Path(spec.origin or "").is_relative_to(ROOT)


def test_the_worker_never_loads_torch() -> None:
    modules = "stream.worker.app, stream.scorer.triton_scorer, stream.worker.live_models"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
