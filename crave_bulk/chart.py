"""Charts of batches, in matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import polars as pl

from crave_bulk.card import OTHER, PHASE_COLOURS, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crave_bulk.report import Report


def plot_timings(reports: Sequence[Report]) -> Figure:
    """Draw the time per phase of every batch of some reports.

    Args:
        reports: one or more reports, such as those of several tables.

    Returns:
        A figure with one stacked bar per batch, in seconds.
    """
    bars = pl.concat(_bars(report, number) for number, report in enumerate(reports, 1))
    labels = bars["label"].unique(maintain_order=True).to_list()
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.45 * len(labels)), layout="constrained")
    left = dict.fromkeys(labels, 0.0)
    for phase in bars["phase"].unique(maintain_order=True):
        part = bars.filter(phase=phase)
        starts = [left[label] for label in part["label"]]
        colour = PHASE_COLOURS.get(phase, OTHER)
        axes.barh(part["label"], part["seconds"], left=starts, color=colour, label=phase, height=0.6)
        for label, seconds in part.select("label", "seconds").iter_rows():
            left[label] += seconds
    for label, total in left.items():
        axes.annotate(f" {duration(total)}", (total, labels.index(label)), va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("seconds")
    axes.set_title("Time per phase", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    # In one line below, however many phases and bars there are; nine phases fit.
    figure.legend(
        loc="outside lower center", ncols=9, frameon=False, fontsize=9, handlelength=1, columnspacing=1.2
    )
    plt.close(figure)  # a notebook shows the returned figure; pyplot need not show it once more
    return figure


def _bars(report: Report, number: int) -> pl.DataFrame:
    """Label the phases of a report's batches; the number keeps two reports of one table apart."""
    name = pl.lit(f"{number}. {report.verb} {report.table}")
    label = name if report.timings["batch"].n_unique() == 1 else pl.format("{} #{}", name, "batch")
    return report.timings.select(label.alias("label"), "phase", "seconds")
