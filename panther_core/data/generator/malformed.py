"""Records that must become dead letters, and a fuzzer that damages good records.

Each record of `malformed` breaks a rule of panther_core.data.events, and its dead-letter code is known. A record of
`fuzz` may be good or bad: the stream must score it or make it a dead letter, and must go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from panther_core.base.times import DAY_MS
from panther_core.data.events import MAX_AMOUNT, MAX_BYTES

_REQUIRED = (
    "transaction_id", "user_id", "merchant_id", "merchant_category", "amount", "currency", "channel", "event_time",
)  # fmt: skip
_YEAR_2200_MS = 7_258_118_400_000


def valid(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """A good record, as plain JSON data."""
    record: dict[str, Any] = {
        "transaction_id": f"t{number:010d}",
        "user_id": f"u{rng.integers(5000):05d}",
        "merchant_id": f"m{rng.integers(2000):05d}",
        "merchant_category": "grocery",
        "amount": round(float(rng.lognormal(3, 1)), 2),
        "currency": "EUR",
        "channel": "chip",
        "event_time": 1_735_689_600_000 + int(rng.integers(0, DAY_MS)),
    }
    if rng.random() < 0.5:
        record |= {"country": "DE", "device": "d00001", "profile": {"age": 40, "job": "office"}}
    return record


def _with(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: json.dumps(record | changes).encode()


def _without(name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: json.dumps({k: v for k, v in record.items() if k != name}).encode()


def _raw(change: Callable[[bytes], bytes]) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: change(json.dumps(record).encode())


# kind -> (dead-letter code of panther_core.data.events, function that turns a good record into a bad payload)
KINDS: dict[str, tuple[str, Callable[[dict[str, Any]], bytes]]] = {
    "empty": ("empty", _raw(lambda _: b"")),
    "too_large": ("too_large", _with(padding="x" * MAX_BYTES)),
    "truncated": ("malformed_json", _raw(lambda b: b[: len(b) // 2])),
    "trailing": ("malformed_json", _raw(lambda b: b + b"}")),
    "two_records": ("malformed_json", _raw(lambda b: b + b"\n" + b)),
    "not_json": ("malformed_json", _raw(lambda _: b"transaction_id=1&amount=3")),
    "binary": ("malformed_json", _raw(lambda b: b"\x00\x01\x02" + b)),
    "byte_order_mark": ("malformed_json", _raw(lambda b: b"\xef\xbb\xbf" + b)),
    "not_utf8": ("malformed_json", _raw(lambda b: b.replace(b"grocery", b"caf\xe9"))),
    "utf16": ("malformed_json", _raw(lambda b: b.decode().encode("utf-16"))),
    "amount_nan": ("malformed_json", _with(amount=float("nan"))),
    "amount_infinity": ("malformed_json", _with(amount=float("inf"))),
    "nested_deep": ("malformed_json", _raw(lambda b: b[:-1] + b', "extra": ' + b"[" * 5000 + b"]" * 5000 + b"}")),
    "array": ("invalid_field", _raw(lambda b: b"[" + b + b"]")),
    "null": ("invalid_field", _raw(lambda _: b"null")),
    "number": ("invalid_field", _raw(lambda _: b"12.5")),
    "string": ("invalid_field", _raw(lambda b: json.dumps(b.decode()).encode())),
    "empty_object": ("invalid_field", _raw(lambda _: b"{}")),
    "amount_text": ("invalid_field", _with(amount="12.50")),
    "amount_null": ("invalid_field", _with(amount=None)),
    "amount_bool": ("invalid_field", _with(amount=True)),
    "user_number": ("invalid_field", _with(user_id=17)),
    "user_empty": ("invalid_field", _with(user_id="")),
    "user_long": ("invalid_field", _with(user_id="u" * 129)),
    "merchant_object": ("invalid_field", _with(merchant_id={"id": "m1"})),
    "category_array": ("invalid_field", _with(merchant_category=["grocery"])),
    "country_number": ("invalid_field", _with(country=49)),
    "profile_array": ("invalid_field", _with(profile=[1, 2])),
    "profile_nested": ("invalid_field", _with(profile={"age": {"years": 40}})),
    "time_float": ("invalid_field", _with(event_time=1_735_689_600_000.5)),
    "time_null": ("invalid_field", _with(event_time=None)),
    "time_bool": ("invalid_field", _with(event_time=True)),
    "amount_negative": ("amount_out_of_range", _with(amount=-1)),
    "amount_huge": ("amount_out_of_range", _with(amount=MAX_AMOUNT * 1000)),
    "time_text": ("invalid_time", _with(event_time="yesterday")),
    "time_empty": ("invalid_time", _with(event_time="")),
    "time_month_13": ("invalid_time", _with(event_time="2025-13-01T00:00:00Z")),
    "time_digits": ("invalid_time", _with(event_time="1735689600000")),
    "time_zero": ("time_out_of_range", _with(event_time=0)),
    "time_1970": ("time_out_of_range", _with(event_time="1970-01-01T00:00:01Z")),
    "time_seconds": ("time_out_of_range", _with(event_time=1_735_689_600)),
    "time_negative": ("time_out_of_range", _with(event_time=-(2**62))),
    "time_2200": ("time_out_of_range", _with(event_time=_YEAR_2200_MS)),
    "time_2200_text": ("time_out_of_range", _with(event_time="2200-01-01T00:00:00+00:00")),
} | {f"missing_{name}": ("invalid_field", _without(name)) for name in _REQUIRED}


def malformed(n: int, seed: int) -> list[tuple[str, bytes]]:
    """`n` (kind, payload) pairs, kinds in turn. `KINDS[kind][0]` is the code of the InvalidEvent to expect.

    The kinds `time_2200...` are wrong only where the reader compares them with a time of append, `event_time_ms(...,
    now_ms)`, that lies before 2200.
    """
    rng, kinds = np.random.default_rng(seed), list(KINDS)
    return [(kind, KINDS[kind][1](valid(i, rng))) for i in range(n) for kind in [kinds[i % len(kinds)]]]


_SPLICES = (
    b"", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-", b"1e999", b"NaN", b"\xff", b"\x00",
    b"\\ud800", b'"\\u0000"', b"9" * 400, b"0", b"-0.0", b"1E-400", b"\xf0\x9f\x92\xb3", b"  ",
    b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59.999-23:59"', b"18446744073709551616", b"[" * 200, b"{}", b"[]",
)  # fmt: skip


def fuzz(n: int, seed: int) -> list[bytes]:
    """`n` payloads, of which about a tenth is undamaged. The others have bytes flipped, cut or repeated, or a value
    replaced."""
    rng = np.random.default_rng(seed)
    goods = [valid(i, rng) for i in range(min(n, 256))]
    whole = [json.dumps(record).encode() for record in goods]
    actions, picks = rng.integers(0, 10, n), rng.integers(0, len(goods) or 1, n)
    return [_damage(goods[pick], whole[pick], int(action), rng) for action, pick in zip(actions, picks, strict=True)]


def _damage(record: dict[str, Any], payload: bytes, action: int, rng: np.random.Generator) -> bytes:
    a, b = sorted(int(i) for i in rng.integers(0, len(payload) + 1, 2))
    splice = _SPLICES[int(rng.integers(0, len(_SPLICES)))]
    if action == 0:
        return payload
    if action == 1:  # flipped bytes
        out = bytearray(payload)
        for at in rng.integers(0, len(out), int(rng.integers(1, 5))):
            out[at] ^= 1 << int(rng.integers(0, 8))
        return bytes(out)
    if action == 2:
        return payload[:a] + payload[b:]
    if action == 3:
        return payload[:b] + payload[a:]
    if action in (4, 5):
        return payload[:a] + splice + payload[a:]
    if action == 6:
        return payload[:a] + splice + payload[b:]
    # actions 7 to 9 replace a value: mostly the JSON stays well formed, so the checks after parsing are reached
    names = [*record, "profile", "country", "device"]
    name = names[int(rng.integers(0, len(names)))]
    if action == 9:
        splice = b'{"age": ' + splice + b"}"
        name = "profile"
    parts = [json.dumps(k).encode() + b": " + json.dumps(v).encode() for k, v in record.items() if k != name]
    return b"{" + b", ".join([*parts, json.dumps(name).encode() + b": " + splice]) + b"}"
