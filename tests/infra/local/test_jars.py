"""The jar lock: every jar is the locked one or the start is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from infra.local.errors import DownloadError
from infra.local.jars import LOCK_PATH, default_cache_dir, locked_jars, read_lock


def _one_jar_cache(tmp_path: Path) -> tuple[Path, Path, Path]:
    """(cache, lock, jar): the paths of a cache, and of a lock that names one small real jar."""
    jar = next(j for j in read_lock() if j.artifact == "slf4j-api")
    real = next(path for path in locked_jars() if path.name == jar.path.name)
    copy = tmp_path / "cache" / jar.path
    copy.parent.mkdir(parents=True)
    shutil.copy(real, copy)
    lock = tmp_path / "jgo.lock.toml"
    lock.write_text(
        f'[[dependencies]]\ngroupId = "{jar.group}"\nartifactId = "{jar.artifact}"\n'
        f'version = "{jar.version}"\nsha256 = "{jar.sha256}"\n'
    )
    return tmp_path / "cache", lock, copy


def test_the_lock_names_each_jar_once_with_a_sha256_and_no_host() -> None:
    jars = read_lock()
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars) > 40
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert "://" not in LOCK_PATH.read_text()
    versions = {jar.artifact: jar.version for jar in jars}
    # The SLF4J binding must not have pulled kafka-clients down to an older version.
    assert versions["kafka_2.13"] == versions["kafka-clients"] == "4.2.0"
    assert versions["log4j-slf4j-impl"] == versions["log4j-core"]


def test_a_corrupted_jar_is_refused_by_name(tmp_path: Path) -> None:
    cache, lock, jar = _one_jar_cache(tmp_path)
    assert locked_jars(cache, lock) == [jar]
    jar.write_bytes(jar.read_bytes()[:-1])
    with pytest.raises(DownloadError, match=r"slf4j-api-.*\.jar: expected sha256 .* got .*delete that file"):
        locked_jars(cache, lock)


def test_a_failed_download_says_which_jar_and_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, lock, jar = _one_jar_cache(tmp_path)
    jar.unlink()
    settings = tmp_path / "jgo.conf"
    settings.write_text("[repositories]\nnowhere = http://127.0.0.1:9\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    with pytest.raises(DownloadError, match=r"slf4j-api:.*expected to fetch it.*check the network"):
        locked_jars(cache, lock)
    assert list(cache.rglob("*.jar")) == []
    assert list(cache.glob(".fetch-*")) == []


def test_an_unreadable_lock_says_how_to_get_it_back(tmp_path: Path) -> None:
    lock = tmp_path / "jgo.lock.toml"
    lock.write_text('[[dependencies]]\nartifactId = "a"\n')
    with pytest.raises(DownloadError, match="restore the file from version control"):
        read_lock(lock)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "panther-stream" / "jars"
