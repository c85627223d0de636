"""The mapping file of an own log (`--format csv`): TOML or JSON that says which column is what, and how it is written.

docs/data.md has every key with its meaning.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from panther_core.base.errors import InvalidFile
from panther_core.data.formats.reading import fail, locate

HELP = "docs/data.md, `A mapping for your own file`"
MAPPINGS = ("mapping.toml", "mapping.json")
UNITS_MS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6, "h": 3.6e6, "d": 8.64e7}
Name = str | tuple[str, ...]
_Sign = Annotated[str, msgspec.Meta(min_length=1, max_length=1)]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Column of the file for each field of a transaction. Several columns for an id or a time are joined; `NAME#2` is
    the second of two columns of one name."""

    user_id: Name
    merchant_id: Name
    amount: str
    event_time: Name
    transaction_id: Name | None = None
    merchant_category: Name | None = None
    currency: str | None = None
    channel: Name | None = None
    country: str | None = None
    device: Name | None = None
    label: str | None = None
    fraud_kind: str | None = None


class Constants(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words that hold for every row."""

    merchant_id: str | None = None
    merchant_category: str | None = None
    currency: str | None = None
    channel: str | None = None
    country: str | None = None


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping file. Its keys are documented in docs/data.md."""

    data: str
    columns: Columns
    constants: Constants = Constants()
    profile: dict[str, str] = {}
    separator: _Sign = ","
    quote: Annotated[str, msgspec.Meta(max_length=1)] = '"'
    encoding: str = "utf-8"
    decimal: Literal[".", ","] | None = None
    thousands: Annotated[str, msgspec.Meta(max_length=1)] = ""
    nulls: tuple[str, ...] = ("\\N", "NULL", "null")
    sorted: bool = False
    time: str = "iso"
    start: str | None = None
    zone: str = "UTC"
    negative: Literal["error", "absolute", "skip"] = "error"
    fraud: tuple[str, ...] = ("1", "true", "yes")
    honest: tuple[str, ...] = ("0", "false", "no")
    unknown: tuple[str, ...] = ()
    others: Literal["unknown", "honest"] = "unknown"
    rates: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = {}

    def needed(self) -> list[str]:
        """Every column that is read, each once."""
        found = [name for name in msgspec.structs.astuple(self.columns) if name]
        flat = [part for name in found for part in ((name,) if isinstance(name, str) else name)]
        return list(dict.fromkeys([*flat, *self.profile.values()]))


def load_mapping(path: Path) -> tuple[Mapping, Path]:
    """The mapping and its file. Raises InvalidFile."""
    file = locate(path, MAPPINGS)
    if file.suffix not in (".json", ".toml"):
        fail(
            file,
            "expected a mapping file (.toml or .json), not the data itself",
            f"`panther init {file}` writes one; {HELP}",
        )
    decode = msgspec.json.decode if file.suffix == ".json" else msgspec.toml.decode
    try:
        mapping = decode(file.read_bytes(), type=Mapping)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(f"{file}: {error}{_allowed(str(error))}: correct the mapping ({HELP})") from None
    _check(mapping, file)
    return mapping, file


def _allowed(problem: str) -> str:
    """The keys that there are, where one is unknown."""
    tables: dict[str, type[msgspec.Struct]] = {"`$.columns`": Columns, "`$.constants`": Constants}
    if "unknown field" not in problem:
        return ""
    table = next((kind for place, kind in tables.items() if place in problem), Mapping)
    return f", one of {', '.join(table.__struct_fields__)}"


def _check(mapping: Mapping, file: Path) -> None:
    if mapping.time in UNITS_MS and mapping.time in ("h", "d") and mapping.start is None:
        fail(file, f"expected `start` beside time = {mapping.time!r}, got none", f"say when 0 was; {HELP}")
    if mapping.time not in ("iso", *UNITS_MS) and "%" not in mapping.time:
        fail(
            file,
            f'expected `time` to be "iso", one of {", ".join(UNITS_MS)}, or a format like "%d.%m.%Y %H:%M", got '
            f"{mapping.time!r}",
            f"correct it; {HELP}",
        )
    if mapping.thousands and mapping.thousands == (mapping.decimal or "."):
        fail(file, f"expected other signs for `decimal` and `thousands`, got {mapping.thousands!r} for both", HELP)
    try:
        ZoneInfo(mapping.zone)
    except (KeyError, ValueError, OSError):
        fail(
            file, f'expected `zone` to be a time zone like "Europe/Berlin", got {mapping.zone!r}', f"correct it; {HELP}"
        )
    try:
        datetime.fromisoformat(mapping.start or "2000-01-01")
    except ValueError:
        fail(file, f"expected `start` to be a day like 2017-12-01 or an ISO 8601 time, got {mapping.start!r}", HELP)
    words = [word.lower() for word in (*mapping.fraud, *mapping.honest, *mapping.unknown)]
    if twice := sorted({word for word in words if words.count(word) > 1}):
        fail(file, f"expected each label word once in `fraud`, `honest` and `unknown`, got {twice[0]!r} twice", HELP)


def to_toml(keys: dict[str, Any], data: str) -> str:
    """A mapping file with these keys."""
    lines = [f"data = {_value(data)}"]
    tables = {key: value for key, value in keys.items() if isinstance(value, dict)}
    lines += [f"{key} = {_value(value)}" for key, value in keys.items() if key not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
