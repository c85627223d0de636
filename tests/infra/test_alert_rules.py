"""The alert rules name metrics and labels that exist, and the manual names every rule."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from stream.ops import metrics
from tests import ROOT
from trainer.drift.gauges import DriftGauges

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def exposed() -> set[str]:
    """Every name under which a scrape shows a sample of ours."""
    names = set()
    for family in [*REGISTRY.collect(), *DriftGauges().registry.collect()]:
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_names_what_exists(rule: dict[str, Any]) -> None:
    expr = rule["expr"]
    named = set(re.findall(r"panther_[a-z_]+", expr))
    assert named
    assert named <= exposed()
    for metric, selector in re.findall(r"(panther_[a-z_]+)\{([^}]*)\}", expr):
        labels = {"panther_decisions_total": metrics.DECISIONS, "panther_dead_letters_total": metrics.DEAD_LETTERS}
        assert set(re.findall(r"(\w+)\s*!?=", selector)) <= set(labels[metric]._labelnames)
    for opening, closing in ("()", "[]", "{}"):
        assert expr.count(opening) == expr.count(closing)
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"]


def test_the_manual_says_what_to_do_about_each() -> None:
    manual = (ROOT / "docs/operations.md").read_text()
    assert [rule["alert"] for rule in RULES if f"| `{rule['alert']}` |" not in manual] == []
