"""What a turn of the refresh has found of its challenger: refresh.json and refresh.html in the version's folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from panther_core.base.errors import BadInput
from panther_core.base.files import written_whole
from panther_core.report.pages import render, write_page
from trainer.rollout.checks import Check
from trainer.rollout.shadow_report import ShadowReport

REPORT, PAGE = "refresh.json", "refresh.html"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The decision, and each reason.

    `score_counts`: the challenger's scores on the judged payments (trainer.drift.reference.score_bins); `alert_share`:
    of these payments above its threshold. With both the stream is compared. `shadow`: what it did beside the live
    version before the switch, None where it did not follow the stream.
    """

    champion: int
    challenger: int
    promoted: bool
    gate: list[Check]
    transactions: int = 0
    labelled: int = 0
    score_counts: list[int] = []
    alert_share: float | None = None
    shadow: ShadowReport | None = None
    watch: list[Check] = []
    rolled_back: bool = False

    @classmethod
    def read(cls, folder: Path) -> Report:
        """The report in a version's folder. Raises BadInput."""
        try:
            return msgspec.json.decode((folder / REPORT).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError) as error:
            raise BadInput(f"expected what a refresh has found in {folder / REPORT}: {error}") from None

    def write(self, folder: Path) -> None:
        """Write both files, each whole or not at all."""
        with written_whole(folder / REPORT) as part:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        title = f"version {self.challenger} beside version {self.champion}"
        write_page(folder / PAGE, render("trainer.report", "refresh.html", title=title, said=self))
