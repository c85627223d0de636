"""What an operator asks of the workers about one user, topic `users.commands`."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from panther_core.data.events import Id


class UserCommand(msgspec.Struct, kw_only=True):
    """Begin a user's state anew (`reset`), and with `forget` also delete the decisions that are held for copies.

    Keyed by the user id. It stands on every partition of the topic, since only the producers of transactions know
    where the user's are.
    """

    user_id: Id
    command: Literal["reset", "forget"]
    at: int
    """When it was asked for, wall clock, epoch ms."""


_decode = msgspec.json.Decoder(UserCommand).decode
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def decode_command(value: bytes | None) -> UserCommand:
    """Raises msgspec.DecodeError for a record that is no command.

    No user has an id with a control character, and stores keep records of their own under keys that have one.
    """
    command = _decode(value or b"")
    if _CONTROL.search(command.user_id):
        raise msgspec.ValidationError("Expected an id without control characters - at `$.user_id`")
    return command
