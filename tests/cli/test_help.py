"""`panther --help`: a screen, grouped by who needs a command; and the commands that it lists."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from trainer.rollout import refresh


def test_help_fits_a_screen_and_names_who_needs_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 100)
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert len(shown.strip().splitlines()) <= 45
    panels = re.findall("^╭─ ([^─]+) ─", shown, re.MULTILINE)
    assert panels == ["Options", "Run it", "Work alerts", "Train and deploy", "Look back and measure"]


def test_python_m_cli_is_the_same_command(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "cli", "down", "--dir", str(tmp_path), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"ok": True, "folder": str(tmp_path), "stopped": []}


@pytest.mark.parametrize("flag", [[], ["--once"]])
def test_a_refresh_is_one_turn_with_the_flag_and_without_it(flag: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def once(*asked: Any) -> refresh.Refreshed:
        return refresh.Refreshed(1, 2, True, [], asked[3].label_delay_ms, 0, 0.5, [], {})

    monkeypatch.setattr(refresh, "refresh_once", once)
    monkeypatch.setattr("cli.refresh.answering_kafka", lambda: None)
    done = CliRunner().invoke(app, ["refresh", *flag, "--label-delay-days", "1", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["transactions"] == 86_400_000
