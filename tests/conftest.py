"""Fixtures for the whole suite, and the order in which its files begin."""

import os

import pytest

# Before torch is imported: threads that wait must not spin, or the suite crawls beside anything else (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A broker of a test lives for seconds, in which Java's optimising compiler takes more than it gives: started in 4.4 s
# instead of 5.5, and for its first 20 s half of the CPU at 1,800 records a second.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

pytest_plugins = ["tests.fixtures_model", "tests.fixtures_stack"]

# `make test` runs three processes, on two cores, that take whole files from the front of the queue: two leave a quarter
# of the machine idle. The stream's tests take longest and mostly wait, so the others compute beside them; short files
# come last, and all processes end at about the same time.
_FIRST = (
    "e2e/test_stream.py",
    "trainer/fit/test_parallel.py",
    "panther_core/model/test_incremental.py",
    "bench/speed/test_gpu.py",
    "bench/system/test_backtest.py",
    "stream/scorer/test_contract.py",
    "offline/parity/test_parity.py",
    "trainer/test_training.py",
    "trainer/test_useless.py",
    "bench/fraud/test_fdh_bench.py",
    "panther_core/model/test_step.py",
    "offline/report/test_build.py",
    "panther_core/decide/test_engine.py",
    "e2e/test_chaos.py",
    "e2e/test_parity.py",
    "stream/scorer/test_replicas.py",
    "infra/local/test_stack.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {f"tests/{name}": i for i, name in enumerate(_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))
