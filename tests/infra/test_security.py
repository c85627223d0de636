"""The ACLs of docs/security.md on a real broker: they are enough for a worker, and nobody gets more."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
from confluent_kafka import admin as confluent

from infra.create_topics import create_topics
from infra.local.kafka import KafkaBroker, kafka_problem
from infra.local.ports import pick_free
from infra.local.process import ManagedProcess
from panther_core.artifact import load_manifest
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.decision import Decision
from panther_core.data.topics import all_topics
from panther_core.kafka.reading import make_reader, read_topic
from stream.faust_parts.producer import make_producer
from stream.tools.user import command_user
from tests import ROOT
from tests.e2e.test_stream import record
from trainer.rollout.go_live import promote

APP = "guarded"
SETTINGS = PantherSettings(app_id=APP, partitions=2)
USERS = ("admin", "producer", "labels", "worker", "merchants", "trainer", "operator", "reader")
_LINE = re.compile(r"^kafka-acls\.sh --add --allow-principal (\S+)((?: --operation \w+)+) (.+)$", re.MULTILINE)
#: topics that each principal may write to
MAY_WRITE = {
    "producer": {"transactions"},
    "labels": {"fraud.labels"},
    "worker": {"fraud.scores", "fraud.alerts", "transactions.dlq", "models.progress", f"{APP}-state-changelog"}
    | {"merchant.events"},
    "merchants": {"merchant.risk", "merchant.alerts", f"{APP}-merchants-merchants-changelog"},
    "trainer": {"models.updates", "fraud.scores.shadow"},
    "operator": {"transactions", "users.commands"},
    "reader": set(),
}


class GuardedBroker(KafkaBroker):
    """A broker that asks for a password, and allows what its ACLs say."""

    def _write_configuration(self, name: str, data: Path) -> Path:
        path = super()._write_configuration(name, data)
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required username=admin password=admin"
        users = " ".join(f"user_{user}={user}" for user in USERS)
        path.write_text(
            path.read_text().replace("PLAINTEXT://", "SASL_PLAINTEXT://")
            + "listener.security.protocol.map=SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            "inter.broker.listener.name=SASL_PLAINTEXT\nsasl.mechanism.inter.broker.protocol=PLAIN\n"
            "sasl.enabled.mechanisms=PLAIN\n"
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n"
            "super.users=User:admin;User:ANONYMOUS\n"  # the latter is the broker itself, on the controller's port
            f"listener.name.sasl_plaintext.plain.sasl.jaas.config={plain} {users};\n"
        )
        return path

    def answer_problem(self) -> str | None:
        return kafka_problem(self.bootstrap, kafka_of(self.bootstrap, "admin").client_options())


def kafka_of(bootstrap: str, user: str) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=bootstrap,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username=user,
        sasl_password=user,
    )


def acls() -> list[confluent.AclBinding]:
    """The lines of the page."""
    found = []
    for principal, operations, resources in _LINE.findall((ROOT / "docs/security.md").read_text()):
        for kind, name in re.findall(r"--(topic|group) (\S+)", resources):
            for operation in re.findall(r"--operation (\w+)", operations):
                found.append(
                    confluent.AclBinding(
                        confluent.ResourceType[kind.upper()],
                        name.replace("APP", APP),
                        confluent.ResourcePatternType.LITERAL,
                        principal,
                        "*",
                        confluent.AclOperation[operation.upper()],
                        confluent.AclPermissionType.ALLOW,
                    )
                )
    return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, controller_port = pick_free(2)
    with GuardedBroker(tmp_path_factory.mktemp("guarded"), port, controller_port) as broker:
        asyncio.run(create_topics(kafka_of(broker.bootstrap, "admin"), SETTINGS))
        sasl = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
        sasl |= {"sasl.username": "admin", "sasl.password": "admin"}
        admin = confluent.AdminClient({"bootstrap.servers": broker.bootstrap} | sasl)
        wanted = acls()
        for done in admin.create_acls(wanted).values():
            done.result(30)
        every = confluent.AclBindingFilter(
            confluent.ResourceType.ANY, None, confluent.ResourcePatternType.ANY, None, None,
            confluent.AclOperation.ANY, confluent.AclPermissionType.ANY,
        )  # fmt: skip
        end_s = time.monotonic() + 30
        while len(admin.describe_acls(every).result(30)) < len(wanted):  # they reach the broker by its metadata log
            assert time.monotonic() < end_s
            time.sleep(0.05)
        yield broker.bootstrap


def test_a_worker_decides_with_what_the_page_allows(guarded: str, artifact_folder: Path, tmp_path: Path) -> None:
    """By rules, as no Triton is there. The trainer promotes, the producer pays, the operator resets."""
    trainer, live = kafka_of(guarded, "trainer"), (load_manifest(artifact_folder), str(artifact_folder))
    assert promote(trainer, SETTINGS, *live).workers == 0
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": guarded,
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_MECHANISM": "PLAIN",
        "KAFKA_SASL_USERNAME": "worker",
        "KAFKA_SASL_PASSWORD": "worker",
        "PANTHER_APP_ID": APP,
        "PANTHER_PARTITIONS": "2",
        "TRITON_URL": f"127.0.0.1:{pick_free(1)[0]}",
        "PATH": str(Path(sys.prefix) / "bin"),
    }
    argv = [str(Path(sys.prefix) / "bin" / "panther"), "worker", "--data-dir", str(tmp_path / "data")]
    worker = ManagedProcess.start("worker", argv, tmp_path / "worker.log", env=environment)

    async def decided(name: str) -> Decision:
        async with make_producer(kafka_of(guarded, "producer")) as producer:
            key, value = record("somebody", transaction_id=name)
            await producer.send_and_wait("transactions", value, key=key)
        end_s = time.monotonic() + 60
        while time.monotonic() < end_s:
            for found in await read_topic(kafka_of(guarded, "reader"), "fraud.scores"):
                decision = msgspec.json.decode(found.value or b"", type=Decision)
                if decision.transaction_id == name:
                    return decision
            assert worker.alive(), worker.log_tail()
            await asyncio.sleep(0.2)
        raise AssertionError(worker.log_tail())

    try:
        assert asyncio.run(decided("first")).history_len == 0
        assert asyncio.run(decided("second")).history_len == 1
        again = promote(trainer, SETTINGS, *live, patience_s=60)
        assert (again.workers, again.taken) == (1, 1)
        assert asyncio.run(command_user(kafka_of(guarded, "operator"), SETTINGS, "somebody", "reset", 30)) == 2
        assert asyncio.run(decided("third")).history_len == 0
    finally:
        assert worker.stop(), worker.log_tail()
    log = (tmp_path / "worker.log").read_text()
    assert "Authorization" not in log, log


@pytest.mark.parametrize("user", MAY_WRITE)
def test_each_writes_where_the_page_says_and_nowhere_else(guarded: str, user: str) -> None:
    async def written() -> set[str]:
        out: set[str] = set()
        producer = make_producer(kafka_of(guarded, user))
        try:
            await producer.start()
            for topic in all_topics(SETTINGS):
                try:
                    await producer.send_and_wait(topic.name, b"{}", key=b"x")
                    out.add(topic.name)
                except TopicAuthorizationFailedError:
                    pass
        except ClusterAuthorizationFailedError:  # a producer that may write nowhere does not even start
            pass
        finally:
            await producer.stop()
        return out

    assert asyncio.run(written()) == MAY_WRITE[user]


def test_a_reader_s_group_is_not_the_workers(guarded: str) -> None:
    async def read(group: str) -> None:
        async with make_reader(kafka_of(guarded, "reader"), group_id=group) as consumer:
            consumer.subscribe(["fraud.scores"])
            await consumer.getmany(timeout_ms=3000)

    asyncio.run(read("reader"))
    for group in (APP, f"{APP}-users"):
        with pytest.raises(GroupAuthorizationFailedError):
            asyncio.run(read(group))
