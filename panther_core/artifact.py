"""A model version on disk: a folder of JSON and safetensors, read without unpickling anything and without torch.

manifest.json              everything about the version, and the sha256 of each file below but the last two
schema.json                AttributeSchema
vocabulary.json            Vocabulary
model.safetensors          encoder and fraud head (panther_core.model)
blend.json                 heads that are served beside the fraud head, and their weights (panther_core.model.blend)
boosting*.txt              gradient boosting of the blend, in LightGBM's text format
rules.safetensors          RuleModel
merchant_risk.safetensors  MerchantRisk
pretrain.csv               losses and validation figures by epoch
tokenizer.json             the tokens by name (panther_core.data.token_report), for people
tokenizer_report.json      what the tokens cover, for people
report.json                figures of the training (trainer.report)
reference.json             what the training saw, for `panther drift` (trainer.drift.reference)
report.html                page drawn from report.json
manifest.json.minisig      signature of the manifest (panther_core.signature)

An artifact may come from elsewhere, so it is read as foreign. A manifest can list these names and no others: no path
leads out of the folder, and no file of another kind (code, a configuration of the server) comes along when the artifact
is copied. Links, devices and pipes are refused, numbers have ranges, and tensors have shapes. Whatever is wrong is an
ArtifactError.

Over 300 lines, because every check of a folder that came from elsewhere stands here.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from panther_core.base.errors import ArtifactError, BadInput, FingerprintMismatch, InvalidFile
from panther_core.base.files import regular_file, written_whole
from panther_core.base.ranges import Range, check_ranges
from panther_core.data.events import MAX_TIME_MS
from panther_core.data.merchant_risk import MerchantRisk
from panther_core.data.schema import AttributeSchema
from panther_core.data.token_report import REPORT, TOKENIZER
from panther_core.data.vocabulary import Vocabulary, radix_of
from panther_core.decide.rules import RuleModel
from panther_core.decide.scoring import SURPRISE
from panther_core.model_config import ModelConfig
from panther_core.state.features import NAMES, WIDTH

MANIFEST, WEIGHTS, CURVE = "manifest.json", "model.safetensors", "pretrain.csv"
RUN_REPORT, PAGE, REFERENCE = "report.json", "report.html", "reference.json"
SIGNATURE = f"{MANIFEST}.minisig"
_SCHEMA, _VOCABULARY = "schema.json", "vocabulary.json"
_RULES, _RISK = "rules.safetensors", "merchant_risk.safetensors"
NEEDED = (_SCHEMA, _VOCABULARY, WEIGHTS, _RULES, _RISK)
BLEND = "blend.json"
#: of the blend's boosted heads, by name
BOOSTED = {
    "boosting": "boosting.txt",
    "boosting+panther": "boosting_panther.txt",
}
_OPTIONAL = (BLEND, *BOOSTED.values(), TOKENIZER, REPORT, CURVE, RUN_REPORT, REFERENCE)
KNOWN = frozenset((*NEEDED, *_OPTIONAL))
_LARGEST = 4 << 30  # bytes of a file; the widest model that ModelConfig allows has 1.6 GB of weights
_BLOCK = 1 << 20
_LARGEST_READ = 256 << 20  # bytes of a file that is read whole
_LARGEST_SIGNATURE = 4096  # bytes; one of ours has 330
_LONGEST = 128  # characters of a word in the manifest
T = TypeVar("T")
Tensors = dict[str, np.ndarray[Any, Any]]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model version is. Times are epoch ms; `data_window` is the first and last event time of the training
    log. Raises BadInput for a value out of range."""

    name: str
    version: Annotated[int, Range(1, 2**32 - 1)]
    created_at: Annotated[int, Range(0, MAX_TIME_MS)]
    config: ModelConfig
    context_length: int
    cached_width: Annotated[int, Range(1, 1 << 16)]
    feature_names: tuple[str, ...]
    typical_surprise: tuple[float, ...]
    """Mean surprise of each attribute (scoring.SURPRISE) on legitimate events, nats. A reason says how far an event's
    surprise lies above this mean."""
    threshold: Annotated[float, Range(0, 1.01)]
    """A score from here on alerts. Just above 1 where training found scores of 1 beyond the alert budget."""
    alert_budget: Annotated[float, Range(0, 1)]
    """Share of transactions that the threshold was set to alert on."""
    merchant_threshold: Annotated[float, Range(-100, 100)] | None = None
    """Log odds of an episode of compromise from which on a merchant is an alert; None: of no merchant."""
    schema_fingerprint: str
    tokenizer_version: str
    vocabulary_size: Annotated[int, Range(1, 2**31 - 1)]
    coverage: Annotated[float, Range(0, 1)]
    """Share of training events whose combination is in the vocabulary."""
    metrics: dict[str, Any]
    data_window: tuple[int, int]
    fitted_until: Annotated[int, Range(0, MAX_TIME_MS)] = 0
    """Event time from which on the training measured and fitted nothing; 0 in a version of before this field. Earlier
    transactions are no test of the model: `seen_until`."""
    seed: Annotated[int, Range(0, 2**64 - 1)]
    code_version: str
    files: dict[str, str] = {}
    """sha256 of each other file, hex."""

    @property
    def seen_until(self) -> int:
        """Epoch ms before which the model knows the transactions, or may know them, from its training."""
        return self.fitted_until or self.data_window[1] + 1

    @property
    def content(self) -> str:
        """One checksum of all files, hex."""
        return hashlib.sha256(msgspec.json.encode(sorted(self.files.items()))).hexdigest()

    def __post_init__(self) -> None:
        check_ranges(self, "the manifest")
        for name in ("name", "schema_fingerprint", "tokenizer_version", "code_version"):
            word = getattr(self, name)
            if not (word and len(word) <= _LONGEST and word.isprintable()):
                raise BadInput(f"expected {name} of 1 to {_LONGEST} printable characters, got {word[:40]!r}")
        if len(self.typical_surprise) != len(SURPRISE) or not all(map(math.isfinite, self.typical_surprise)):
            raise BadInput(f"expected {len(SURPRISE)} numbers of typical_surprise, got {self.typical_surprise[:9]}")
        begin, end = self.data_window
        if not -MAX_TIME_MS <= begin <= end <= MAX_TIME_MS:
            raise BadInput(
                "expected a data_window from the first to the last event time in epoch ms, got other numbers"
            )


def save(
    folder: Path,
    manifest: Manifest,
    schema: AttributeSchema,
    vocabulary: Vocabulary,
    rules: RuleModel,
    risk: MerchantRisk,
) -> Manifest:
    """Write schema, vocabulary, rules, merchant risks and, last, the manifest, which is returned with checksums.

    The weights must lie in `folder` already, and so must pretrain.csv and the reports to be checksummed.
    """
    _write(folder / _SCHEMA, msgspec.json.encode(schema))
    _write(folder / _VOCABULARY, msgspec.json.encode(vocabulary))
    with written_whole(folder / _RULES) as part:
        bias = np.array([rules.bias], np.float64)
        save_file({"mean": rules.mean, "std": rules.std, "weight": rules.weight, "bias": bias}, part)
    with written_whole(folder / _RISK) as part:
        save_file({"merchant": risk.merchant, "levels": risk.levels, "rate": risk.rate}, part)
    names = [*NEEDED, *(name for name in _OPTIONAL if (folder / name).exists())]
    files = {name: sha256(folder / name) for name in names}
    manifest = msgspec.structs.replace(manifest, files=files)
    _write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return manifest


def load_manifest(folder: Path) -> Manifest:
    """Manifest of the artifact in `folder`, every file's checksum verified.

    Raises ArtifactError (missing or damaged) and FingerprintMismatch (made for other context features).
    """
    return read_manifest(folder)[1]


def read_manifest(folder: Path) -> tuple[bytes, Manifest]:
    """The manifest as its bytes, which a signature is of, and read from these very bytes. Raises as load_manifest."""
    content = _read(folder / MANIFEST)
    manifest = _decoded(content, folder / MANIFEST, Manifest)
    told = manifest.context_length, manifest.cached_width
    if told != (manifest.config.length, manifest.config.cached_width):
        raise _refused(f"context_length and cached_width of its config, got {told}", folder / MANIFEST)
    if wrong := (manifest.files.keys() - KNOWN) | (set(NEEDED) - manifest.files.keys()):
        raise ArtifactError(
            f"expected the files {', '.join(NEEDED)} in {folder / MANIFEST} (and {', '.join(sorted(KNOWN - {*NEEDED}))}"
            f"), got a list with or without {min(wrong)[:80]!r}: take the artifact from where it was trained"
        )
    for name, expected in manifest.files.items():
        _compare(sha256(folder / name), expected, folder, name)
    if manifest.feature_names != NAMES:
        differing = sorted(set(manifest.feature_names) ^ set(NAMES))[:5] or "their order"
        raise FingerprintMismatch(
            f"expected a model for this code's {len(NAMES)} context features, got one for "
            f"{len(manifest.feature_names)} in {folder} (differing: {differing}): "
            f"use the code version {manifest.code_version} or train anew"
        )
    return content, manifest


def read_signature(folder: Path) -> bytes | None:
    """The manifest's signature, unchecked; None where there is none. Raises ArtifactError."""
    path = folder / SIGNATURE
    return b"".join(_blocks(path, _LARGEST_SIGNATURE)) if os.path.lexists(path) else None


def load_schema(folder: Path) -> AttributeSchema:
    """Attribute schema of the artifact. Raises ArtifactError, FingerprintMismatch."""
    schema = _json(folder / _SCHEMA, AttributeSchema)
    if problem := schema.problem():
        raise _refused(problem, folder / _SCHEMA)
    expected = _json(folder / MANIFEST, Manifest).schema_fingerprint
    if schema.fingerprint != expected:
        raise FingerprintMismatch(
            f"expected schema {expected[:12]}, got {schema.fingerprint[:12]} in {folder / _SCHEMA}: "
            "the folder mixes two artifacts; copy it again"
        )
    return schema


def load_vocabulary(folder: Path) -> Vocabulary:
    """Vocabulary of the artifact. Raises ArtifactError."""
    vocabulary = _json(folder / _VOCABULARY, Vocabulary)
    if problem := vocabulary.problem(radix_of(load_schema(folder))):
        raise _refused(problem, folder / _VOCABULARY)
    return vocabulary


def load_rules(folder: Path) -> RuleModel:
    """Rule model of the artifact. Raises ArtifactError."""
    path, wide = folder / _RULES, (WIDTH,)
    found = _tensors(path, {"mean": ("f4", wide), "std": ("f4", wide), "weight": ("f4", wide), "bias": ("f8", (1,))})
    if not all(np.isfinite(tensor).all() for tensor in found.values()) or not (found["std"] > 0).all():
        raise _refused("finite numbers, and deviations above 0, got others", path)
    return RuleModel(found["mean"], found["std"], found["weight"], float(found["bias"][0]))


def read_json(folder: Path, name: str, kind: type[T]) -> T:
    """A JSON file of the artifact as a `kind`. Raises ArtifactError."""
    return _json(folder / name, kind)


def read_text(folder: Path, name: str) -> str:
    """A text file of the artifact. Raises ArtifactError."""
    try:
        return _read(folder / name).decode("ascii")
    except UnicodeDecodeError as error:
        raise _refused(f"plain text, got {error}", folder / name) from None


def load_merchant_risk(folder: Path) -> MerchantRisk:
    """Merchant risk table of the artifact. Raises ArtifactError."""
    path, levels = folder / _RISK, load_schema(folder).risk_levels
    found = _tensors(path, {"merchant": ("u8", ()), "levels": ("u1", ()), "rate": ("f4", ())})
    if len({len(tensor) for tensor in found.values()}) > 1 or not np.isfinite(found["rate"]).all():
        raise _refused("a level and a finite rate for each merchant, got others", path)
    if (found["merchant"][1:] <= found["merchant"][:-1]).any():
        raise _refused("ascending merchants, got others", path)
    if ((found["levels"] < 1) | (found["levels"] > levels)).any():
        raise _refused(f"levels from 1 to {levels}, got others", path)
    return MerchantRisk(**found)


def copy_files(folder: Path, target: Path) -> None:
    """Copy an artifact's manifest, its signature where there is one, and the files in it into the new folder `target`;
    each copy is compared with the manifest.

    Copies and no hard links: what the server has loaded must not change with the original. Raises ArtifactError, and
    OSError where `target` cannot be written.
    """
    content, manifest = read_manifest(folder)
    signature = read_signature(folder)
    target.mkdir()
    for name, expected in manifest.files.items():
        digest = hashlib.sha256()
        with (target / name).open("xb") as copy:
            for block in _blocks(folder / name):
                digest.update(block)
                copy.write(block)
        _compare(digest.hexdigest(), expected, folder, name)
    if signature is not None:
        (target / SIGNATURE).write_bytes(signature)
    (target / MANIFEST).write_bytes(content)


def sha256(path: Path) -> str:
    """Checksum of a regular file, hex. Raises ArtifactError when it cannot be read."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
    return digest.hexdigest()


def _compare(got: str, expected: str, folder: Path, name: str) -> None:
    if got != expected:
        raise ArtifactError(
            f"expected sha256 {expected[:12]!r} of {name}, got {got[:12]!r} in {folder}: the file was changed or cut "
            "off after training; copy the artifact again or train anew"
        )


def _refused(problem: str, path: Path) -> ArtifactError:
    """The error for a file that holds something else; `problem`: what was expected, and what came."""
    return ArtifactError(
        f"expected {problem} in {path}: the file is damaged or of another code version; "
        "copy the artifact again or train anew"
    )


def _json(path: Path, kind: type[T]) -> T:
    return _decoded(_read(path), path, kind)


def _decoded(content: bytes, path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except BadInput as error:  # a value that the struct refuses, with its own "expected"
        raise _refused(str(error).removeprefix("expected "), path) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _refused(f"a {kind.__name__}, got {error}", path) from None


def _tensors(path: Path, wanted: dict[str, tuple[str, tuple[int, ...]]]) -> Tensors:
    """The tensors of a file, which must have these names, types and shapes; (): of one dimension, any length."""
    try:
        found: Tensors = load(_read(path))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise _refused(f"tensors {', '.join(wanted)}, got {error}", path) from None
    told = {name: (tensor.dtype.str[1:], tensor.shape) for name, tensor in found.items()}
    shapes = {name: (kind, shape or told.get(name, ("", ()))[1][:1]) for name, (kind, shape) in wanted.items()}
    if told != shapes:
        raise _refused(f"tensors {shapes}, got {dict(list(told.items())[:9])}", path)
    return found


def _read(path: Path) -> bytes:
    return b"".join(_blocks(path, _LARGEST_READ))


def _write(path: Path, content: bytes) -> None:
    with written_whole(path) as part:
        part.write_bytes(content)


def _blocks(path: Path, largest: int = _LARGEST) -> Iterator[bytes]:
    """The bytes of a file of an artifact. Raises ArtifactError for what is no regular file, too large or unreadable."""
    try:
        with regular_file(path, largest) as file:
            while block := file.read(_BLOCK):
                yield block
    except InvalidFile as error:
        raise ArtifactError(f"{error}: point at a folder that `panther models train` wrote") from None
    except OSError as error:
        raise ArtifactError(f"expected to read {path}, got {error.strerror}: see to its disk or share") from None
