"""The broker's jars: named with their sha256 in `jgo.lock.toml`, fetched by jgo, kept in the user's cache.

A start of the broker resolves no dependencies: the lock lists every jar. So a start with a warm cache needs no
network, and no dependency changes its version unless the lock does. `python -m infra.local.jars` rewrites the lock
from `ROOTS`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from infra.local.errors import DownloadError

LOCK_PATH = Path(__file__).with_name("jgo.lock.toml")
# The two are resolved one by one: resolved together, the SLF4J binding pulls kafka-clients down to 3.9.1, and the
# broker dies of NoSuchMethodError. Without a binding the broker logs nothing. Of the binding only its own jar is
# taken: the log4j that it binds to comes with Kafka.
ROOTS = ("org.apache.kafka:kafka_2.13:4.2.0", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3")
_PARALLEL_DOWNLOADS = 8


class LockedJar(NamedTuple):
    """One jar as the lock names it."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def path(self) -> Path:
        """Path of the jar below the cache folder (Maven's layout)."""
        return Path(*self.group.split("."), self.artifact, self.version, f"{self.artifact}-{self.version}.jar")


def default_cache_dir() -> Path:
    """`panther-stream/jars` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "panther-stream" / "jars"


def read_lock(lock_path: Path = LOCK_PATH) -> list[LockedJar]:
    """The jars of a lock; raises DownloadError when the file is unreadable or an entry lacks its sha256."""
    try:
        entries = tomllib.loads(lock_path.read_text())["dependencies"]
        return [LockedJar(e["groupId"], e["artifactId"], e["version"], e["sha256"]) for e in entries]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DownloadError(
            f"{lock_path}: expected [[dependencies]] with groupId, artifactId, version and sha256, "
            f"but {error!r}; restore the file from version control or rewrite it: python -m infra.local.jars"
        ) from error


def locked_jars(cache_dir: Path | None = None, lock_path: Path = LOCK_PATH) -> list[Path]:
    """Paths of all jars of the lock, downloaded where missing and each checked against its sha256.

    Raises DownloadError when a jar cannot be fetched or has another sha256 than in the lock.
    """
    cache = cache_dir or default_cache_dir()
    jars = read_lock(lock_path)
    missing = [jar for jar in jars if not (cache / jar.path).exists()]
    if missing:
        _download(missing, cache, lock_path)
    for jar in jars:
        _check(jar, cache / jar.path, lock_path, "delete that file and start again to fetch it anew")
    return [cache / jar.path for jar in jars]


def _download(jars: list[LockedJar], cache: Path, lock_path: Path) -> None:
    """Fetch into a temporary folder of the cache, check, then move: an interrupted run leaves no partial jar."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as staging:
        context = _context(Path(staging))

        def fetch(jar: LockedJar) -> None:
            try:
                component = context.project(jar.group, jar.artifact).at_version(jar.version)
                got: Path = component.artifact().resolve()
            except Exception as error:  # jgo raises RuntimeError, requests and urllib3 raise errors of their own
                raise DownloadError(
                    f"{jar.group}:{jar.artifact}:{jar.version}: expected to fetch it, but {error}; check the "
                    f"network and the repositories of jgo's own config file, then start again"
                ) from error
            _check(jar, got, lock_path, "the repository serves another file than the locked one: do not use it")
            (cache / jar.path).parent.mkdir(parents=True, exist_ok=True)
            got.replace(cache / jar.path)

        with ThreadPoolExecutor(_PARALLEL_DOWNLOADS) as pool:
            list(pool.map(fetch, jars))


def _context(repo_cache: Path) -> Any:
    """jgo's Maven context, with the mirrors of the user's jgo config file where there are any."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext, PythonResolver

    repositories = GlobalSettings.load().repositories
    return MavenContext(PythonResolver(), repo_cache, remote_repos=repositories or None, timeout=60)


def _check(jar: LockedJar, path: Path, lock_path: Path, remedy: str) -> None:
    with path.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != jar.sha256:
        raise DownloadError(f"{path}: expected sha256 {jar.sha256} ({lock_path.name}), got {got}; {remedy}")


def write_lock(lock_path: Path = LOCK_PATH) -> int:
    """Resolve ROOTS anew, write the lock, return the number of jars. Needs the network."""
    import tomli_w

    with tempfile.TemporaryDirectory() as staging:
        context = _context(Path(staging))
        kafka, binding = (context.create_dependency(root) for root in ROOTS)
        inputs, transitive = context.resolver.resolve([kafka])
        entries = []
        for artifact in [d.artifact for d in (*inputs, *transitive, binding)]:
            digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
            entry = {
                "groupId": artifact.groupId,
                "artifactId": artifact.artifactId,
                "version": artifact.version,
            }
            entries.append({**entry, "packaging": "jar", "sha256": digest})
    entries.sort(key=lambda entry: (entry["groupId"], entry["artifactId"]))
    head = "# Written by `python -m infra.local.jars`. Every jar of the local broker; a start uses no other.\n\n"
    lock_path.write_text(head + tomli_w.dumps({"dependencies": entries}))
    return len(entries)


if __name__ == "__main__":
    print(f"{write_lock()} jars -> {LOCK_PATH}")
