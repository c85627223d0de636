"""Model versions into and out of a Triton server: export to its repository, explicit load, canary, unload."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from panther_core.artifact import MANIFEST, Manifest, copy_files, load_manifest, load_vocabulary, read_json
from panther_core.base.errors import ArtifactError, PantherError
from panther_core.base.files import written_whole
from panther_core.base.odds import sigmoid
from panther_core.base.settings import PantherSettings
from panther_core.serving_model import load_serving_model
from panther_core.signature import signed_manifest

MODELS = ("panther_encode", "panther_score", "panther_explain")
GPU_MODELS = ("panther_encode", "panther_score")  # panther_explain runs for alerts only, which a CPU can do
#: the header with Triton's key (PantherSettings.triton_headers); None for a server that asks for none
Key = Mapping[str, str] | None
TEMPLATES = Path(__file__).resolve().parents[2] / "triton_models"
_LOAD_S, _CANARY_S = 300.0, 30.0


class DeployError(PantherError):
    """The server did not take the version into service; the versions it served before are not touched."""


def install(settings: PantherSettings, repository: Path, artifact: Path) -> tuple[Manifest, float]:
    """Export a version and load it; it answers on every server when this returns. Also the seconds of the loads.

    Where that fails, the folders that this call has made are removed, or the next load would find a version that
    cannot be loaded; a version that was there before stays. Raises ArtifactError (SignatureRefused where
    `settings.models_key` is set), DeployError.
    """
    manifest, made = trusted_manifest(settings, artifact), list[Path]()
    try:
        export(artifact, repository, settings.device, made, settings.models_key)
        return manifest, load(settings.triton_url, manifest, settings.triton_headers)
    except BaseException:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def trusted_manifest(settings: PantherSettings, artifact: Path) -> Manifest:
    """The manifest of a version that may be loaded and go live. Raises ArtifactError; SignatureRefused where
    `settings.models_key` is set and its holder has not signed the version."""
    return load_manifest(artifact) if settings.models_key is None else signed_manifest(artifact, settings.models_key)


def export(
    artifact: Path,
    repository: Path,
    device: str = "cpu",
    made: list[Path] | None = None,
    models_key: Path | None = None,
) -> int:
    """Put the artifact's version into the model repository, each folder whole or not at all; returns the version.

    `device`: cuda for a server with GPUs, which then runs an instance of encoder and scorer on each of them. `made`
    gets the folders that were not there before. `models_key`: public key of whoever must have signed the version; what
    is checked is what Triton gets. Raises ArtifactError for a damaged artifact, and for a version that the repository
    holds with other content, since a version never changes; SignatureRefused.
    """
    manifest = load_manifest(artifact) if models_key is None else signed_manifest(artifact, models_key)
    load_serving_model(artifact)
    load_vocabulary(artifact)
    for model in MODELS:
        home = repository / model
        home.mkdir(parents=True, exist_ok=True)
        _write_atomically(_config(model, device), home / "config.pbtxt")
        target = home / str(manifest.version)
        if target.exists():
            if load_manifest(target / "artifact") != manifest:
                raise ArtifactError(
                    f"expected a new version number, got {manifest.version}, which {target} holds with other content: "
                    "train under another --version"
                )
            continue
        part = home / f".{manifest.version}.part"  # Triton reads folders with numbers for names only
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        shutil.copy2(TEMPLATES / model / "model.py", part / "model.py")
        # A file where Python would put its bytecode, so that it writes none: a folder that changed after its load is
        # reloaded with the next version, and Triton aborts when a request is under way in the one it replaces.
        (part / "__pycache__").touch()
        copy_files(artifact, part / "artifact")
        if models_key is not None:
            signed_manifest(part / "artifact", models_key, said=artifact)
        part.rename(target)
        if made is not None:
            made.append(target)
    return manifest.version


def load(triton_url: str, manifest: Manifest, key: Key = None, deadline_s: float = _LOAD_S) -> float:
    """Load the exported version beside those that serve; returns the seconds it took. Raises DeployError.

    `triton_url`: host:port of every server over the repository, comma separated, here and below. A server warms the
    version up while it loads. Triton's "ready" does not say that a model can infer, so a test request decides.
    """
    started = time.perf_counter()
    for url in _each(triton_url):
        wanted = f"version {manifest.version} to load and answer (if not, the versions before it go on serving)"
        with _client(url, wanted) as client:
            for model in MODELS:
                client.load_model(model, headers=key, client_timeout=deadline_s)
            _canary(client, manifest)
    return time.perf_counter() - started


def check_loaded(triton_url: str, repository: Path, manifest: Manifest) -> None:
    """Return if this version answers on every server, and not another one of its number (where the repository is on
    this machine). Raises ArtifactError, DeployError."""
    for model in MODELS:
        held = repository / model / str(manifest.version) / "artifact"
        if (held / MANIFEST).exists() and read_json(held, MANIFEST, Manifest) != manifest:
            raise ArtifactError(
                f"expected version {manifest.version} as it is loaded from {held}, got other content: its scores would "
                "be read by another vocabulary and threshold; train under another --version, or name the other folder"
            )
    check_serves(triton_url, manifest)


def check_serves(triton_url: str, manifest: Manifest) -> None:
    """Return if the version answers on every server. Raises DeployError."""
    for url in _each(triton_url):
        with _client(url, f"version {manifest.version} to answer (load it first)") as client:
            _canary(client, manifest)


def latencies_ms(triton_url: str, *versions: Manifest, rounds: int = 40) -> list[float]:
    """Median round trip of a batch of 64 made-up rows through every model of each loaded version, on the slowest
    server. The versions take turns, so that what else the machine does meets all of them. Raises DeployError.
    """
    slowest = [0.0] * len(versions)
    for url in _each(triton_url):
        with _client(url, f"versions {[v.version for v in versions]} to answer (load them first)") as client:
            times = np.zeros((rounds, len(versions)))
            for turn, of in np.ndindex(times.shape):
                started = time.perf_counter()
                _canary(client, versions[of], rows=64)
                times[turn, of] = 1000 * (time.perf_counter() - started)
        slowest = [max(pair) for pair in zip(slowest, np.median(times, axis=0).tolist(), strict=True)]
    return slowest


def warm(triton_url: str, manifest: Manifest, seconds: float = 5.0) -> dict[str, list[float]]:
    """Send made-up batches through every model of the version; ms of the first and of the last round, by server.

    Loading has warmed the compiled kernels already; these batches fill memory pools and thread pools before traffic
    comes. All rows are of one made-up user, whose slab in the cache is the only trace. Raises DeployError.
    """
    out: dict[str, list[float]] = {}
    for url in _each(triton_url):
        with _client(url, f"version {manifest.version} to answer (load it first)") as client:
            times: list[float] = []
            end = time.monotonic() + seconds
            while len(times) < 2 or time.monotonic() < end:
                started = time.perf_counter()
                _canary(client, manifest, rows=64)
                times.append(1000 * (time.perf_counter() - started))
        out[url] = [round(times[0], 2), round(times[-1], 2)]
    return out


def served(triton_url: str, key: Key = None) -> dict[str, list[int]]:
    """Versions that every server has in service, by model. Raises DeployError."""
    found: list[set[tuple[str, int]]] = []
    for url in _each(triton_url):
        with _client(url, "a list of models") as client:
            index = client.get_model_repository_index(headers=key).models
            found.append({(e.name, int(e.version)) for e in index if e.name in MODELS and e.state == "READY"})
    common = set.intersection(*found)
    return {model: sorted(version for name, version in common if name == model) for model in MODELS}


def unload(triton_url: str, repository: Path, version: int, key: Key = None) -> None:
    """Take a version out of the repository and out of service; others go on serving. Raises DeployError."""
    for model in MODELS:
        folder = repository / model / str(version)
        if folder.exists():
            trash = folder.with_name(f".{version}.removed")
            shutil.rmtree(trash, ignore_errors=True)  # of an unload that was cut off
            folder.rename(trash)
            shutil.rmtree(trash)
    for url in _each(triton_url):
        with _client(url, f"version {version} to be unloaded") as client:
            for model in MODELS:
                home = repository / model
                if home.is_dir() and any(is_version(path.name) for path in home.iterdir()):
                    # on a load the server compares the folder with what it serves, and drops versions that are gone
                    client.load_model(model, headers=key, client_timeout=_LOAD_S)
                else:
                    client.unload_model(model, headers=key)


def is_version(name: str) -> bool:
    """Whether a folder's name is a version number as Triton reads it."""
    return name.isascii() and name.isdigit()


def _each(triton_url: str) -> list[str]:
    return [url.strip() for url in triton_url.split(",")]


@contextmanager
def _client(url: str, wanted: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(url) as client:
        try:
            yield client
        except InferenceServerException as error:
            locked = "is restricted" in str(error)
            hint = "set PANTHER_TRITON_KEY or PANTHER_TRITON_KEY_FILE" if locked else "see the server's log"
            raise DeployError(f"expected {wanted} at {url}, got {error}: {hint}") from None


def _canary(client: triton.InferenceServerClient, manifest: Manifest, rows: int = 1) -> None:
    """Ask all models of this version about made-up rows of one user without a history. Raises DeployError."""
    one, profile = np.ones(rows, np.uint64), np.zeros((rows, 8), np.uint8)
    length = np.ones(rows, np.int32)
    codes = np.zeros((rows, manifest.context_length), np.uint64)
    codes[:, 0] = 1
    encoded = _infer(
        client, manifest, "panther_encode", user=one, codes=codes, length=length, window_hash=one, profile=profile
    )
    cached = encoded.as_numpy("cached")
    if cached is None:
        raise DeployError(f"expected cached outputs from panther_encode version {manifest.version}, got none")
    features = np.zeros((rows, len(manifest.feature_names)), np.float32)
    recent = np.zeros((rows, 3), np.uint64)
    row = {"features": features, "code": one, "recent": recent, "profile": profile, "cached": cached}
    score = _infer(client, manifest, "panther_score", **row, history_len=length).as_numpy("score")
    logit = _infer(client, manifest, "panther_explain", **row, history_len=length).as_numpy("logit")
    shape = (rows, manifest.cached_width)
    if score is None or logit is None or len(score) != rows or len(logit) != rows:
        raise DeployError(f"expected answers for {rows} rows from version {manifest.version}, got incomplete ones")
    explained = sigmoid(logit.astype(np.float64))
    if cached.shape != shape or not (0 <= score[0] <= 1) or np.abs(score - explained).max() > 1e-3:
        raise DeployError(
            f"expected cached outputs of shape {shape}, and the same scores in 0..1 from panther_score "
            f"and panther_explain version {manifest.version}, got shape {cached.shape} and scores {score[:3]} and "
            f"{explained[:3]}: the repository holds another artifact"
        )


def _infer(
    client: triton.InferenceServerClient, manifest: Manifest, model: str, **tensors: np.ndarray
) -> triton.InferResult:
    inputs = []
    for name, tensor in tensors.items():
        inputs.append(triton.InferInput(name, tensor.shape, np_to_triton_dtype(tensor.dtype)))
        inputs[-1].set_data_from_numpy(tensor)
    return client.infer(model, inputs, model_version=str(manifest.version), client_timeout=_CANARY_S)


def _config(model: str, device: str) -> bytes:
    config = (TEMPLATES / model / "config.pbtxt").read_bytes()
    return config.replace(b"KIND_CPU", b"KIND_GPU") if device == "cuda" and model in GPU_MODELS else config


def _write_atomically(content: bytes, target: Path) -> None:
    if target.exists() and target.read_bytes() == content:
        return  # an unchanged config keeps its time stamp: Triton would reload every version
    with written_whole(target) as part:
        part.write_bytes(content)
