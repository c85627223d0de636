"""Figures of the encoder: its training, its tokens, its prototypes, its map of users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from panther_core.data.token_report import TokenReport
from panther_core.report.canvas import BLUE, FAINT, GREY, GROUPS, INK, ORANGE, WIDE, draw, label, legend, percent
from trainer.report.facts import Embedding, Motifs

_CURVES = (
    ("next_token_loss", "loss of the next token"),
    ("attribute_loss", "loss of its attributes"),
    ("contrast", "contrast of profiles"),
    ("validation_hr@10", "validation HR@10"),
)
_SHOWN = 16  # prototypes
_ROUND = [digit * 10**power for power in range(7) for digit in (1, 2, 5)]


def losses(curve: list[dict[str, float]], head_curve: list[float]) -> str:
    """Small multiples over the epochs: every curve that was recorded."""
    epochs = [line["epochs"] for line in curve]
    series = [(title, epochs, [line[name] for line in curve]) for name, title in _CURVES if curve and name in curve[0]]
    if head_curve:
        series.append(
            ("fraud head: AP, sampled validation", [float(i) for i in range(1, len(head_curve) + 1)], head_curve)
        )

    def paint(figure: Figure) -> None:
        grid = figure.subplots((len(series) + 1) // 2, 2, squeeze=False).ravel()
        for axes, (title, x, y) in zip(grid, series, strict=False):
            _series(axes, title, x, y)
        for axes in grid[len(series) :]:
            axes.set_axis_off()

    return draw(paint, (5.6, 1.7 * ((len(series) + 1) // 2)))


def _series(axes: Axes, title: str, x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, marker="o", ms=3.5, color=BLUE)
    axes.set_title(title)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.margins(y=0.15)


def coverage(tokens: TokenReport) -> str:
    """Share of the events covered over the number of tokens, and where this vocabulary stands."""
    needed = {float(share): max(1, count) for share, count in tokens.tokens_needed.items()}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(list(needed.values()), list(needed), marker="o", ms=4, color=GREY, label="tokens needed")
        size = max(1, tokens.vocabulary - 1)
        axes.plot(size, tokens.fitted.covered, "o", ms=8, color=BLUE, mec="white", label="events fitted on")
        if tokens.later is not None:
            axes.plot(size, tokens.later.covered, "D", ms=10, color=ORANGE, mfc="none", mew=1.5, label="later events")
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = [tick for tick in _ROUND if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel="tokens, most frequent first", ylabel="events covered", ylim=(None, 1.03))
        percent(axes, "y")
        legend(figure, axes)

    return draw(paint)


def shown_prototypes(motifs: Motifs) -> NDArray[np.intp]:
    """The prototypes that some motif weighs most, in the order of their numbers."""
    weight_KM = np.array([motif.weight for motif in motifs.rows])
    return np.sort(np.argsort(-weight_KM.max(axis=0), kind="stable")[:_SHOWN])


def prototypes(motifs: Motifs) -> str:
    """Motifs by prototypes, mean weight as colour."""
    at = shown_prototypes(motifs)
    weight_KP = np.array([motif.weight for motif in motifs.rows])[:, at]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        image = axes.imshow(weight_KP, aspect="auto", cmap="Blues", vmin=0)
        names = [label(" → ".join(motif.events)) for motif in motifs.rows]
        axes.set_yticks(range(len(names)), [f"{name}  {i}" for i, name in enumerate(names, 1)])
        axes.set_xticks(range(len(at)), [str(number + 1) for number in at])
        axes.set_xlabel("prototype")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(image, ax=axes, label="mean weight", pad=0.01, fraction=0.04)
        bar.outline.set_visible(False)

    return draw(paint, (WIDE[0], 1.2 + 0.26 * len(motifs.rows)))


def user_map(embedding: Embedding) -> str:
    """Users on two principal components."""
    x, y, group = np.array(embedding.x), np.array(embedding.y), np.array(embedding.group)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for i, name in enumerate(embedding.groups):
            here = group == i
            colour = GROUPS[i % len(GROUPS)]
            axes.scatter(x[here], y[here], 7, colour, lw=0, alpha=0.75, label=label(name, 24), rasterized=True)
        first, second = embedding.explained
        axes.set(xlabel=f"component 1 ({first:.0%} of the variance)", ylabel=f"component 2 ({second:.0%})")
        axes.grid(color=FAINT)
        axes.tick_params(labelcolor=INK)
        figure.legend(loc="outside lower center", ncols=4, markerscale=2, title=label(embedding.field) or None)

    return draw(paint, (5.0, 4.4))
