"""The quick cases of `panther bench cases`, one after the other on one real system."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.cases.seen import Seen
from bench.cases.stage import Answer, running_case_stage
from bench.cases.suite import CASES, Case, alert_on_everything, run_case, run_cases
from panther_core.base.errors import BadInput

RunCase = Callable[[Case], dict[str, Any]]


@pytest.fixture(scope="module")
def run(artifact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunCase]:
    """Runs a case on the stage that all tests of this module share."""
    folder = tmp_path_factory.mktemp("cases")
    models = alert_on_everything(artifact_folder.parent, folder / "alerting")
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        stage = runner.run(stack.enter_async_context(running_case_stage(folder, models)))
        try:
            yield lambda case: runner.run(run_case(case, stage))
        finally:
            runner.run(stack.aclose())


@pytest.mark.parametrize("case", [case for case in CASES if case.quick], ids=lambda case: case.name)
def test_a_case_ends_as_it_should(case: Case, run: RunCase) -> None:
    result = run(case)
    assert result["ok"], result["outcome"]


def test_the_stream_has_every_case_once() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 20


def test_a_case_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"poison-keys.*nonsense"):
        run_cases(tmp_path, ["nonsense"])


def test_a_wrong_outcome_is_marked() -> None:
    seen = Seen()
    seen.refused([Answer(codes=["empty"])], "empty", "a tombstone")
    assert seen.ok
    seen.decided([Answer()], "a payment")
    assert not seen.ok
    assert seen.outcome == "a tombstone: 1 empty; WRONG: a payment: 1 nothing"
