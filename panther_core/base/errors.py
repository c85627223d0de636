"""Errors of the project, as a tree with a branch for each way in which a caller reacts.

PantherError
├── BadInput            the caller's data is wrong: fix the record, the file or the option
│   ├── InvalidEvent    a record cannot be scored: it goes to the dead-letter topic, the stream goes on
│   └── InvalidFile     a file cannot be read: the message names the place and the remedy
├── ArtifactError       a model artifact cannot be used: retrain, or point at another version
│   ├── FingerprintMismatch   artifact and state (or tokenizer) were made for different schemas
│   └── SignatureRefused      nobody whose key counts has signed the version as it is
├── KafkaUnavailable    no broker answers: start it or correct the address, then try again
└── ScorerUnavailable   the model server did not answer in time: degrade, retry at the next event
"""

from __future__ import annotations


class PantherError(Exception):
    """Base of every error that this project raises on purpose."""


class BadInput(PantherError):
    """The caller's data is wrong; the message says what was expected, what came and where."""


class InvalidEvent(BadInput):
    """One record cannot be scored. `code` is the dead-letter reason, a stable word for dashboards."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidFile(BadInput):
    """A data file cannot be read in the format that the caller named."""


class ArtifactError(PantherError):
    """A model artifact is missing, damaged or incompatible."""


class FingerprintMismatch(ArtifactError):
    """Two artifacts, or an artifact and the stored state, were made for different schemas."""


class SignatureRefused(ArtifactError):
    """A version without a valid signature by the key that is asked for; it may be no one's, or somebody else's."""


class KafkaUnavailable(PantherError):
    """No broker answered; the message names the bootstrap servers that were asked."""


class ScorerUnavailable(PantherError):
    """The scorer did not answer in time; the caller goes one step down the degrade ladder."""
