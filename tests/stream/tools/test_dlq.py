"""`panther dlq` on a real Kafka: what is listed, shown, and sent again."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner, Result

from cli.dlq import app
from infra.create_topics import create_topics
from panther_core.base.errors import BadInput
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.topics import DEAD_LETTERS, TRANSACTIONS
from panther_core.kafka.reading import read_topic
from stream.faust_parts.producer import make_producer
from stream.tools.dlq import REPLAYED, Letter, letter_at, parse_place, printable, send_again
from stream.worker.letters import letter_of

NASTY = b'{"transaction_id": "\xff\x1b[2J[red]\r\n"}'


@dataclass
class Letters:
    """Dead letters of codes nobody else uses: 5 of `many`, one of `one` with bytes a terminal would obey."""

    kafka: KafkaSettings
    many: str
    one: str
    place: str

    def sent_again(self) -> list[tuple[bytes | None, bytes | None, int, str]]:
        """Key, value, partition and header of what this test's commands put on `transactions`."""
        records = asyncio.run(read_topic(self.kafka, TRANSACTIONS))
        marked = [(r, dict(r.headers).get(REPLAYED, b"").decode()) for r in records]
        return [(r.key, r.value, r.partition, mark) for r, mark in marked if mark and self.many.encode() in r.value]


@pytest.fixture
def dead(kafka: str, monkeypatch: pytest.MonkeyPatch) -> Letters:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka)
    settings, name = KafkaSettings(bootstrap_servers=kafka), uuid.uuid4().hex
    letters = Letters(settings, f"many-{name}", f"one-{name}", "")

    async def write() -> None:
        await create_topics(settings, PantherSettings(app_id=f"dlq-{name}"))
        async with make_producer(settings) as producer:
            for i in range(5):
                headers = [
                    ("code", letters.many.encode()),
                    ("reason", b"planted"),
                    ("source", b"transactions:1:%d" % i),
                ]
                value = json.dumps({"number": i, "code": letters.many}).encode()
                await producer.send_and_wait(DEAD_LETTERS, value, key=b"user-%d" % i, partition=i % 2, headers=headers)
            headers = [("code", letters.one.encode()), ("reason", b"a\x1b[31m reason"), ("source", b"transactions:2:9")]
            sent = await producer.send_and_wait(DEAD_LETTERS, NASTY, partition=2, headers=headers)
            letters.place = f"{sent.partition}:{sent.offset}"

    asyncio.run(write())
    return letters


def run(*argv: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, list(argv), input=answer)


def test_list_counts_all_and_prints_the_newest(dead: Letters) -> None:
    done = run("list", "--code", dead.many, "--limit", "2", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["codes"] == {dead.many: 5}
    assert [letter["source"] for letter in found["letters"]] == ["transactions:1:3", "transactions:1:4"]
    assert found["letters"][0].keys() == {"partition", "offset", "time_ms", "code", "reason", "source", "cut"}
    everything = json.loads(run("list", "--json").stdout)["codes"]
    assert everything[dead.many] == 5
    assert everything[dead.one] == 1
    text = run("list").stderr
    assert dead.place in text
    assert "\x1b[31m" not in text


def test_show_has_the_bytes_exactly_and_none_that_a_terminal_obeys(dead: Letters) -> None:
    shown = json.loads(run("show", dead.place, "--json").stdout)
    assert base64.b64decode(shown["value_base64"]) == NASTY
    assert shown["value"] == r'{"transaction_id": "\xff\x1b[2J[red]\r\n"}'
    assert (shown["key"], shown["key_base64"]) == (None, None)
    text = run("show", dead.place).stderr
    assert r"\xff\x1b[2J[red]\r\n" in text, "no markup either"


def test_replay_sends_records_as_they_were_to_where_they_came_from(dead: Letters) -> None:
    assert json.loads(run("replay", "--code", dead.many, "--dry-run", "--json").stdout)["found"] == 5
    assert not dead.sent_again()
    refused = run("replay", "--code", dead.many, "--count", "4", "--json")
    assert isinstance(refused.exception, BadInput)
    assert "found 5: nothing was sent" in str(refused.exception)
    assert not dead.sent_again()
    done = run("replay", "--code", dead.many, "--json", answer="5\n")
    # the runner echoes what it answers
    assert json.loads(done.stdout.splitlines()[-1]) == {"found": 5, "sent": 5, "codes": {dead.many: 5}}
    again = sorted(dead.sent_again(), key=lambda record: record[0] or b"")
    assert [(key, partition) for key, _, partition, _ in again] == [(b"user-%d" % i, i % 2) for i in range(5)]
    assert all(json.loads(value or b"")["number"] == i for i, (_, value, _, _) in enumerate(again))
    assert all(mark.startswith(f"{DEAD_LETTERS}:{partition}:") for _, _, partition, mark in again)


def test_replay_of_single_records(dead: Letters) -> None:
    found = json.loads(run("list", "--code", dead.many, "--json").stdout)["letters"]
    places = [f"{letter['partition']}:{letter['offset']}" for letter in found[1:3]]
    argv = [word for place in [*places, places[0]] for word in ("--at", place)]
    assert json.loads(run("replay", *argv, "--count", "2", "--json").stdout)["sent"] == 2
    assert sorted(mark for *_, mark in dead.sent_again()) == sorted(f"{DEAD_LETTERS}:{place}" for place in places)
    missing = run("replay", "--at", "0:999999", "--count", "1")
    assert "none (any more)" in str(missing.exception)
    assert run("replay").exit_code == run("replay", "--code", "x", "--at", "0:0").exit_code == 2


@pytest.mark.parametrize(
    ("key", "value", "kept", "cut"),
    [
        (None, None, (None, b""), False),  # Kafka takes such a record
        (b"u", None, (b"u", None), False),
        (b"u", b"x" * (9 << 20), (b"u", b"x" * (4 << 20)), True),  # compressed, the topic of transactions takes it
        (b"k" * (9 << 20), b"v", (b"k" * (512 << 10), b"v"), True),
    ],
)
def test_a_record_of_any_shape_and_size_can_be_a_dead_letter(
    dead: Letters, key: bytes | None, value: bytes | None, kept: tuple[bytes | None, bytes | None], cut: bool
) -> None:
    own_key, own_value, headers = letter_of(key, value, dead.one, "planted", "transactions:0:1")

    async def go() -> Letter:
        async with make_producer(dead.kafka) as producer:
            sent = await producer.send_and_wait(DEAD_LETTERS, own_value, key=own_key, partition=0, headers=headers)
        return await letter_at(dead.kafka, sent.partition, sent.offset)

    letter = asyncio.run(go())
    assert (letter.key, letter.value) == kept
    assert letter.cut == cut
    if cut:
        with pytest.raises(BadInput, match="only the beginning"):
            asyncio.run(send_again(dead.kafka, [letter]))


def test_places_and_text() -> None:
    assert parse_place("3:1207") == (3, 1207)
    for wrong in ("3", "3:", ":7", "a:7", "3:-1"):
        with pytest.raises(BadInput, match="partition:offset"):
            parse_place(wrong)
    assert printable("é 語\t\x00\x9b") == r"é 語\t\x00\x9b"
