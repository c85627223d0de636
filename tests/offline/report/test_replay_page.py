"""report.html of a replay: whole, self-contained, and safe whatever the data is called."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from offline.report.build import write_report
from offline.report.replay_page import ALWAYS, COMPARED, LABELLED, RUN
from tests.offline.report.conftest import Columns, write_decisions
from tests.trainer.report.test_version_page import HOSTILE, Elements


def test_the_page_is_self_contained_has_every_section_and_escapes_the_data(folder: Path, columns: Columns) -> None:
    rows = len(np.asarray(columns["score"]))
    hostile = {name: [HOSTILE] * rows for name in ("merchant_id", "category", "channel", "fraud_kind")}
    hostile["user_id"] = [f"{HOSTILE}{name}" for name in np.asarray(columns["user_id"]).tolist()]
    write_decisions(folder, "v1", columns | hostile)
    write_report([folder], folder, thresholds=(0.2,), title=HOSTILE)
    page = (folder / "report.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert elements.open == []
    assert not re.search(r"@import|url\(|<script|<link|<iframe|srcset", page)
    assert not any(tag == "script" for tag, _ in elements.tags)
    for _, attributes in elements.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name != "src" or str(value).startswith("data:")
    there = {attributes["id"] for tag, attributes in elements.tags if tag == "section"}
    assert there == {*LABELLED, *ALWAYS, *COMPARED, *RUN}
