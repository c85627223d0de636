"""What must hold of the packages as such, and of the drawing of their rooms."""

import importlib.util
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests import ROOT
from tests.rooms import BEGIN, END, contract, drawing, imports, room_of


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


def test_no_files_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter(imports()).static_order())  # raises CycleError


def test_every_file_lies_in_a_room_of_the_contract() -> None:
    rooms = [room for row in contract() for room in row]
    packages = {room.split(".")[0] for room in rooms}
    assert [module for module in imports() if module not in packages and room_of(module, rooms) is None] == []


def test_the_manual_has_the_rooms_as_they_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    assert drawn == drawing(), "run `python -m tests.rooms`"
