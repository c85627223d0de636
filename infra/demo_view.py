"""Output of the demo: figures while it streams, three alerts, and the summary with its checks."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.live import Live
from rich.table import Table

from panther_core.base.console import console, say
from panther_core.data.decision import Alert
from panther_core.data.table import TransactionTable
from stream.tools.ledger import Ledger

_EVERY_S = 15.0  # between two lines where output is no terminal; in a terminal the table is redrawn every second


class DemoProgress:
    """Names and times the stages, and shows the stream: a live table in a terminal, elsewhere a line every _EVERY_S."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started, self._shown = time.time(), 0.0
        self._live = Live(console=console, auto_refresh=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce and time one stage. Stages may overlap."""
        say(f"[bold cyan]»[/] {name} ...")
        started = time.time()
        yield
        self.seconds[name] = round(time.time() - started, 1)
        say(f"  {name}: done in {self.seconds[name]} s")

    @contextmanager
    def screen(self) -> Iterator[None]:
        """Hold the part of the terminal that `show` draws in."""
        with self._live:
            yield

    def show(self, ledger: Ledger, sent: int, truth: Mapping[str, int], refreshing: bool, last: bool) -> None:
        """Show the present figures: once a second (each _EVERY_S where output is no terminal), and always the last."""
        now_s = time.time()
        if ledger.decisions and "first decision" not in self.seconds:
            self.seconds["first decision"] = round(now_s - self._started, 1)
            say(f"  first decision after {self.seconds['first decision']} s")
        if not last and now_s - self._shown < (1 if console.is_terminal else _EVERY_S):
            return
        self._shown = now_s
        figures = _figures(ledger, sent, truth, refreshing)
        if console.is_terminal:
            table = Table(*figures)
            table.add_row(*figures.values())
            self._live.update(table, refresh=True)
        else:
            line = "  ".join(f"{name} {value}" for name, value in figures.items())
            console.print(f"  {now_s - self._started:.0f} s  {line}", highlight=False, soft_wrap=True)


def _figures(ledger: Ledger, sent: int, truth: Mapping[str, int], refreshing: bool) -> dict[str, str]:
    latency = ledger.latency_ms()
    recall, precision, alerts = _quality(ledger, truth)
    versions = " ".join(f"v{v}:{n}" for v, n in sorted(ledger.versions.items()))
    return {
        "sent": str(sent),
        "decided": str(len(ledger.decisions)),
        "p50 ms": f"{latency['p50']:.0f}",
        "p99 ms": f"{latency['p99']:.0f}",
        "alerts": str(alerts),
        "recall": f"{recall:.2f}",
        "precision": f"{precision:.2f}",
        "degraded": str(ledger.degraded.total()),
        "dead": str(ledger.dead.total()),
        "models": versions + (" (refreshing)" if refreshing else ""),
    }


def known_labels(table: TransactionTable) -> dict[str, int]:
    """Label by transaction id."""
    return dict(zip(table.transaction_id.tolist(), table.label.tolist(), strict=True))


def _quality(ledger: Ledger, truth: Mapping[str, int]) -> tuple[float, float, int]:
    """Recall and precision of the alerts against the known labels, and the number of alerts."""
    alerted = {t for t, d in ledger.decisions.items() if d.alert}
    frauds = {t for t in ledger.decisions if truth.get(t) == 1}
    hits = len(alerted & frauds)
    return hits / max(1, len(frauds)), hits / max(1, len(alerted)), len(alerted)


def _show_alert(alert: Alert) -> None:
    paid = "" if alert.amount is None else f"{alert.amount:,.2f} {alert.currency or ''} at "
    what = f"{paid}merchant {alert.merchant_id}  {alert.alert_id}"
    say(f"  [bold red]{alert.risk_level}[/] score {alert.score:.3f}  {what}")
    for reason in alert.reasons:
        say(f"      {reason.code:20} {reason.contribution:+.2f}  {reason.description}")
    for usual in alert.expected[:1]:
        top = f"{usual.amount_to:.2f}" if usual.amount_to is not None else "more"
        say(f"      expected rather: {usual.category} by {usual.channel}, {usual.amount_from:.2f} to {top}")


def summary(
    sent: TransactionTable,
    ledger: Ledger,
    malformed: Counter[str],
    refresh: Mapping[str, Any] | None,
    boosting: set[str],
) -> dict[str, Any]:
    """Show the three highest alerts and whether each check holds; returns the figures, with `ok` when all hold.

    `sent`: the transactions streamed; `malformed`: the bad records streamed, by the code of their dead letters;
    `refresh`: what the refresh reported; `boosting`: the transactions that boosting alone would have alerted.
    """
    truth = known_labels(sent)
    for alert in sorted(ledger.alerts.values(), key=lambda a: -a.score)[:3]:
        _show_alert(alert)
    recall, precision, alerts = _quality(ledger, truth)
    frauds = {t for t, label in truth.items() if label == 1}
    hits = len(boosting & frauds)
    beside = {"recall": round(hits / max(1, len(frauds)), 4), "precision": round(hits / max(1, len(boosting)), 4)}
    say(
        f"  {alerts} alerts: recall {recall:.2f}, precision {precision:.2f}; boosting with as many on the same "
        f"rows: recall {beside['recall']:.2f}, precision {beside['precision']:.2f}"
    )
    missing = sum(t not in ledger.decisions for t in truth)
    unknown = sum(t not in truth for t in ledger.decisions)
    versions = sorted(v for v in ledger.versions if v)
    checks = {
        "every transaction has a decision": missing == 0 and unknown == 0,
        "no transaction has two different decisions": not ledger.contradicted,
        "dead letters are exactly the malformed records": ledger.dead == malformed,
        "alerts are exactly the decisions above the threshold": alerts == len(ledger.alerts),
        "the refreshed model took over in mid-stream": versions == [1, 2],
    }
    for text, held in checks.items():
        say(f"  {'[green]ok[/]' if held else '[bold red]FAILED[/]'}  {text}")
    span_s = (max(ledger.appended_ms.values()) - min(ledger.appended_ms.values())) / 1000 if ledger.appended_ms else 0
    return {
        "ok": all(checks.values()),
        "checks": checks,
        "transactions": len(truth),
        "decisions": len(ledger.decisions),
        "repeated": ledger.repeated,
        "missing": missing,
        "contradicted": len(ledger.contradicted),
        "alerts": alerts,
        "dead_letters": dict(ledger.dead),
        "degraded": dict(ledger.degraded),
        "recall": round(recall, 4),
        "precision": round(precision, 4),
        "boosting": beside,
        "frauds": len(frauds),
        "tps": round(len(ledger.decisions) / max(span_s, 1e-9), 1),
        "decision_ms": ledger.latency_ms(),
        "versions": {str(v): n for v, n in sorted(ledger.versions.items())},
        "refresh": dict(refresh or {}),
        "cores": os.cpu_count(),
    }
