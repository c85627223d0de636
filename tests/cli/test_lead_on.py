"""Every command that is not a measurement ends with what comes next, for people and never in JSON."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from panther_core.base.console import lead_on
from tests import ROOT

#: commands that run until they are stopped, or that print a document
_WITHOUT = {"worker", "merchants", "demo", "describe", "chaos", "top"}


def commands(file: Path) -> list[tuple[str, str]]:
    """Names and source of the commands of a file, with the functions that they call in it."""
    source = file.read_text()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    text = {name: ast.get_source_segment(source, node) or "" for name, node in functions.items()}
    return [
        (name, text[name] + "".join(body for other, body in text.items() if f"{other}(" in text[name]))
        for name, node in functions.items()
        if any("command" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]


@pytest.mark.parametrize("file", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_each_command_says_what_comes_next(file: Path) -> None:
    if file.stem.startswith(("bench_", "__")):
        return
    lacking = [
        name for name, body in commands(file) if name not in _WITHOUT and not ("lead_on(" in body or "next: " in body)
    ]
    assert lacking == []


def test_no_program_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    lead_on("panther [bold]", as_json=True)
    assert capsys.readouterr().err == ""
    lead_on("panther [bold]")
    assert capsys.readouterr().err == "next: panther [bold]\n"
