"""report.html: whole, self-contained, a function of report.json, and safe whatever the data is called."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from typer.testing import CliRunner

from cli.models import app
from panther_core.artifact import MANIFEST, PAGE, RUN_REPORT, load_manifest
from panther_core.base.errors import ArtifactError
from trainer.report.facts import VersionReport, encode, load
from trainer.report.version_page import SECTIONS, render

HOSTILE = """<script>alert(1)</script> & "q" 'a' $\\frac{ \x00\x1b]0; http://x.example/ 日本 """ + "x" * 200
SELF_CLOSING = {"meta", "img"}


class Elements(HTMLParser):
    """Tags with their attributes, and whether every tag that opens also closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in SELF_CLOSING:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(artifact_folder: Path) -> VersionReport:
    return load(artifact_folder)


@pytest.fixture(scope="module")
def page(report: VersionReport) -> str:
    return render(report)


def test_training_leaves_the_page_of_its_report(artifact_folder: Path, report: VersionReport, page: str) -> None:
    assert (artifact_folder / PAGE).read_text(encoding="utf-8") == page
    metrics = load_manifest(artifact_folder).metrics
    scorers = {scorer.name: scorer.metrics for scorer in report.fraud.scorers}
    assert scorers == {
        "model": metrics["test"],
        "gradient boosting": metrics["test_boosting"],
        "gradient boosting + PANTHER": metrics["test_boosting_panther"],
        "model without PANTHER": metrics["test_without_panther"],
        "rules": metrics["test_rules"],
    }
    assert list(report.fraud.gains) == list(scorers)[1:]
    assert report.next_tokens.ranked["model"] == metrics["test_next"]


def test_json_round_trips_to_the_same_page(report: VersionReport, page: str) -> None:
    again = msgspec.json.decode(encode(report), type=VersionReport)
    assert again == report
    assert render(again) == page


def test_the_page_is_self_contained_and_has_every_section(page: str) -> None:
    assert not re.search(r"https?:|@import|url\(|<script|<link|<iframe|srcset", page)
    elements = Elements(page)
    assert elements.open == []
    for _, attributes in elements.tags:
        assert (attributes.get("src") or "data:").startswith("data:image/svg+xml;base64,") or "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    ids = [attributes["id"] for tag, attributes in elements.tags if tag == "section"]
    assert ids == list(SECTIONS)
    images = [attributes for tag, attributes in elements.tags if tag == "img"]
    assert len(images) == 8
    assert all(attributes["alt"] for attributes in images)
    assert page.count("<figcaption>") == len(images)


def hostile(report: VersionReport) -> VersionReport:
    """The same report about data whose words are an attack."""
    replace = msgspec.structs.replace
    assert report.motifs is not None
    rows = [replace(motif, events=(HOSTILE, HOSTILE, HOSTILE)) for motif in report.motifs.rows]
    embedding = replace(report.embedding, field=HOSTILE, groups=[HOSTILE] * len(report.embedding.groups))
    embedding = replace(embedding, between={HOSTILE: 0.1}, by_chance={HOSTILE: 0.1})
    tokens = json.loads(msgspec.json.encode(report.tokens))
    tokens["attributes"]["category"]["falls_out"] = [{"value": HOSTILE, "events": 2, "unknown": 1, "share": 0.5}]
    return replace(
        report,
        about=replace(report.about, name=HOSTILE, code_version=HOSTILE),
        motifs=replace(report.motifs, rows=rows),
        embedding=embedding,
        tokens=msgspec.convert(tokens, type=type(report.tokens)),
    )


def test_hostile_words_stay_words(report: VersionReport) -> None:
    text = render(hostile(report))
    elements = Elements(text)
    assert "script" not in {tag for tag, _ in elements.tags}
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert "&lt;script&gt;" in text
    for _, attributes in elements.tags:
        if "src" in attributes:
            drawn = base64.b64decode((attributes["src"] or "").split(",", 1)[1])
            assert ElementTree.fromstring(drawn).tag.endswith("svg")  # well-formed, whatever stands in it


def test_an_encoder_without_prototypes_or_pretraining_has_a_page_too(report: VersionReport) -> None:
    bare = msgspec.structs.replace(report, motifs=None, curve=[])
    text = render(bare)
    assert "no prototypes" in text
    assert "No pretraining" in text
    assert Elements(text).open == []


def test_the_command_draws_the_page_again(artifact_folder: Path, page: str, tmp_path: Path) -> None:
    out = tmp_path / "again.html"
    result = CliRunner().invoke(app, ["report", str(artifact_folder), "--out", str(out), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"page": str(out), "version": 1}
    assert out.read_text(encoding="utf-8") == page


def test_a_version_without_a_report_says_what_to_do(artifact_folder: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(artifact_folder, tmp_path / "old"))
    manifest = json.loads((old / MANIFEST).read_bytes())
    del manifest["files"][RUN_REPORT]
    (old / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="wrote no report; train anew"):
        load(old)


def test_a_changed_report_is_refused(artifact_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(artifact_folder, tmp_path / "copy"))
    (copy / RUN_REPORT).write_bytes((copy / RUN_REPORT).read_bytes().replace(b"9", b"8", 1))
    with pytest.raises(ArtifactError, match="sha256"):
        load(copy)


def test_the_page_says_what_speaks_against_the_version_and_what_other_thresholds_give(report: VersionReport) -> None:
    flood = {"alert_rate": 0.9, "precision": 0.0, "rows": 9.0}
    said = render(msgspec.structs.replace(report, first_events=flood))
    assert "This model should not go live:</strong> 90.0% of users' first five events alert" in html.unescape(said)
    assert len(report.thresholds) == 5
    for at in report.thresholds:
        assert f">{at['alerts_a_day']:,.1f}</td>" in said
    old = render(msgspec.structs.replace(report, first_events={}, thresholds=[]))
    assert "should not go live" not in old
    assert "did not measure other thresholds" in old
