"""The shared small model."""

from tests.fixtures_model import artifact_folder, log

__all__ = ["artifact_folder", "log"]
