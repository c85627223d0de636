"""Signatures of model versions in minisign's format (https://jedisct1.github.io/minisign/), Ed25519 over BLAKE2b.

Signed are the bytes of the manifest, which has the sha256 of each other file. What `sign` writes the tool reads
(`minisign -V -p KEY.pub -m FOLDER/manifest.json`), and what is read here the tool may have written (`minisign -S -s KEY
-m FOLDER/manifest.json`).
"""

from __future__ import annotations

import base64
import os
import stat
import tempfile
import time
from pathlib import Path

import minisign

from panther_core.artifact import MANIFEST, SIGNATURE, Manifest, copy_files, read_manifest, read_signature
from panther_core.base.errors import InvalidFile, SignatureRefused
from panther_core.base.files import written_whole
from panther_core.serving_model import ServingModel, load_serving_model

_LARGEST_KEY = 4096  # bytes; a key file has about 200


def sign(folder: Path, key: Path) -> Path:
    """Sign the version in `folder` with the private key in the file `key`; returns the signature's file.

    Raises ArtifactError for a damaged version; InvalidFile for a key that others may read, that has a password, or that
    is none.
    """
    content, manifest = read_manifest(folder)
    comment = f"timestamp:{int(time.time())}\tfile:{MANIFEST}\tversion:{manifest.version}"
    with _private_key(key) as secret:
        signature = secret.sign(content, trusted_comment=comment)
    with written_whole(folder / SIGNATURE) as part:
        part.write_bytes(bytes(signature) + b"\n")
    return folder / SIGNATURE


def check_key(key: Path, public_key: Path | None) -> None:
    """Return if the private key in the file `key` can sign, and `public_key` is the one that belongs to it.

    None: of any. Raises InvalidFile.
    """
    with _private_key(key) as secret:
        own = secret.get_public_key()
    if public_key is not None and own != (wanted := read_public_key(public_key)):
        raise InvalidFile(
            f"expected the private key of the key {_key_id(wanted)} in {public_key}, got that of {_key_id(own)} in "
            f"{key}: what it signs would be refused; name the other one, or correct PANTHER_MODELS_KEY"
        )


def signed_manifest(folder: Path, public_key: Path, said: Path | None = None) -> Manifest:
    """The manifest of the version in `folder`, every file's checksum verified, if the holder of the key signed it.

    `said`: the folder that an error names, where another one than that which is read. Raises SignatureRefused, and as
    panther_core.artifact.load_manifest; InvalidFile where the key cannot be read.
    """
    key, where = read_public_key(public_key), (said or folder) / MANIFEST
    content, manifest = read_manifest(folder)
    found, wanted = read_signature(folder), f"expected {where} to be signed by the key {_key_id(key)} in {public_key}"
    if found is None:
        raise SignatureRefused(
            f"{wanted}, found no {SIGNATURE} beside it: `panther models sign {where.parent} --key FILE`"
        )
    try:
        signature = minisign.Signature.from_bytes(found)
    except minisign.ParseError as error:
        raise SignatureRefused(f"{wanted}, got a file that is no signature ({error}): sign the version anew") from None
    if _key_id(signature) != _key_id(key):
        raise SignatureRefused(
            f"{wanted}, got a signature by the key {_key_id(signature)}: ask whoever made the version, or "
            "name that key's file if you trust it"
        )
    try:
        key.verify(content, signature)
    except minisign.VerifyError:
        raise SignatureRefused(
            f"{wanted}, got a signature of something else: the manifest, or the signature, was changed afterwards; "
            "take the version from where it was trained"
        ) from None
    return manifest


def load_signed(folder: Path, public_key: Path) -> ServingModel:
    """`load_serving_model` of a version that the holder of the key signed. Raises as signed_manifest, and OSError.

    What is checked and read is a private copy, so that nobody changes a file between the two.
    """
    with tempfile.TemporaryDirectory(prefix="panther-") as aside:
        copy = Path(aside) / "artifact"
        copy_files(folder, copy)
        signed_manifest(copy, public_key, said=folder)
        return load_serving_model(copy)


def read_public_key(path: Path) -> minisign.PublicKey:
    """The public key in a file that `minisign -G` wrote. Raises InvalidFile."""
    try:
        with path.open("rb") as file:
            return minisign.PublicKey.from_bytes(file.read(_LARGEST_KEY))
    except (OSError, minisign.ParseError) as error:
        raise InvalidFile(
            f"expected a public key of minisign in {path}, got {error}: `minisign -G` writes it beside the private "
            "one; correct --public-key or PANTHER_MODELS_KEY"
        ) from None


def _private_key(path: Path) -> minisign.SecretKey:
    wanted = f"expected a private key of minisign without a password in {path}"
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise InvalidFile(
                    f"expected a private key that its owner alone may read, got mode {mode:04o} of {path}: chmod 600 "
                    "it, and make a new key if somebody else may have read this one"
                )
            key = minisign.SecretKey.from_bytes(file.read(_LARGEST_KEY))
    except OSError as error:
        raise InvalidFile(f"{wanted}, got {error.strerror}: `minisign -G -W` makes one") from None
    except minisign.ParseError:  # its text may hold a part of the file
        raise InvalidFile(f"{wanted}, got something else: `minisign -G -W` makes one") from None
    if key.is_encrypted():
        raise InvalidFile(
            f"{wanted}, got one with a password: sign with `minisign -S`, which asks for it, or make a key with "
            "`minisign -G -W`"
        )
    return key


def _key_id(of: minisign.PublicKey | minisign.Signature) -> str:
    """As minisign prints it: the eight bytes after the algorithm, the last one first."""
    return base64.b64decode(bytes(of).splitlines()[1])[2:10][::-1].hex().upper()
