"""Draws the predictions of classifiers as PNG files."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from unsup_video.evaluation.results import Row
from unsup_video.pictures import fonts, visualize
from unsup_video.pictures.charts import COLOURS

_NUMBERED = 25  # a matrix of up to so many classes has a number in each cell
_SLOTS = 8  # pictures of a video, side by side
_PLOT = 3.6  # inches, height of the probabilities over time


def confusion(
    counts: np.ndarray, classes: Sequence[str], title: str, path: str | os.PathLike
) -> None:
    """Draws a confusion matrix: each row in % of the videos of its class.

    Args:
        counts: (K, K) int, the number of videos of class i (row) that were classified as j
            (column). A row without videos stays empty.
    """
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    title, *classes = map(fonts.legible, (title, *classes))
    columns = list(map(fonts.shortened, classes))
    rows = [f"{name} ({n})" for name, n in zip(columns, totals[:, 0], strict=True)]
    numbered = len(classes) <= _NUMBERED
    cell = 0.5 if numbered else 0.19  # inches
    size = max(3.5, cell * len(classes))
    margin = 0.085 * max(map(fonts.width, columns)) + 0.5  # for the names
    with visualize.figure(path, (size + margin + 1, size + margin + 0.6), (title, *rows)) as figure:
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        font = 9 if numbered else 7.5
        axes.set_xticks(range(len(classes)), columns, rotation=90, fontsize=font)
        axes.set_yticks(range(len(classes)), rows, fontsize=font)
        axes.set_xlabel("taken for")
        axes.set_ylabel("class (number of videos)")
        axes.set_title(fonts.shortened(title, 60), fontsize=11)
        axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="0.88", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
        if numbered:
            for i, j in zip(*np.nonzero(counts), strict=True):
                colour = "white" if shares[i, j] > 55 else "black"
                axes.text(
                    j,
                    i,
                    f"{shares[i, j]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color=colour,
                )
        figure.colorbar(
            image,
            ax=axes,
            label="% of the class's videos",
            fraction=0.046,
            pad=0.02,
            aspect=20 if numbered else 60,
        )


_STEP_LABELS = {"steps_so_far": "mean of the steps so far", "step": "that step alone"}


def over_steps(rows: dict[str, list[Row]], title: str, path: str | os.PathLike) -> None:
    """Draws accuracy over the number of frames read, with confidence intervals.

    Args:
        rows: {"step": rows, "steps_so_far": rows}, in the order of time.
    """
    title = fonts.legible(title)
    with visualize.figure(path, (7.5, 4.2), [title]) as figure:
        axes = figure.add_subplot(
            title=fonts.shortened(title, 80),
            xlabel="frames of the window read",
            ylabel="accuracy, %",
        )
        for (part, label), colour in zip(_STEP_LABELS.items(), COLOURS, strict=False):
            x, y = [r.frame for r in rows[part]], [r.value for r in rows[part]]
            axes.plot(x, y, color=colour, marker="o", markersize=3.5, label=label)
            low = [r.value if r.low is None else r.low for r in rows[part]]
            high = [r.value if r.high is None else r.high for r in rows[part]]
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.grid(alpha=0.25)
        axes.legend(loc="best", frameon=False)


def over_time(
    frames: np.ndarray,
    probabilities: np.ndarray,
    length: int,
    ranking: Sequence[tuple[str, int, float]],
    title: str,
    x_label: str,
    path: str | os.PathLike,
    pictures: dict[int, np.ndarray] | None = None,
) -> None:
    """Draws the probabilities of the likeliest classes over the course of a video.

    Args:
        frames: (n,), frame numbers, from 1. probabilities: (n, K), at these frames.
        length: number of frames of the video.
        ranking: (name, index, probability for the whole video) of the classes to draw, the
            likeliest first.
        pictures: {frame number: (H, W, 3) uint8}, all of one shape, drawn above their frames.
    """
    title, *names = map(fonts.legible, (title, *(name for name, _, _ in ranking)))
    height = _PLOT
    if pictures:
        picture = next(iter(pictures.values()))
        above = 0.2 + 7.6 / _SLOTS * picture.shape[0] / picture.shape[1]  # inches, about
        height += above
    with visualize.figure(path, (10, height + 0.3), (title, *names)) as figure:
        if pictures:
            top, axes = figure.subplots(2, 1, sharex=True, height_ratios=(above, _PLOT))
            _draw_strip(top, pictures)
        else:
            top = axes = figure.subplots()
        top.set_title(fonts.shortened(title, 90), fontsize=11)
        lines, labels = [], []
        for name, (_, k, total), colour in zip(names, ranking, COLOURS, strict=False):
            lines += axes.plot(
                frames,
                probabilities[:, k],
                color=colour,
                linewidth=1.8,
                marker="o" if len(frames) <= 60 else "",
                markersize=3.5,
            )
            labels.append(f"{fonts.shortened(name)}  {total:.3f}")
        axes.set(xlim=(0.5, length + 0.5), ylim=(-0.02, 1.02), ylabel="probability", xlabel=x_label)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.grid(alpha=0.25)
        # Labels are passed explicitly, because matplotlib hides a label that starts with "_".
        axes.legend(
            lines,
            labels,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            frameon=False,
            title="class, whole video",
        )


def _draw_strip(axes, pictures):
    """Draws frames of a video along the time axis and marks the position of each."""
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    width = 0.97 / max(len(pictures), _SLOTS)
    for n, (frame, picture) in enumerate(pictures.items()):
        inset = axes.inset_axes(((n + 0.5) / len(pictures) - width / 2, 0.14, width, 0.86))
        inset.imshow(picture)
        inset.set_anchor("S")
        inset.set_axis_off()
        axes.plot([frame], [0.03], marker="^", markersize=5, color="0.35", clip_on=False)
