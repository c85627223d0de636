"""What `panther models train` is asked for, as training takes it: version number, config and log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from panther_core.artifact import MANIFEST
from panther_core.base.errors import BadInput
from panther_core.data.formats import read_table
from panther_core.data.generator import PROFILE, GeneratorConfig, generate
from panther_core.data.schema import ProfileField
from panther_core.data.table import TransactionTable
from trainer.fit.train_config import TrainConfig, from_file, lost, preset

GENERATOR = "generator"


class LogPart(NamedTuple):
    """Which part of a log to read: from day `start`, to before day `end`, at most `limit` rows; None: no bound."""

    start: str | None = None
    end: str | None = None
    limit: int | None = None


def version_for(out: Path, version: int | None, overwrite: bool) -> int:
    """Number of the version to write into `out`: `version`, else the folder's name, else 1.

    Raises BadInput where the folder holds a version already, unless it may be overwritten.
    """
    if (out / MANIFEST).exists() and not overwrite:
        raise BadInput(f"expected a new folder, got {out}, which holds a version: give another --out, or --overwrite")
    return version or (int(out.name) if out.name.isdecimal() and int(out.name) else 1)


def config_for(name: str, file: Path | None, changes: dict[str, Any], continue_from: Path | None) -> TrainConfig:
    """The preset `name`, changed by a TOML file and then by `changes` (None: no change).

    Raises BadInput, also where a change would have no effect, since `continue_from` decides on model and tokenizer.
    """
    config = preset(name) if file is None else from_file(file, preset(name))
    config = msgspec.structs.replace(config, **{field: value for field, value in changes.items() if value is not None})
    if continue_from is not None and (other := lost(config, preset(name))):
        raise BadInput(f"expected model and tokenizer of {continue_from} to stay, got another {', '.join(other)}")
    return config


def log_for(
    data: str, format: str | None, part: LogPart, generated: Mapping[str, Any]
) -> tuple[TransactionTable, tuple[ProfileField, ...] | None]:
    """The log in the files of `data`, or a log generated with `generated` (fields of GeneratorConfig), with its profile
    fields, which are known of a generated log alone. Raises InvalidFile, and BadInput for a part of a generated log.
    """
    if data != GENERATOR:
        assert format is not None
        return read_table(format, Path(data), start=part.start, end=part.end, limit=part.limit), None
    if unused := [name for name, value in part._asdict().items() if value is not None]:
        raise BadInput(f"expected --{unused[0]} with --data alone: --users and --days say what the generator makes")
    return generate(GeneratorConfig(**generated)), PROFILE
