"""A user as one self-contained HTML page, drawn by templates/user.html."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from offline.explain.view import ShownDecision, UserView, behaviour
from panther_core.base.odds import log_odds
from panther_core.report import pages
from panther_core.report.canvas import BLUE, GREY, ORANGE, draw
from panther_core.report.charts import odds_ticks


def write_page(path: Path, view: UserView) -> None:
    """Draw the user into `path`; after an error what was there is there still."""
    pages.write_page(path, render(view))


def render(view: UserView) -> str:
    """The page as text."""
    return pages.render(
        "offline.explain",
        "user.html",
        title=f"User {view.user_id}",
        view=view,
        image=_scores(view.events) if view.events else "",
        behaviour=behaviour,
    )


def _scores(events: list[ShownDecision]) -> str:
    y = log_odds(np.array([event.score for event in events]))
    alert = np.array([event.alert for event in events])
    limit = log_odds(np.array([event.threshold for event in events]))

    def paint(figure: Figure) -> None:
        axes, x = figure.subplots(), np.arange(len(events))
        for at in (i for i, event in enumerate(events) if event.label == 1):
            axes.axvspan(at - 0.4, at + 0.4, color=ORANGE, alpha=0.12, lw=0)
        axes.step(x, limit, where="mid", color=GREY, ls="--", lw=1.2)
        axes.plot(x, y, color=BLUE, lw=1)
        axes.plot(x[alert], y[alert], "o", ms=8, color=ORANGE, mec="white")
        axes.plot(x[~alert], y[~alert], "o", ms=5, color=BLUE, mfc="white")
        axes.set(xlim=(-0.5, len(x) - 0.5), ylabel="score")
        axes.set_xticks(x, [event.when.replace(" ", "\n", 1) for event in events], fontsize=7)
        odds_ticks(axes, "y")

    return draw(paint, (6.0, 2.6))
