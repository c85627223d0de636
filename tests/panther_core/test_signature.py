"""Signed versions: who signed what, and what is refused for which reason, when a version is loaded into Triton too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import minisign
import pytest

from panther_core import artifact
from panther_core.base.errors import ArtifactError, InvalidFile, SignatureRefused
from panther_core.base.settings import PantherSettings
from panther_core.serving_model import load_serving_model
from panther_core.signature import check_key, load_signed, sign, signed_manifest
from tests.fixtures_keys import Keys, make_keys
from trainer.rollout.deploy import MODELS, DeployError, export, install, trusted_manifest


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path / "keys")


@pytest.fixture
def signed(artifact_folder: Path, tmp_path: Path, keys: Keys) -> Path:
    folder = Path(shutil.copytree(artifact_folder, tmp_path / "1"))
    assert sign(folder, keys.private) == folder / artifact.SIGNATURE
    return folder


def rewrite(folder: Path, **changes: object) -> None:
    """Change the manifest, its checksums those of the files as they are."""
    manifest = json.loads((folder / artifact.MANIFEST).read_bytes())
    manifest["files"] = {name: artifact.sha256(folder / name) for name in manifest["files"]}
    (folder / artifact.MANIFEST).write_text(json.dumps(manifest | changes))


def test_what_was_signed_is_taken_as_what_it_is(signed: Path, keys: Keys) -> None:
    assert signed_manifest(signed, keys.public) == artifact.load_manifest(signed)
    model, same = load_signed(signed, keys.public), load_serving_model(signed)
    assert (model.live.version, model.live.threshold) == (same.live.version, same.live.threshold)
    lines = (signed / artifact.SIGNATURE).read_text().splitlines()
    assert lines[2].endswith("file:manifest.json\tversion:1")
    minisign.PublicKey.from_file(keys.public).verify_file(signed / artifact.MANIFEST)  # as the tool does


def test_a_key_is_checked_before_anything_is_signed_with_it(tmp_path: Path, keys: Keys) -> None:
    check_key(keys.private, None)
    check_key(keys.private, keys.public)
    others = make_keys(tmp_path / "others")
    with pytest.raises(InvalidFile, match=r"expected the private key of the key [0-9A-F]{16} in .*, got that of"):
        check_key(others.private, keys.public)
    with pytest.raises(InvalidFile, match="No such file"):
        check_key(tmp_path / "gone", keys.public)
    with pytest.raises(InvalidFile, match="expected a public key"):
        check_key(keys.private, tmp_path / "gone")


def unsigned(folder: Path) -> None:
    (folder / artifact.SIGNATURE).unlink()


def no_signature(folder: Path) -> None:
    (folder / artifact.SIGNATURE).write_text("untrusted comment: none\nRWQ=\n")


def of_another_key(folder: Path) -> None:
    sign(folder, make_keys(folder.parent / "others").private)


def other_threshold(folder: Path) -> None:
    rewrite(folder, threshold=1.0)


def other_file(folder: Path) -> None:
    """As whoever may write to the folder, but has no key, would replace a file."""
    (folder / "pretrain.csv").write_bytes((folder / "pretrain.csv").read_bytes() + b"\n")
    rewrite(folder)


def other_comment(folder: Path) -> None:
    path = folder / artifact.SIGNATURE
    path.write_text(path.read_text().replace("version:1", "version:7"))


REFUSED = [
    (unsigned, r"found no manifest\.json\.minisig"),
    (no_signature, "got a file that is no signature"),
    (of_another_key, "got a signature by the key [0-9A-F]{16}"),
    (other_threshold, "a signature of something else"),
    (other_file, "a signature of something else"),
    (other_comment, "a signature of something else"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_not_as_it_was_signed_is_loaded_nowhere(
    signed: Path, keys: Keys, tmp_path: Path, change: Callable[[Path], None], reason: str
) -> None:
    change(signed)
    settings = PantherSettings(models_key=keys.public, triton_url="127.0.0.1:1")
    for attempt in (
        lambda: install(settings, tmp_path / "repository", signed),
        lambda: trusted_manifest(settings, signed),
        lambda: load_signed(signed, keys.public),
    ):
        with pytest.raises(SignatureRefused, match=reason) as refused:
            attempt()
        assert str(signed) in str(refused.value)
    assert not (tmp_path / "repository").exists()
    assert trusted_manifest(PantherSettings(), signed).version == 1, "where no key is set, nobody is asked"


def test_a_changed_file_is_refused_as_damaged(signed: Path, keys: Keys) -> None:
    (signed / "rules.safetensors").write_bytes(b"others")
    for attempt in (signed_manifest, load_signed):
        with pytest.raises(ArtifactError, match=r"sha256 .* of rules\.safetensors"):
            attempt(signed, keys.public)


def test_what_triton_gets_is_signed_as_it_lies_there(signed: Path, keys: Keys, tmp_path: Path) -> None:
    """The manifest's bytes come along as they are: those of another release of the code are formatted otherwise."""
    manifest = signed / artifact.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_bytes()), indent=7))
    sign(signed, keys.private)
    for _ in range(2):
        export(signed, tmp_path / "repository", models_key=keys.public)
    for model in MODELS:
        inside = tmp_path / "repository" / model / "1" / "artifact"
        assert signed_manifest(inside, keys.public).version == 1
        assert {path.name for path in inside.iterdir()} == {
            *artifact.load_manifest(signed).files,
            artifact.MANIFEST,
            artifact.SIGNATURE,
        }


def test_a_version_changed_between_check_and_copy_does_not_reach_triton(
    signed: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed_meanwhile(folder: Path, target: Path) -> None:
        other_threshold(folder)
        artifact.copy_files(folder, target)

    monkeypatch.setattr("trainer.rollout.deploy.copy_files", changed_meanwhile)
    with pytest.raises(SignatureRefused, match="a signature of something else"):
        export(signed, tmp_path / "repository", models_key=keys.public)
    assert not list((tmp_path / "repository").glob("*/1")), "a folder with a number is what Triton would load"


def test_the_same_files_under_another_manifest_are_another_version(signed: Path, tmp_path: Path) -> None:
    """A repository filled before a key was asked for must not hold another threshold or network than was signed."""
    export(signed, tmp_path / "repository")
    other_threshold(signed)
    with pytest.raises(ArtifactError, match="other content"):
        export(signed, tmp_path / "repository")


def test_a_signature_is_read_as_foreign(signed: Path, keys: Keys, tmp_path: Path) -> None:
    """Also where none is asked for: the file is copied into Triton's repository."""
    path = signed / artifact.SIGNATURE
    for content, reason in ((b"x" * 5000, "at most 4096 bytes"), (None, "a link")):
        path.unlink()
        if content is None:
            path.symlink_to(keys.private)
        else:
            path.write_bytes(content)
        with pytest.raises(ArtifactError, match=reason):
            export(signed, tmp_path / "repository")
        with pytest.raises(ArtifactError, match=reason):
            load_signed(signed, keys.public)


def test_a_signed_version_is_loaded(signed: Path, keys: Keys, tmp_path: Path) -> None:
    """As far as to a server that is not there."""
    with pytest.raises(DeployError):
        install(PantherSettings(models_key=keys.public, triton_url="127.0.0.1:1"), tmp_path / "repository", signed)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_private_key_that_others_may_read_is_not_used(signed: Path, keys: Keys, mode: int) -> None:
    before = (signed / artifact.SIGNATURE).read_bytes()
    keys.private.chmod(mode)
    with pytest.raises(InvalidFile, match=f"got mode {mode:04o} of .*chmod 600"):
        sign(signed, keys.private)
    assert (signed / artifact.SIGNATURE).read_bytes() == before


def test_what_is_no_key_is_refused_and_not_repeated(signed: Path, keys: Keys, tmp_path: Path) -> None:
    secret = keys.private.read_text().splitlines()[1]
    keys.private.write_text(f"untrusted comment: minisign secret key\n{secret[:-9]}\n")
    with pytest.raises(InvalidFile, match="private key of minisign without a password") as refused:
        sign(signed, keys.private)
    assert secret[:20] not in str(refused.value)
    for wrong in (tmp_path / "none", tmp_path, keys.private):
        with pytest.raises(InvalidFile, match="expected a public key of minisign"):
            signed_manifest(signed, wrong)


def test_a_key_with_a_password_is_left_to_the_tool(signed: Path, keys: Keys) -> None:
    secret = minisign.SecretKey.from_file(keys.private)
    secret.encrypt("word", opslimit=2**15, memlimit=2**24)
    keys.private.write_bytes(bytes(secret))
    with pytest.raises(InvalidFile, match="got one with a password: sign with `minisign -S`"):
        sign(signed, keys.private)
