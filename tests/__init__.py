"""Tests mirror the source, folder by folder; tests/e2e runs the whole system."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
