"""A transaction's way through the real system. The tests share one stream, so they run in the order of the file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from rocksdict import Options, Rdict

from offline.explain.live import view_of_live
from panther_core.artifact import load_manifest
from panther_core.base.errors import BadInput
from panther_core.base.times import DAY_MS
from panther_core.data.decision import Decision, ModelRef
from panther_core.data.generator.malformed import malformed
from panther_core.data.schema import hash64
from panther_core.data.table_concat import concat
from panther_core.data.topics import changelog_of, merchants_app
from panther_core.decide.records import alert_id, to_json
from panther_core.entities.merchants import (
    MERCHANT,
    advance,
    decode_merchants,
    elsewise,
    take_labels,
    take_payments,
)
from panther_core.kafka.answers import headers_of
from panther_core.kafka.reading import read_topic
from panther_core.serving_model import load_serving_model
from panther_core.state.features import against_usual
from panther_core.state.history import prepare
from stream.faust_parts.producer import make_producer
from stream.faust_parts.recovery import OWNER
from stream.tools.produce import produce_labels
from stream.tools.seed import load_past
from tests.e2e.conftest import LABEL_DELAY_MS, Stage
from tests.offline.replay.test_replay_run import write_fdh
from trainer.rollout.deploy import served
from trainer.rollout.go_live import roll_back
from trainer.rollout.refresh import refresh_once
from trainer.rollout.retire import retire
from trainer.rollout.turn import Wanted


def record(user: str = "trouble", **changes: Any) -> tuple[bytes, bytes]:
    """Key and value of a valid record of one user, with `changes` to its fields."""
    value = {
        "transaction_id": "trouble-1",
        "user_id": user,
        "merchant_id": "m",
        "merchant_category": "groceries",
        "amount": 10.0,
        "currency": "EUR",
        "channel": "chip",
        "event_time": "2025-03-01T10:00:00Z",
    }
    return user.encode(), json.dumps(value | changes).encode()


def test_every_transaction_is_decided_once_and_alerts_explain_themselves(stage: Stage) -> None:
    part = stage.live.take(slice(0, 1500))
    stage.produce(part)
    ids = set(part.transaction_id.tolist())
    ledger = stage.collect(ids)
    assert ledger.decisions.keys() == ids
    assert not ledger.contradicted
    assert not ledger.degraded
    assert {d.model.version for d in ledger.decisions.values()} == {1}
    assert {t for t, d in ledger.decisions.items() if d.alert} == {a.transaction_id for a in ledger.alerts.values()}
    assert ledger.alerts
    for alert in ledger.alerts.values():
        assert alert.alert_id == alert_id(alert.user_id, alert.transaction_id)
        assert alert.score >= alert.threshold
        assert alert.reasons
    assert sum(d.history_len > 10 for d in ledger.decisions.values()) > 1000, "users were seeded with their past"


def test_the_worker_says_that_it_is_ready_and_what_it_did(stage: Stage) -> None:
    assert stage.ask("/healthz")[0] == 200
    assert stage.ask("/readyz") == (200, '{"ok": true, "missing": []}')
    ledger = stage.collect(set())
    count = len(ledger.decisions)
    assert stage.metric("panther_transactions_total") == count
    assert stage.metric("panther_decisions_total", made="live", kind="new") == count
    assert stage.metric("panther_alerts_total") == len(ledger.alerts)
    assert stage.metric("panther_decision_seconds_count") == count
    assert stage.metric("panther_users_encoded_total") >= count
    for step in ("decode", "state_read", "score", "explain", "encode", "publish", "state_write", "changelog"):
        assert stage.metric("panther_step_seconds_count", step=step) > 0, step
    assert stage.metric("panther_partitions", state="ready") == stage.system.settings.partitions
    assert stage.metric("panther_state_bytes") > 100_000
    assert stage.metric("panther_consumer_lag") == 0
    assert stage.metric("panther_model_version") == 1


def test_replay_of_the_topic_equals_the_stream(stage: Stage, tmp_path: Path) -> None:
    part = stage.live.take(slice(0, 1500)).transaction_id.tolist()
    ledger = stage.collect(set(part))
    argv = [
        str(Path(sys.prefix) / "bin" / "panther"),
        "replay",
        "--topic",
        "transactions",
        "--model",
        "1",
        "--as-decided",
    ]
    made = subprocess.run([*argv, "--out", str(tmp_path / "out")], env=stage.system.environment)
    assert made.returncode == 0
    replayed = pq.read_table(tmp_path / "out" / "decisions-v1.parquet").to_pylist()
    assert len(replayed) == len(stage.history) + len(part)
    by_id = {row["transaction_id"]: row for row in replayed}
    rows, online = [by_id[t] for t in part], [ledger.decisions[t] for t in part]
    assert np.abs([row["score"] - decision.score for row, decision in zip(rows, online, strict=True)]).max() < 1e-5
    assert np.std([row["score"] for row in rows]) > 0
    for name in ("history_len", "alert", "late", "cold_start"):
        assert [row[name] for row in rows] == [getattr(decision, name) for decision in online], name


def test_the_view_of_a_user_from_the_live_state_is_that_of_their_decisions(stage: Stage) -> None:
    part = stage.live.take(slice(0, 1500))
    ledger = stage.collect(set(part.transaction_id.tolist()))
    user = str(part.user[len(part) - 1])
    ids = part.transaction_id[part.user.index == part.user.index[-1]].tolist()
    before = stage.states()[user].tobytes()
    view = asyncio.run(view_of_live(stage.system.kafka, stage.system.settings, user))
    shown = min(len(ids), 8)
    assert [event.transaction_id for event in view.events] == ids[-shown:]
    for event, transaction in zip(view.events, ids[-shown:], strict=True):
        decision = ledger.decisions[transaction]
        assert (event.score, event.alert, event.history_len) == (decision.score, decision.alert, decision.history_len)
        assert event.model_version == decision.model.version
    assert "live version 1" in view.model
    assert len(view.next) == 3
    earlier = asyncio.run(
        view_of_live(stage.system.kafka, stage.system.settings, user, 2, ledger.decisions[ids[-2]].history_len)
    )
    assert [event.transaction_id for event in earlier.events] == ids[-3:-1], "as of an earlier payment"
    assert stage.states()[user].tobytes() == before
    with pytest.raises(BadInput, match="USER and PANTHER_APP_ID"):
        asyncio.run(view_of_live(stage.system.kafka, stage.system.settings, "nobody"))


def test_every_trouble_has_its_outcome(stage: Stage) -> None:
    bad = malformed(40, seed=3)
    bad.append(("too_large", b"{" + b" " * 2_000_000 + b"}"))
    stage.send([(b"bad", payload) for _, payload in bad])
    stage.send([(b"somebody else", record()[1]), (None, record()[1])])
    good = [
        record(transaction_id="trouble-first"),
        record(transaction_id="trouble-first"),
        record(transaction_id="trouble-category", merchant_category="never seen before", channel="pigeon"),
        record(transaction_id="trouble-late", event_time="2024-12-01T10:00:00Z"),
    ]
    stage.send(good)
    wanted = {"trouble-first", "trouble-category", "trouble-late"}
    ledger = stage.collect(wanted, dead=len(bad) + 2)
    assert ledger.dead.total() == len(bad) + 2
    assert ledger.dead["wrong_key"] == 2
    assert ledger.dead["too_large"] >= 1
    assert ledger.repeated == 1
    assert not ledger.contradicted
    assert wanted <= ledger.decisions.keys()
    assert ledger.decisions["trouble-first"].cold_start
    assert not ledger.decisions["trouble-first"].late
    assert ledger.decisions["trouble-category"].history_len == 1
    assert ledger.decisions["trouble-late"].late
    assert ledger.decisions["trouble-late"].history_len == 2


def test_a_user_begins_anew_on_command(stage: Stage, tmp_path: Path) -> None:
    """`panther user`: the next transaction is the user's first; what is no command on its topic is skipped."""
    kafka, user = stage.system.kafka, "trouble-anew"

    def history_len(name: str) -> int:
        stage.send([record(user, transaction_id=name)])
        decision = stage.collect({name}).decisions[name]
        assert decision.cold_start is (decision.history_len == 0)
        return decision.history_len

    async def garbage() -> None:
        command = {"user_id": OWNER.decode(), "command": "reset", "at": 0}
        async with make_producer(kafka) as producer:
            for key, value in (
                (b"x", None),
                (b"x", b"{"),
                (user.encode(), json.dumps(command | {"user_id": user, "command": "promote"}).encode()),
                (b"x", json.dumps(command | {"user_id": user}).encode()),
                (OWNER, json.dumps(command).encode()),  # a key of the program in the store
            ):
                await producer.send_and_wait("users.commands", value, key=key, partition=1)

    asyncio.run(garbage())
    assert [history_len("anew-0"), history_len("anew-1")] == [0, 1]
    panther = [str(Path(sys.prefix) / "bin" / "panther"), "user"]
    for command, name in (("reset", "anew-2"), ("forget", "anew-3")):
        argv = [*panther, command, user, "--wait", "30", "--json"]
        done = subprocess.run(argv, env=stage.system.environment, stdout=subprocess.PIPE, check=True)
        assert json.loads(done.stdout) == {"command": command, "partitions": 4, "done": True}
        assert stage.metric("panther_user_commands_total", command=command) == 4
        assert history_len(name) == 0
    assert history_len("anew-4") == 1
    assert stage.metric("panther_user_commands_total", command="unreadable") == 5
    assert int(stage.states()[user]["n"]) == 2
    past = stage.history.take(slice(0, 50))
    write_fdh(past, tmp_path / "past.parquet", past.label)
    argv = [*panther, "load", "--data", str(tmp_path / "past.parquet"), "--format", "fdh"]
    refused = subprocess.run(argv, env=stage.system.environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1, "a past would be written over what the running worker knows"
    assert "expected no worker" in " ".join(refused.stderr.split())
    fresh = stage.system.settings.model_copy(update={"app_id": "of-nobody"})
    with pytest.raises(BadInput, match="--after-topic"):
        asyncio.run(load_past(kafka, fresh, past, after_topic=False))
    argv = [*panther, "reset", "a\nb"]
    refused = subprocess.run(argv, env=stage.system.environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "user id" in refused.stderr


def test_dead_letters_that_are_sent_again_are_decided_once(stage: Stage) -> None:
    """As with a release that reads records which an older release refused. A second replay repeats their decisions."""
    kafka, ids = stage.system.kafka, [f"again-{i}" for i in range(3)]

    async def refuse() -> None:
        async with make_producer(kafka) as producer:
            for i, name in enumerate(ids):
                key, value = record("again-user", transaction_id=name)
                headers = [("code", b"refused_once"), ("reason", b"planted"), ("source", b"transactions:0:%d" % i)]
                await producer.send_and_wait("transactions.dlq", value, key=key, headers=headers)

    asyncio.run(refuse())
    panther = str(Path(sys.prefix) / "bin" / "panther")
    argv = [panther, "dlq", "replay", "--code", "refused_once", "--count", "3", "--json"]
    before = stage.collect(set()).repeated
    for again in (0, 3):
        done = subprocess.run(argv, env=stage.system.environment, stdout=subprocess.PIPE, check=True)
        assert json.loads(done.stdout) == {"found": 3, "sent": 3, "codes": {"refused_once": 3}}
        assert set(ids) <= stage.collect(set(ids)).decisions.keys()
        deadline = time.monotonic() + 30
        while (ledger := stage.collect(set(ids))).repeated < before + again and time.monotonic() < deadline:
            pass
        assert ledger.repeated == before + again
        assert [ledger.decisions[name].history_len for name in ids] == [0, 1, 2]
        assert not ledger.contradicted


def test_kill_9_loses_and_contradicts_nothing(stage: Stage) -> None:
    part = stage.live.take(slice(1500, 3500))
    stage.produce(part.take(slice(0, 1000)))
    time.sleep(1.0)  # so that the worker is killed in the middle of the backlog
    stage.system.kill_worker()
    stage.produce(part.take(slice(1000, None)))
    stage.system.start_worker()
    ids = set(part.transaction_id.tolist())
    ledger = stage.collect(ids, patience_s=90)
    assert ids <= ledger.decisions.keys()
    assert not ledger.contradicted
    # each event changed its user's state exactly once: history lengths count up without gap or repeat
    lengths: dict[str, list[int]] = {}
    for i, t in enumerate(part.transaction_id.tolist()):
        lengths.setdefault(part.user[i] or "", []).append(ledger.decisions[t].history_len)
    assert all(np.diff(v).tolist() == [1] * (len(v) - 1) for v in lengths.values())


def test_a_state_folder_that_is_lost_damaged_or_foreign_is_restored(stage: Stage) -> None:
    system, user = stage.system, "folder-user"
    folder = system.folder / "worker"

    def lost() -> None:
        shutil.rmtree(folder)

    def damaged() -> None:
        for current in folder.glob("**/*.db/CURRENT"):
            current.write_bytes(b"\0garbage")

    def foreign() -> None:
        for path in folder.glob("**/*.db"):
            store = Rdict(str(path), Options(raw_mode=True))
            store[OWNER] = b"somebody-else"
            store.close()

    stage.send([record(user, transaction_id="folder-0")])
    stage.collect({"folder-0"})
    for i, trouble in enumerate((lost, damaged, foreign), 1):
        system.kill_worker()
        trouble()
        system.start_worker()
        stage.send([record(user, transaction_id=f"folder-{i}")])
        ledger = stage.collect({f"folder-{i}"}, patience_s=60)
        assert ledger.decisions[f"folder-{i}"].history_len == i, trouble.__name__
        if trouble is not lost:
            assert list(folder.glob(f"**/*.db.{trouble.__name__}-*")), "what was found is kept aside"


def test_what_was_published_before_a_crash_is_published_again(stage: Stage) -> None:
    """As after a kill -9 between a decision and its state. The published decision is repeated, not made anew, because
    another model, or none, may answer by then."""
    system = stage.system
    system.kill_worker()
    user = "half-done-user"

    async def prepare() -> str:
        producer = make_producer(system.kafka)
        await producer.start()
        try:
            key, value = record(user, transaction_id="half-done")
            sent = await producer.send_and_wait("transactions", value, key=key)
            decision = Decision(
                transaction_id="half-done", user_id=user, event_time=1_740_823_200_000, scored_at=5, latency_ms=7,
                score=0.123456, threshold=0.9, alert=False, history_len=0, cold_start=True, late=False,
                degraded=None, model=ModelRef("panther", 1),
            )  # fmt: skip
            headers = headers_of(system.settings.app_id, sent.partition, sent.offset)
            place = {"key": key, "partition": sent.partition, "headers": headers}
            await producer.send_and_wait("fraud.scores", to_json(decision), **place)
            return to_json(decision).decode()
        finally:
            await producer.stop()

    published = asyncio.run(prepare())
    system.start_worker()
    stage.send([record(user, transaction_id="afterwards")])
    ledger = stage.collect({"afterwards"}, patience_s=60)
    scores = [r.value.decode() for r in asyncio.run(read_topic(system.kafka, "fraud.scores")) if r.value]
    assert [value for value in scores if '"half-done",' in value] == [published, published]
    assert ledger.decisions["afterwards"].history_len == ledger.decisions["half-done"].history_len + 1
    assert not ledger.contradicted


def test_refresh_takes_over_in_mid_stream(stage: Stage) -> None:
    system = stage.system
    past = stage.live.take(slice(0, 3500))
    asyncio.run(produce_labels(system.kafka, past, LABEL_DELAY_MS))
    during, after = stage.live.take(slice(3500, 4000)), stage.live.take(slice(4000, 4200))
    with ThreadPoolExecutor() as threads:
        refreshing = threads.submit(
            refresh_once,
            system.kafka,
            system.settings,
            system.stack.model_repository,
            Wanted(LABEL_DELAY_MS, anyway=True),
        )
        sent = 0
        while not refreshing.done() and sent < len(during) - 100:  # transactions arrive during the whole refresh
            stage.produce(during.take(slice(sent, sent + 20)), 20)
            sent += 20
        done = refreshing.result()
        stage.produce(during.take(slice(sent, None)))
    assert (done.previous, done.version, done.promoted, done.unloaded) == (1, 2, True, [])
    told = json.loads((Path(system.settings.models_dir) / "2" / "refresh.json").read_text())
    assert (told["champion"], told["challenger"], told["promoted"]) == (1, 2, True)
    assert {check["check"] for check in told["gate"]} & {"average_precision", "window"}
    assert load_manifest(Path(system.settings.models_dir) / "2").version == 2
    stage.produce(after)
    ledger = stage.collect(set(after.transaction_id.tolist()) | set(during.transaction_id.tolist()))
    assert {ledger.decisions[t].model.version for t in during.transaction_id.tolist()} == {1, 2}
    assert {ledger.decisions[t].model.version for t in after.transaction_id.tolist()} == {2}
    assert not ledger.degraded
    assert not ledger.contradicted
    log = (system.stack.folder / "logs" / "triton.log").read_text()
    assert log.count("ModelInstanceInitialize: panther_encode") == 2, "a version in service was reloaded"

    # the sweep moves users without an event to the new version, and keeps their whole window
    deadline, states = time.time() + 30, stage.states()
    while any(s["model_version"] != 2 for s in states.values()) and time.time() < deadline:
        time.sleep(0.5)
        states = stage.states()
    assert {int(s["model_version"]) for s in states.values()} == {2}
    assert all(s["cached_n"] == s["n"] for s in states.values())
    active = set(np.array(stage.live.user.words)[np.unique(after.user.index)].tolist())
    assert set(states) - active, "there are users who had no event since the switch"


def test_replay_of_everything_gives_the_states_that_the_stream_has(stage: Stage) -> None:
    """After kill -9, redeliveries, a refresh and a sweep, every user's state has exactly the history of the log."""
    part = stage.live.take(slice(0, 4200))
    stage.collect(set(part.transaction_id.tolist()))
    model = load_serving_model(Path(stage.system.settings.models_dir) / "2")
    events = concat([stage.history, part]).events(model.schema, model.risk)
    history = prepare(events, model.schema, model.codec.length)
    stored = {hash64(user): state for user, state in stage.states().items()}
    for user, state in zip(history.users.tolist(), history.states, strict=True):
        for name in ("n", "ring", "window_hash", "last_time_ms", "merchants", "profile"):
            assert np.asarray(stored[user][name]).tobytes() == np.asarray(state[name]).tobytes(), name


def test_merchants_know_the_payments_that_were_decided_and_their_labels(stage: Stage) -> None:
    """After kill -9 and redeliveries, every merchant's history has each payment, and each label, exactly once."""
    part, labelled = stage.live.take(slice(0, 4200)), 3500
    stage.system.start_merchants()
    try:
        stage.wait_ready("merchants")
        changelog = changelog_of(merchants_app(stage.system.settings.app_id), "merchants")
        model, past = load_serving_model(Path(stage.system.settings.models_dir) / "1"), len(stage.history)
        whole = concat([stage.history, part])
        history = prepare(whole.events(model.schema, model.risk), model.schema, model.codec.length)
        kept = np.flatnonzero(history.kept)
        deadline, found = time.time() + 60, dict[bytes, bytes]()
        while time.time() < deadline:
            records = asyncio.run(read_topic(stage.system.kafka, changelog))
            found = {r.key: r.value for r in records if b"\0" not in r.key}
            counted = [decode_merchants([found.get(name.encode())])["n"][0] for name in whole.merchant.words]
            if sum(counted) >= len(kept) + (kept < past + labelled).sum():
                break
            time.sleep(0.5)
    finally:
        assert stage.system.stop_worker("merchants")
    paid_day = whole.time_ms // DAY_MS
    ratio, merchant = against_usual(history.features).astype(np.float64), whole.merchant.index.astype(np.int64)
    last = int(paid_day.max()) + 2
    want = np.zeros(len(whole.merchant.words), MERCHANT)
    advance(want, last)
    take_payments(want, merchant[kept], paid_day[kept], ratio[kept])
    told = kept[kept < past + labelled]
    told_day = (whole.time_ms[told] + LABEL_DELAY_MS) // DAY_MS
    fraud = whole.label[told] == 1
    take_labels(want, merchant[told], paid_day[told], told_day, fraud, elsewise(ratio[told]))
    got = decode_merchants(found.get(name.encode()) for name in whole.merchant.words)
    advance(got, last)
    assert fraud.any()
    for name in ("payments", "ratios", "honest", "frauds", "surprise", "told", "told_frauds", "frauds_ever"):
        assert (got[name] == want[name]).all(), name


def test_roll_back_loads_a_retired_version_again(stage: Stage) -> None:
    system = stage.system
    assert served(system.settings.triton_url, system.settings.triton_headers)["panther_score"] == [1, 2]
    before, taken = roll_back(system.kafka, system.settings, system.stack.model_repository)
    assert (before, taken.version) == (2, 1)
    assert (taken.workers, taken.taken, taken.refused) == (1, 1, []), "the running worker has given its word"
    part = stage.live.take(slice(4200, 4300))
    stage.produce(part)
    ids = set(part.transaction_id.tolist())
    ledger = stage.collect(ids)
    assert {ledger.decisions[t].model.version for t in ids} == {1}
    assert not ledger.degraded
    assert retire(system.kafka, system.settings, system.stack.model_repository, 60) == [2], "no rollback goes to it"


def test_a_killed_server_degrades_decisions_until_it_is_back(stage: Stage) -> None:
    system, part = stage.system, stage.live.take(slice(4300, 4420))
    os.killpg(system.triton_pid(), signal.SIGKILL)
    down, back = part.take(slice(0, 60)), part.take(slice(60, None))
    stage.produce(down, rate=30)
    ids = set(down.transaction_id.tolist())
    ledger = stage.collect(ids)
    assert {ledger.decisions[t].degraded for t in ids} == {"rules"}
    status, body = stage.ask("/readyz")
    assert status == 503
    assert "Triton" in body
    assert stage.ask("/healthz")[0] == 200, "restarting the worker would not help"
    system.stack.up(detach=False)
    deadline = time.time() + 30
    while time.time() < deadline:  # until the worker has found the new server by itself
        probe = record("trouble-probe", transaction_id=f"probe-{time.time_ns()}")
        stage.send([probe])
        name = json.loads(probe[1])["transaction_id"]
        if not stage.collect({name}).decisions[name].degraded:
            break
    stage.produce(back)
    every = set(part.transaction_id.tolist())
    ledger = stage.collect(every)
    assert not {ledger.decisions[t].degraded for t in back.transaction_id.tolist()} - {None}
    assert every <= ledger.decisions.keys()
    assert not ledger.contradicted


def test_a_worker_that_is_asked_to_stop_finishes_what_it_has_taken_in(stage: Stage) -> None:
    """After SIGTERM under load and a restart, no decision was made twice and none is missing."""
    system, users = stage.system, 40
    records = [record(f"stopper-{i % users}", transaction_id=f"stop-{i}") for i in range(3500)]
    before, count = stage.collect(set()).repeated, stage.metric("panther_transactions_total")
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(stage.send, records)
        while stage.metric("panther_transactions_total") < count + 500:
            time.sleep(0.05)
        assert system.stop_worker(), "SIGTERM was enough"
        assert not sending.done(), "it was stopped under load"
        system.start_worker()
        sending.result()
    ledger = stage.collect({f"stop-{i}" for i in range(len(records))}, patience_s=60)
    assert ledger.decisions.keys() >= {f"stop-{i}" for i in range(len(records))}
    assert ledger.repeated == before
    assert not ledger.contradicted


def test_workers_come_and_go_under_load(stage: Stage) -> None:
    """Partitions move to a second worker, and back when it is killed. No event is decided twice, or on an old state."""
    system, users = stage.system, 30
    records = [record(f"mover-{i % users}", transaction_id=f"move-{i}") for i in range(6000)]

    def members() -> int:
        async def ask() -> int:
            admin = AIOKafkaAdminClient(**system.kafka.client_options())
            await admin.start()
            try:
                (reply,) = await admin.describe_consumer_groups([system.settings.app_id])
                _, _, state, _, _, found = reply.groups[0][:6]
                return len(found) if state == "Stable" else 0
            finally:
                await admin.close()

        return asyncio.run(ask())

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(stage.send, records)
        system.start_worker("second")
        while members() < 2:
            time.sleep(0.2)
        assert not sending.done(), "it joined under load"
        time.sleep(3)
        system.kill_worker("second")
        sending.result()
    ids = [f"move-{i}" for i in range(len(records))]
    ledger = stage.collect(set(ids), patience_s=60)
    assert not ledger.contradicted
    for user in range(users):
        lengths = [ledger.decisions[t].history_len for t in ids[user::users]]
        assert lengths == list(range(len(lengths)))


def test_a_standby_takes_over_from_its_copy(stage: Stage) -> None:
    """With standby copies, when a worker is killed the other worker has the newest state of each of its users."""
    system, users = stage.system, 20
    records = [record(f"kept-{i % users}", transaction_id=f"keep-{i}") for i in range(800)]
    ids = [f"keep-{i}" for i in range(len(records))]
    settings = system.settings
    system.stop_worker()
    system.settings = settings.model_copy(update={"standby_replicas": 1})
    try:
        for name in ("worker", "second"):
            system.start_worker(name)
            stage.wait_ready(name)
        stage.wait_ready("worker")
        for name in ("worker", "second"):
            assert stage.metric("panther_partitions", name, state="ready") == 2
            assert stage.metric("panther_partitions", name, state="standby") == 2
        stage.send(records[:400])
        stage.collect(set(ids[:400]))
        system.kill_worker("second")
        stage.send(records[400:])
        ledger = stage.collect(set(ids), patience_s=60)
    finally:
        system.settings = settings
    assert stage.metric("panther_partitions", state="ready") == 4
    assert not ledger.contradicted
    for user in range(users):
        lengths = [ledger.decisions[t].history_len for t in ids[user::users]]
        assert lengths == list(range(len(lengths)))


def test_a_worker_that_restarts_under_its_name_moves_no_partition(stage: Stage) -> None:
    """With static membership the other worker sees no rebalance."""
    system, names = stage.system, ("worker", "second")
    for name in (*system.workers,):
        system.stop_worker(name)
    for name in names:
        system.start_worker(name, PANTHER_GROUP_INSTANCE_ID=name)
        stage.wait_ready(name)
    stage.wait_ready("worker")
    deadline = time.monotonic() + 30
    while stage.metric("panther_partitions", state="assigned") == system.settings.partitions:
        assert time.monotonic() < deadline, "the second worker has joined, and the first still counts all partitions"
        time.sleep(0.2)  # the gauge and the counter of rebalances are updated together, once a second
    before = stage.metric("panther_rebalances_total")
    system.stop_worker("second")
    system.start_worker("second", PANTHER_GROUP_INSTANCE_ID="second")
    stage.wait_ready("second")
    ids = [f"named-{i}" for i in range(100)]
    stage.send([record(f"named-user-{i}", transaction_id=t) for i, t in enumerate(ids)])
    ledger = stage.collect(set(ids))
    assert set(ids) <= ledger.decisions.keys()
    assert stage.metric("panther_rebalances_total") == before > 0
    assert stage.metric("panther_transactions_total", "second") > 0


def test_no_log_line_names_a_user_or_a_transaction(stage: Stage) -> None:
    """The logs after all tests above: kill -9, dead letters, an outage, a rebalance."""
    logs = list((stage.system.folder / "logs").iterdir())
    text = "\n".join(path.read_text(errors="replace") for path in logs)
    lines = text.splitlines()
    assert any(json.loads(line)["message"].startswith("model version") for line in lines if line.startswith("{"))
    # compared as words, since there are 150 users and some thousand transactions
    words = set(re.findall(r"[\w-]+", text))
    identifiers = set(stage.live.user.words) | set(stage.live.transaction_id.tolist())
    assert not words & identifiers
    assert not [
        line
        for line in lines
        if re.search("trouble-|folder-user|half-done|mover-|stopper-|kept-|named-|again-user", line)
    ]
