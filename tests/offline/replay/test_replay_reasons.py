"""Replay gives the reasons that the stream gave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from offline.replay import Replayer, replay
from panther_core.data.decision import ALERT, DECISION
from panther_core.data.table import UNKNOWN_SELLER, TransactionTable
from panther_core.decide.engine import decide
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from tests.steps import asking, decided

_EVENTS, _BATCH = 400, 50


def test_replay_gives_the_reasons_of_the_stream(log: TransactionTable, artifact_folder: Path) -> None:
    model, serving = PantherModel.load(artifact_folder), load_serving_model(artifact_folder)
    table = log.take(slice(0, _EVENTS))
    # low enough for many alerts
    floor = float(np.quantile(replay(table, serving, model).decision["score"], 0.7))
    serving = replace(serving, live=replace(serving.live, threshold=floor))
    replayed = replay(table, serving, model).decision

    events = table.events(serving.schema, serving.risk)
    events["seller"] = Replayer(serving, model).sees(table)
    assert (events["seller"] != UNKNOWN_SELLER).any()
    users, row = np.unique(events["user"], return_inverse=True)
    states, online = serving.codec.fresh(len(users)), np.zeros(len(events), DECISION)
    for low in range(0, len(events), _BATCH):
        part = events[low : low + _BATCH]
        steps = decide(states, row[low : low + _BATCH], part, serving.schema, serving.live, lambda: 0, part["time_ms"])
        for need in decided(steps, asking(model)):
            online[low + need.event] = need.decision

    alert = (online["flags"] & ALERT) > 0
    assert alert.sum() > 50
    np.testing.assert_array_equal(online["flags"], replayed["flags"])
    np.testing.assert_allclose(online["contribution"][alert], replayed["contribution"][alert], atol=1e-4)
    # terms that are equal to rounding may change places
    clear = (np.abs(np.diff(online["contribution"], axis=1)) > 1e-3).all(axis=1) & alert
    np.testing.assert_array_equal(online["reason"][clear], replayed["reason"][clear])
    assert len(np.unique(online["reason"][alert, 0])) > 1
