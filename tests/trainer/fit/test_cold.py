"""Rows with histories cut off, made in stretches, are those made at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from panther_core.base.times import DAY_MS
from panther_core.data.table import EventRows, TransactionTable
from panther_core.entities.merchant_history import MerchantHistory
from panther_core.model.serving import PantherModel
from panther_core.serving_model import load_serving_model
from trainer.fit import cold
from trainer.fit.arrived import Arrived
from trainer.fit.cold import LENGTHS, cut_inputs


def test_stretches_are_the_whole(artifact_folder: Path, log: TransactionTable, monkeypatch: pytest.MonkeyPatch) -> None:
    model, served, table = PantherModel.load(artifact_folder), load_serving_model(artifact_folder), log.take(slice(900))
    past = Arrived.of(table, served.schema, served.risk).history(model.config.length, DAY_MS, MerchantHistory())
    rows, events = np.arange(3, 900, 11), EventRows(table, served.schema, served.risk)
    whole = cut_inputs(model, served.schema, events, past, rows, LENGTHS, 0)
    monkeypatch.setattr(cold, "_AT_ONCE", 7)
    parts = cut_inputs(model, served.schema, events, past, rows, LENGTHS, 0)
    assert len(whole) == len(parts) == len(rows)
    every = torch.arange(len(rows))
    assert torch.equal(whole.codes_NS[every], parts.codes_NS[every])
    torch.testing.assert_close(parts.dense_NX, whole.dense_NX, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(parts.e_NU, whole.e_NU, atol=1e-5, rtol=1e-4)
