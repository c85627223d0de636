"""Triton's key: where it comes from, and that it is shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from panther_core.base.errors import BadInput
from panther_core.base.settings import PantherSettings

HEADER = "triton-grpc-protocol-panther-key"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRITON_KEY", "PANTHER_TRITON_KEY", "TRITON_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PANTHER_TRITON_KEY_FILE", str(tmp_path / "key"))


@pytest.mark.parametrize("variable", ["TRITON_KEY", "PANTHER_TRITON_KEY"])
def test_the_key_of_the_environment_comes_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    assert PantherSettings().triton_headers is None, "a foreign server asks for none"
    (tmp_path / "key").write_text("from the file\n")
    assert PantherSettings().triton_headers == {HEADER: "from the file"}
    monkeypatch.setenv(variable, "from the environment")
    settings = PantherSettings()
    assert settings.triton_headers == {HEADER: "from the environment"}
    assert "from the environment" not in f"{settings!r}{settings}{settings.model_dump_json()}"


def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(BadInput, match="PANTHER_TRITON_KEY"):
        _ = PantherSettings().triton_headers
