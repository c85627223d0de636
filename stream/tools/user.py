"""Commands about one user, as an operator gives them: on `users.commands`, done once the workers commit them."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec
from aiokafka.admin import AIOKafkaAdminClient

from panther_core.base.errors import BadInput, PantherError
from panther_core.base.settings import KafkaSettings, PantherSettings
from panther_core.data.commands import UserCommand, decode_command
from panther_core.data.topics import USER_COMMANDS
from panther_core.kafka.reading import make_reader, partitions_of
from stream.faust_parts.producer import make_producer

_EVERY_S = 0.2


class NotAnswered(PantherError):
    """The command is on its topic, but the workers of some partitions have not carried it out in time."""


async def command_user(
    kafka: KafkaSettings, settings: PantherSettings, user: str, command: Literal["reset", "forget"], wait_s: float
) -> int:
    """Ask the workers to begin a user's state anew, or to forget the user; returns the number of partitions asked.

    `wait_s`: how long to wait until all have done it; 0 does not wait. Raises BadInput for a user id that no
    transaction can have and where the topic is missing; NotAnswered.
    """
    try:
        value = msgspec.json.encode(UserCommand(user_id=user, command=command, at=time.time_ns() // 1_000_000))
        decode_command(value)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise BadInput(f"expected a user id as transactions have them, got one that is none: {error}") from None
    async with make_reader(kafka) as consumer:
        parts = [part.partition for part in await partitions_of(consumer, USER_COMMANDS)]
    if not parts:
        raise BadInput(f"expected the topic {USER_COMMANDS}, found none: make the topics with `panther topics create`")
    async with make_producer(kafka) as producer:
        # to every partition: where the user's transactions are is decided by whoever produces them
        place = {"key": user.encode(), "value": value}
        sends = [await producer.send(USER_COMMANDS, partition=partition, **place) for partition in parts]
        sent = {part: record.offset for part, record in zip(parts, await asyncio.gather(*sends), strict=True)}
    if wait_s:
        await _done(kafka, f"{settings.app_id}-users", sent, wait_s)
    return len(parts)


async def _done(kafka: KafkaSettings, group: str, sent: dict[int, int], wait_s: float) -> None:
    """Wait until the workers have committed the records at these offsets, by partition. Raises NotAnswered."""
    end_s = time.monotonic() + wait_s
    admin = AIOKafkaAdminClient(**kafka.client_options())
    await admin.start()
    try:
        while True:
            found = await admin.list_consumer_group_offsets(group)
            at = {part.partition: own.offset for part, own in found.items() if part.topic == USER_COMMANDS}
            left = [partition for partition, offset in sent.items() if at.get(partition, -1) <= offset]
            if not left:
                return
            if time.monotonic() > end_s:
                raise NotAnswered(
                    f"expected the workers of every partition to have done it within {wait_s:g} s, but those of "
                    f"{left} have not: are all workers up, under this PANTHER_APP_ID? They will do it once they are"
                )
            await asyncio.sleep(_EVERY_S)
    finally:
        await admin.close()
