"""A user's view out of a log: what a replay of everybody decided, up to the moment asked for and not beyond."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offline.explain.replayed import view_of_log
from offline.explain.user_page import render, write_page
from offline.explain.view import shown_decision
from offline.replay import Replayer, replay
from panther_core.base.errors import BadInput
from panther_core.data.table import TransactionTable
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from tests.offline.replay.test_replay_run import write_fdh
from tests.trainer.report.test_version_page import HOSTILE, Elements


def replayer(folder: Path) -> Replayer:
    return Replayer(load_serving_model(folder), PantherModel.load(folder))


def test_the_view_is_what_a_replay_of_everybody_decided(
    log: TransactionTable, artifact_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "transactions.parquet"
    write_fdh(log, path, log.label)
    whole = replay(_as_read(path), load_serving_model(artifact_folder), PantherModel.load(artifact_folder))
    rows = np.flatnonzero(whole.kept & (log.user.index == log.user.index[-1]))
    at = rows[-3]
    view = view_of_log(replayer(artifact_folder), path, "fdh", str(log.user.index[-1]), int(log.time_ms[at]), 5)
    assert [event.transaction_id for event in view.events] == [str(row) for row in rows[-7:-2]]
    schema = load_serving_model(artifact_folder).schema
    for event, row in zip(view.events, rows[-7:-2].tolist(), strict=True):
        expected = shown_decision(whole.decision[row], schema, event.when, event.came, str(row), int(log.label[row]))
        assert event.score == pytest.approx(expected.score, abs=1e-5)
        assert (event.expected, event.alert, event.label) == (expected.expected, expected.alert, expected.label)
        assert [reason.code for reason in event.reasons] == [reason.code for reason in expected.reasons]
    following = shown_decision(whole.decision[rows[-2]], schema, "", "", "")
    assert view.next == following.expected
    with pytest.raises(BadInput, match="USER and --at"):
        view_of_log(replayer(artifact_folder), path, "fdh", "nobody", None)


def test_the_page_of_a_user_is_self_contained(log: TransactionTable, artifact_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "transactions.parquet"
    write_fdh(log, path, log.label)
    view = view_of_log(replayer(artifact_folder), path, "fdh", "3", None)
    from msgspec.structs import replace

    hostile = replace(view, user_id=HOSTILE, events=[replace(event, came=HOSTILE) for event in view.events])
    elements = Elements(render(hostile))
    assert elements.open == []
    assert not any(tag == "script" for tag, _ in elements.tags)
    write_page(tmp_path / "new" / "user.html", view)
    assert (tmp_path / "new" / "user.html").read_text(encoding="utf-8") == render(view)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["user.html"]


def _as_read(path: Path) -> TransactionTable:
    from panther_core.data.formats import read_table

    return read_table("fdh", path)
