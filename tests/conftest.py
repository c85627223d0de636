"""Fixtures for the whole suite."""

import os

# Before torch is imported: threads that wait must not spin, or the suite crawls beside anything else (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

pytest_plugins = ["tests.fixtures_stack"]
