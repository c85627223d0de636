"""Commands run in the process of the tests, which has other tests to run after them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _not_nicer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits behind others (cli.options.behind_others) leaves this process as it is."""
    monkeypatch.setattr(os, "setpriority", lambda *_: None)
