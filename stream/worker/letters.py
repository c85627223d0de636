"""The dead letter of a record that cannot be decided: what the worker puts on the dead-letter topic."""

from __future__ import annotations

#: bytes kept of a dead letter's value; of its key, an eighth. A compressed record can be of any size
KEPT_BYTES = 4 << 20


def letter_of(
    key: bytes | None, value: bytes | None, code: str, reason: str, source: str
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Key, value and headers of the dead letter of a record, of whatever size: it must fit, or the stream would stop.

    `code` is stable, `reason` names the field, `source` is topic:partition:offset.
    """
    headers = [("code", code.encode()), ("reason", reason.encode()), ("source", source.encode())]
    if len(value or b"") > KEPT_BYTES or len(key or b"") > KEPT_BYTES // 8:
        headers.append(("cut", f"key of {len(key or b'')} bytes, value of {len(value or b'')}".encode()))
        key, value = key and key[: KEPT_BYTES // 8], value and value[:KEPT_BYTES]
    if key is None and value is None:
        value = b""  # aiokafka refuses a record without key and value, which Kafka would accept
    return key, value, headers
