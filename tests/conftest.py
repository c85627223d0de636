"""Fixtures for the whole suite."""

import os

# Before torch is imported: threads that wait must not spin, or the suite crawls beside anything else (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A broker of a test lives for seconds, in which Java's optimising compiler takes more than it gives: started in 4.4 s
# instead of 5.5, and for its first 20 s half of the CPU at 1,800 records a second.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

pytest_plugins = ["tests.fixtures_model", "tests.fixtures_stack"]
