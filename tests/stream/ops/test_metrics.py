"""The list of metrics: documented, named by convention, and counted as the library would count."""

from __future__ import annotations

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from stream.ops import metrics
from tests import ROOT

STORED = ROOT / "docs" / "metrics.md"


def test_the_list_in_docs_is_the_generated_one() -> None:
    assert STORED.read_text() == metrics.markdown(), "run `python -m stream.ops.metrics > docs/metrics.md`"


def test_names_follow_the_conventions() -> None:
    ours = [metric for metric in REGISTRY.collect() if metric.name.startswith("panther_")]
    assert len(ours) > 20
    for metric in ours:
        assert metric.documentation[0].isupper() or metric.documentation[0] == "1", metric.name
        if metric.type == "histogram":
            assert metric.name.endswith(("_seconds", "_events")), "the unit ends the name"
        assert not metric.name.endswith("_ms"), "seconds, everywhere"


def test_a_batch_of_values_is_counted_as_one_by_one() -> None:
    registry = CollectorRegistry()
    edges = (0.001, 0.01, 0.1, 1.0)
    each = Histogram("each_seconds", "x", buckets=edges, registry=registry)
    batch = metrics.BatchHistogram("panther_test_batch_seconds", "x", edges)
    try:
        rng = np.random.default_rng(0)
        for values in (rng.exponential(0.1, 300), np.array(edges), np.array([]), np.array([7.0])):
            batch.observe_many(values)
            for value in values:
                each.observe(value)
        (one,) = batch.collect()
        (other,) = registry.collect()
        counted = {(s.name.removeprefix("panther_test_batch"), s.labels.get("le")): s.value for s in one.samples}
        expected = {(s.name.removeprefix("each"), s.labels.get("le")): s.value for s in other.samples}
        expected = {key: value for key, value in expected.items() if key[0] != "_seconds_created"}
        assert counted.keys() == expected.keys()
        assert np.allclose(list(counted.values()), [expected[key] for key in counted])
    finally:
        REGISTRY.unregister(batch)
