"""`panther bench stream`: public data through the whole path, measured against its labels.

Gives fraud metrics, alert metrics and latencies of a model that was trained on an earlier window of the same data.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from infra.local.stack import LocalStack
from infra.local.system import System, fresh_app_id
from infra.local.training import train_once
from offline.replay.merchant_alerts import MerchantAlerts
from panther_core import artifact
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS, HOUR_MS, iso_ms
from panther_core.data.formats import read_table
from panther_core.data.formats.fdh import SCENARIOS
from panther_core.data.table import TransactionTable
from panther_core.data.table_concat import concat
from panther_core.data.topics import MERCHANT_ALERTS
from panther_core.entities.merchant_history import MerchantHistory, see_merchants
from panther_core.evaluation import alert_metrics, fraud_metrics
from panther_core.kafka.answers import decode_merchant_alert
from panther_core.kafka.reading import read_topic
from panther_core.model.blend import BOOSTING, BOOSTING_PANTHER, F32, Name
from panther_core.model.kernels.tree_kernel import sum_of
from panther_core.model.serving import PantherModel
from panther_core.model.trees import read_trees
from panther_core.serving_model import load_serving_model
from panther_core.state.features import WIDTH
from panther_core.state.history import prepare
from stream.tools.ledger import Ledger, LedgerReader
from stream.tools.produce import produce, produce_labels
from trainer.fit.finetune import all_logits, head_inputs

_PATIENCE_S = 300.0
_TERMINAL = SCENARIOS[1]


def run_stream(
    folder: Path, data: Path, format: str, train_until: str, transactions: int, rate: float, label_delay_days: float
) -> dict[str, Any]:
    """Train on the days before `train_until`, then stream the next `transactions` through Kafka and Triton."""
    until_ms = iso_ms(train_until)
    table = read_table(format, data)
    split = int(np.searchsorted(table.time_ms, until_ms))
    history, live = table.take(slice(0, split)), table.take(slice(split, split + transactions))
    if not len(history) or len(live) < transactions:
        raise BadInput(
            f"expected transactions before {train_until} and {transactions} from then on in {data}, got {len(history)} "
            f"and {len(live)}: choose another --train-until or fewer --transactions"
        )
    delay_ms = round(label_delay_days * DAY_MS)
    train_once(folder, history, f"{format} {len(table)} {train_until}", delay_ms, profile=None, size="default")
    for left in ("stack", "worker", "merchants"):  # what an earlier run told of merchants is not of this one
        shutil.rmtree(folder / left, ignore_errors=True)
    with System(folder, LocalStack.on_free_ports(folder / "stack"), fresh_app_id("panther-stream")) as system:
        system.seed(history, system.deploy(1), delay_ms)
        system.start_merchants()
        system.start_worker()
        system.wait_ready("merchants", "worker")
        started = time.time()
        ledger = asyncio.run(_stream(system, history, live, rate, delay_ms))
        seconds = time.time() - started
        told = asyncio.run(read_topic(system.kafka, MERCHANT_ALERTS))
    out = _measure(live, ledger) | {"trained_on": len(history), "tps": round(len(live) / seconds, 1)}
    if not 0 < live.label.sum() < len(live):
        return out
    beside, alerts = _beside(folder / "models" / "1", history, live, delay_ms)
    published = {decode_merchant_alert(record.value).alert_id for record in told}
    compared = {"published": len(published), "in_replay": len(alerts), "in_both": len(published & alerts)}
    return out | {"replay_average_precision": beside["replay"], "beside": beside, "merchant_alerts": compared}


def _beside(
    version: Path, history: TransactionTable, live: TransactionTable, delay_ms: int
) -> tuple[dict[str, float], set[str]]:
    """Average precision on the streamed rows of the version recomputed over the whole log, and of its own gradient
    boosting without and with PANTHER's outputs; ids of the alerts on merchants since the stream began."""
    model, served = PantherModel.load(version), load_serving_model(version)
    whole = concat([history, live])
    events = whole.events(served.schema, served.risk)
    past = prepare(events, served.schema, model.config.length)
    merchants = MerchantHistory(served.merchant_threshold)
    see_merchants(past, events, whole.label, whole.time_ms + delay_ms, merchants)
    looks, named = merchants.take_looks(), MerchantAlerts(delay_ms)
    named.note(whole)
    since = looks[looks["hour"] * HOUR_MS > history.time_ms[-1] + HOUR_MS]
    alerts = {alert.alert_id for alert in named.of(since, served.merchant_threshold)}
    streamed = np.arange(len(history), len(history) + len(live))
    rows = streamed[past.kept[streamed]]
    inputs = head_inputs(model, past, model.encode_history(past), rows)
    dense, e = inputs.dense_NX.numpy(), inputs.e_NU.numpy()
    assert model.blend is not None, "every training writes one"
    scores = {"replay": model.blend.logit(all_logits(model.head, inputs), dense, e)}
    own: tuple[tuple[Name, F32], ...] = (
        (BOOSTING, dense[:, :WIDTH]),
        (BOOSTING_PANTHER, np.hstack([dense, e])),
    )
    for name, x in own:
        trees = read_trees(artifact.read_text(version, artifact.BOOSTED[name]), x.shape[1])
        scores[name] = sum_of(trees, x, np.zeros(x.shape[1]))
    label = live.label[rows - len(history)]
    return {name: round(fraud_metrics(score, label)["average_precision"], 4) for name, score in scores.items()}, alerts


async def _stream(
    system: System, history: TransactionTable, live: TransactionTable, rate: float, delay_ms: int
) -> Ledger:
    """Send the transactions, and each label when a transaction of its arrival's time is sent."""
    late = history.take(np.flatnonzero(history.time_ms + delay_ms > history.time_ms[-1]))
    labelled = concat([late, live])
    after_s = np.searchsorted(live.time_ms, labelled.time_ms + delay_ms) / rate
    labelled = labelled.take(np.flatnonzero(after_s < len(live) / rate))
    after_s = after_s[after_s < len(live) / rate]
    async with LedgerReader(system.kafka) as reader:
        sender = asyncio.create_task(produce(system.kafka, live.rows(), rate))
        labels = asyncio.create_task(produce_labels(system.kafka, labelled, delay_ms, after_s))
        deadline = time.time() + len(live) / rate + _PATIENCE_S
        while len(reader.ledger.decisions) < len(live) and time.time() < deadline:
            await reader.poll()
        await asyncio.gather(sender, labels)
        return reader.ledger


def _measure(live: TransactionTable, ledger: Ledger) -> dict[str, Any]:
    found = [ledger.decisions.get(t) for t in live.transaction_id.tolist()]
    there = np.array([d is not None for d in found])
    decided = [d for d in found if d is not None]
    label = live.label[there]
    out: dict[str, Any] = {
        "transactions": len(live),
        "decisions": len(decided),
        "missing": int((~there).sum()),
        "contradicted": len(ledger.contradicted),
        "dead_letters": dict(ledger.dead),
        "degraded": dict(ledger.degraded),
        "frauds": int(label.sum()),
        "decision_ms": ledger.latency_ms(),
    }
    if 0 < label.sum() < len(label):
        out |= fraud_metrics(np.array([d.score for d in decided]), label)
        alert = np.array([d.alert for d in decided])
        out |= alert_metrics(alert, label)
        if live.fraud_kind is not None:
            kind = live.fraud_kind.index[there]
            found_by = {word: alert[kind == i] for i, word in enumerate(live.fraud_kind.words) if (kind == i).any()}
            out["frauds_found"] = {word: round(float(mine.mean()), 4) for word, mine in found_by.items()}
            out["terminal_frauds_found"] = out["frauds_found"].get(_TERMINAL)
    return out
