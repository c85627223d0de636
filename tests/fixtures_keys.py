"""A pair of keys as `minisign -G -W` makes them, for tests of signatures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import minisign


class Keys(NamedTuple):
    """The files of a pair of keys."""

    private: Path
    public: Path


def make_keys(folder: Path) -> Keys:
    """Write a pair of keys into a folder, which is made."""
    folder.mkdir(parents=True)
    pair, keys = minisign.KeyPair.generate(), Keys(folder / "models.key", folder / "models.pub")
    keys.private.touch(mode=0o600)
    keys.private.write_bytes(bytes(pair.secret_key))
    keys.public.write_bytes(bytes(pair.public_key))
    return keys
