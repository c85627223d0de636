"""The sections of the page: text, tables and figures of a Report, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from panther_core.report import charts
from panther_core.report.pages import figure, paragraph, table
from trainer.report import plots_fraud, plots_model
from trainer.report.facts import Motifs, Report

Section = Callable[[Report], Iterator[str]]


def training(report: Report) -> Iterator[str]:
    """Loss curves."""
    if not report.curve:
        yield paragraph("No pretraining: the encoder is as it began.")
    yield figure(
        plots_model.losses(report.curve, report.head_curve),
        "Losses and validation figures by epoch",
        "Each panel is one figure by epoch: losses (mean over the epoch's batches) should fall and flatten, validation "
        "figures rise; one that turns back says that later epochs only learnt the training events by heart. The fraud "
        "head's is of all validation frauds and a sample of the legitimate rows, so higher than on all rows.",
    )
    names = [name for name in (report.curve[0] if report.curve else {}) if name != "epochs"]
    yield table(
        ["epoch", *(name.replace("_", " ") for name in names)],
        [[f"{line['epochs']:.0f}", *(f"{line[name]:.4f}" for name in names)] for line in report.curve],
    )


def tokens(report: Report) -> Iterator[str]:
    """Coverage and [UNK]."""
    found = report.tokens
    yield figure(
        plots_model.coverage(found),
        "Share of events covered by number of tokens",
        "The grey line says how many tokens would cover a share of the events fitted on; the marks are this vocabulary "
        "on those events and on the later ones: the gap between the marks is habit that changed.",
    )
    stretches = [("fitted on", found.fitted), *([("later", found.later)] if found.later else [])]
    yield table(
        ["events", "count", "covered", "[UNK]"],
        [[name, f"{part.events:,}", f"{part.covered:.2%}", f"{part.unknown:.2%}"] for name, part in stretches],
    )
    yield paragraph(
        f"{found.vocabulary - 1:,} tokens and [UNK], out of {found.combinations:,} combinations that occur and "
        f"{found.product:,} possible."
    )
    lost = [(name, loss) for name, use in found.attributes.items() for loss in use.falls_out]
    if lost:
        yield paragraph("Values that lose most events to [UNK]:")
        yield table(
            ["attribute", "value", "events", "[UNK]", "share"],
            [[name, x.value, f"{x.events:,}", f"{x.unknown:,}", f"{x.share:.1%}"] for name, x in lost],
        )


def next_tokens(report: Report) -> Iterator[str]:
    """HR@K table."""
    found = report.next_tokens
    yield paragraph(
        f"HR@k is the share of {found.events:,} test events whose token the model had among its first k "
        f"of {found.vocabulary:,}; NDCG@k also counts how high; [UNK] is always a miss. The other rows are counts over "
        "the events trained on: what the model must beat to have learnt more than them."
    )
    names = list(next(iter(found.ranked.values())))
    yield table(
        ["", *(name.upper() for name in names)],
        [[who, *(f"{row[name]:.4f}" for name in names)] for who, row in found.ranked.items()],
    )


def fraud(report: Report) -> Iterator[str]:
    """Precision-recall."""
    found = report.fraud
    yield figure(
        plots_fraud.precision_recall(found),
        "Precision over recall of the model and of what one would have used otherwise",
        "Each point of a line is a threshold: how much fraud it catches (right is better), and how many of its alerts "
        "are fraud (higher is better); the dot is the threshold in service, the dotted line alerts at random.",
    )
    validation = found.validation
    names = {"average_precision": "AP", "auc": "ROC AUC", "alert_rate": "alerted", "precision": "", "recall": ""}
    yield table(
        ["", "AP", "AP, 95%", *(title or name for name, title in names.items() if title != "AP")],
        [
            [
                scorer.name,
                f"{scorer.metrics['average_precision']:.4f}",
                f"{scorer.interval[0]:.3f} to {scorer.interval[1]:.3f}",
                *(_figure(name, scorer.metrics[name]) for name in names if name != "average_precision"),
            ]
            for scorer in found.scorers
        ]
        + [
            [
                "model on validation",
                f"{validation['average_precision']:.4f}",
                "",
                f"{validation['auc']:.4f}",
                "",
                "",
                "",
            ]
        ],
    )
    yield paragraph(
        f"{found.frauds:,} frauds in {found.rows:,} rows of {found.users:,} users ({found.frauds / found.rows:.3%}). "
        f"In average precision: {'; '.join(_gain(name, *gain) for name, gain in found.gains.items())}. Intervals: "
        f"{found.resamples} resamples of users, the same for all. Gradient boosting learnt from the head's rows, alone "
        "from its context features. Each threshold was set on a scorer's validation rows to alert on at most "
        f"{found.alert_budget:.2%} of them; the rules, which stand in for the model, are judged at its threshold."
    )


def _gain(other: str, gain: float, low: float, high: float) -> str:
    verdict = "not told apart by this test" if low <= 0 <= high else "beyond chance"
    return f"model less {other} {gain:+.3f} (95%: {low:+.3f} to {high:+.3f}), {verdict}"


def _figure(name: str, value: float) -> str:
    return f"{value:.4f}" if name == "auc" else f"{value:.2%}"


def top(report: Report) -> Iterator[str]:
    """Recall at the top."""
    found = report.fraud
    yield figure(
        plots_fraud.top_recall(found),
        "Recall among the highest scores",
        "A bar is the share of all fraud that lies among the highest scores; the outline is the most so few rows can "
        "hold.",
    )
    yield table(
        ["highest scores", "rows", *(scorer.name for scorer in found.scorers), "attainable"],
        [
            [
                f"{part.share:.2%}",
                f"{part.rows:,}",
                *(f"{scorer.metrics[f'recall_top_{part.share * 100:g}pct']:.2%}" for scorer in found.scorers),
                f"{part.attainable:.2%}",
            ]
            for part in found.top
        ],
    )


def calibration(report: Report) -> Iterator[str]:
    """Reliability and the histogram."""
    found = report.fraud
    yield figure(
        charts.reliability(found.bins),
        "Share of fraud over mean score, by tenths of the rows",
        "Each dot is a tenth of the test rows by score: on the dotted line the score is the probability it claims to "
        "be, below it the score is too high; both axes are log-odds, so that rare fraud can be seen.",
    )
    yield table(
        ["tenth", "rows", "frauds", "mean score", "was fraud"],
        [
            [str(i), f"{part.rows:,}", f"{part.frauds:,}", f"{part.mean_score:.4%}", f"{part.frauds / part.rows:.4%}"]
            for i, part in enumerate(found.bins, 1)
        ],
    )
    precision = found.scorers[0].metrics["precision"]
    yield paragraph(
        f"The {found.alerts:,} alerts promised {found.alerts_mean_score:.1%} fraud (their mean score) and held "
        f"{precision:.1%}."
    )
    yield figure(
        plots_fraud.histogram(found),
        "Scores of legitimate and fraudulent rows",
        "How each class spreads over the scores, each class adding up to 100%: what overlaps cannot be told apart by "
        "any threshold; what lies right of the blue line alerts.",
    )


def prototypes(report: Report) -> Iterator[str]:
    """Heat map of motifs."""
    found = report.motifs
    if found is None or not found.rows:
        yield paragraph("This encoder has no prototypes, or no user has three events: nothing to show.")
        return
    yield figure(
        plots_model.prototypes(found),
        "Mean weight of prototypes after recurring three-event motifs",
        "A row is a motif, oldest event first; a dark cell is a prototype that the layer attends to after the third "
        "event: rows that look alike are one pattern to the model, columns dark in every row say little.",
        wide=True,
    )
    yield paragraph(_how(found), soft=True)
    most = [sorted(range(len(m.weight)), key=lambda p, m=m: -m.weight[p])[:3] for m in found.rows]  # type: ignore[misc]
    yield table(
        ["motif", "times", "users", "measured", "strongest prototypes"],
        [
            [
                f"{i}. {' → '.join(motif.events)}",
                f"{motif.count:,}",
                f"{motif.users:,}",
                f"{motif.measured:,}",
                ", ".join(f"{p + 1} ({motif.weight[p]:.2f})" for p in top),
            ]
            for i, (motif, top) in enumerate(zip(found.rows, most, strict=True), 1)
        ],
    )


def _how(found: Motifs) -> str:
    count, shown = len(found.overall), len(plots_model.shown_prototypes(found))
    apart, words = ", ".join(f"{share:.0%}" for share in found.told_apart), " and ".join(found.attributes)
    return (
        f"The {len(found.rows)} most frequent runs of three events of a user, named by {words}. Softmax weights of the "
        f"SPRM look-up of layer {found.layer} (the last, whose prototypes alerts name by the same numbers) over "
        f"{count} prototypes, {1 / count:.3f} each if it were blind; the columns are the {shown} that some motif "
        f"weighs most. Measured on {found.sampled_events:,} events of {found.sampled_users:,} sampled users, in the "
        "windows the stream has; no label is used. Share of the weights' variance that lies between these motifs, "
        f"by layer: {apart}."
    )


def users(report: Report) -> Iterator[str]:
    """Embedding map."""
    found = report.embedding
    colours = f"coloured by {found.field}" if found.field else "without a profile to colour them by"
    yield figure(
        plots_model.user_map(found),
        f"Users on two principal components, {colours}",
        f"Each dot is a user's embedding after their last event, {colours}: colours that keep apart say that the "
        "embedding knows the fact; the two components hold "
        f"{sum(found.explained):.0%} of the variance, the rest is not in the picture.",
    )
    yield paragraph(
        f"{found.users:,} sampled users. By profile field, the share of the embeddings' variance (all dimensions) that "
        "lies between its values, and what values dealt out at random would give. The profile is an input of the model "
        "and the contrastive loss asks for this, so it shows that training worked, not that behaviour gives it away."
    )
    yield table(
        ["field", "between its values", "by chance"],
        [[name, f"{share:.1%}", f"{found.by_chance[name]:.1%}"] for name, share in found.between.items()],
    )


def settings(report: Report) -> Iterator[str]:
    """Every knob."""
    config: dict[str, Any] = msgspec.to_builtins(report.about.config)
    model: dict[str, Any] = config.pop("model")
    rows = [(name, str(value)) for name, value in (*model.items(), *config.items())]
    yield paragraph("The first rows are of the model's shape and losses, the others of training.")
    yield table(["setting", "value"], rows)


SECTIONS: dict[str, tuple[str, Section]] = {
    "fraud": ("Precision and recall", fraud),
    "top": ("Recall at the top", top),
    "calibration": ("Calibration", calibration),
    "next": ("Next transaction", next_tokens),
    "tokens": ("Coverage", tokens),
    "prototypes": ("Prototypes and motifs", prototypes),
    "users": ("Map of users", users),
    "training": ("Training", training),
    "settings": ("Settings", settings),
}
