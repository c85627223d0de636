"""Damaged JSON for the fuzzers: values of other types, huge and foolish numbers, words of the program, cut bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

#: JSON texts in place of a value; NaN and Infinity are no JSON, and some writers write them
FOOLISH = (
    *("NaN", "-Infinity", "1e999", "1e308", "-1", "0", "-0.0", "0.5", "2147483648", "9223372036854775808"),
    *("18446744073709551616", "9" * 400, "null", "true", "false", "[]", "{}", "[[]]", '""', '"x"', '"NaN"', '"1"'),
    *('"../../etc/passwd"', '"/dev/zero"', '"\\u0000"', '"\\u001b[2J"', '"__panther\\u0000application"'),
    *('"' + "x" * 5000 + '"', "[NaN]", "[1e999]", "[-1,-1,-1,-1]", "[" * 3000 + "]" * 3000, '"\\ud800"', '"²"'),
)


def chosen(choices: Sequence[T], rng: np.random.Generator) -> T:
    """One of the choices."""
    return choices[int(rng.integers(len(choices)))]


def mutated(value: Any, rng: np.random.Generator) -> bytes:
    """JSON of an object in which one thing is wrong: a field's value, a field too few, a field twice, or bytes."""
    kind = rng.random()
    if kind < 0.7:
        return with_text(value, path_in(value, rng), chosen(FOOLISH, rng))
    if kind < 0.8:
        left = dict(value)
        left.pop(chosen(list(left), rng))
        return json.dumps(left).encode()
    if kind < 0.85:
        name = chosen(list(value), rng)
        return json.dumps(value).encode()[:-1] + f', "{name}": {chosen(FOOLISH, rng)}}}'.encode()
    return damaged(json.dumps(value).encode(), rng)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes that are cut, or of which some are others."""
    out = bytearray(data)
    if rng.random() < 0.3:
        return bytes(out[: int(rng.integers(len(out) + 1))])
    for at in rng.integers(0, max(1, len(out)), int(rng.integers(1, 4))).tolist():
        if out:
            out[at] = int(rng.integers(256))
    return bytes(out)


def path_in(value: Any, rng: np.random.Generator) -> tuple[Any, ...]:
    """Way to some value inside of an object: names and places, at least one."""
    path: list[Any] = []
    while isinstance(value, dict | list) and value and (not path or rng.random() < 0.6):
        key = chosen(list(value) if isinstance(value, dict) else range(min(len(value), 50)), rng)
        path.append(key)
        value = value[key]
    return tuple(path)


def with_text(value: Any, path: tuple[Any, ...], text: str) -> bytes:
    """JSON of `value` with `text` in place of what stands at `path`."""
    mark = "<here>"
    changed = json.loads(json.dumps(value))
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = mark
    return json.dumps(changed).encode().replace(json.dumps(mark).encode(), text.encode("utf-8", "surrogatepass"), 1)
