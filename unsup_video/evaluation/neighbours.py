"""Finds and draws the nearest neighbours of embedded windows or videos."""

import dataclasses
import os

import numpy as np

from unsup_video.evaluation.embeddings import Rows
from unsup_video.pictures import fonts, visualize
from unsup_video.utils.indices import evenly_spread

_QUERIES = 8  # rows whose neighbours are shown
_SHOWN = 4  # frames of each
_NAME = 26  # characters
_SAME, _OTHER = "#28946a", "#cf6a22"  # colours of the name: a neighbour of the same class, another


@dataclasses.dataclass(frozen=True)
class Hit:
    """A row, as a query or as a neighbour.

    Attributes:
        sequence: its index in `Rows.sequences`. start, frames: see `embeddings`.
        similarity: the cosine of the angle between its embedding and the query's.
    """

    sequence: int
    start: int
    frames: int
    similarity: float = 1.0


def nearest(rows: Rows, count: int, queries: int = _QUERIES) -> list[list[Hit]]:
    """Returns for `queries` rows, evenly spaced, the row itself and its `count` nearest ones.

    Near means a large cosine. Rows of the same group are left out: windows of one video, and videos
    of one recording, are near each other anyway. The rows are read part by part, twice.

    Raises:
        ValueError: `count` is below 1, or all rows are of one group.
    """
    if count < 1:
        raise ValueError(f"the number of neighbours must be at least 1, got {count}")
    chosen, row, asked, directions = set(evenly_spread(queries, rows.count).tolist()), 0, [], []
    for part in rows.parts():
        for i in range(len(part["start"])):
            if row + i in chosen:
                asked.append(_hit(part, i, 1.0))
                directions.append(_directions(part["embedding"][i : i + 1])[0])
        row += len(part["start"])
    entries, nearest_to = rows.sequences.entries, [[] for _ in asked]
    for part in rows.parts():
        groups = np.array([entries[number].group for number in part["sequence"]])
        similarity = np.stack(directions) @ _directions(part["embedding"]).T
        for query, best, near in zip(asked, nearest_to, similarity, strict=True):
            others = np.flatnonzero(groups != entries[query.sequence].group)
            order = others[np.argsort(-near[others], kind="stable")][:count]
            best += [_hit(part, i, float(near[i])) for i in order]
            best.sort(key=lambda hit: -hit.similarity)
            del best[count:]
    if not all(nearest_to):
        raise ValueError("all rows are of one group: there are no neighbours in other groups")
    return [[query, *best] for query, best in zip(asked, nearest_to, strict=True)]


def _hit(part, i, similarity):
    return Hit(*(int(part[name][i]) for name in ("sequence", "start", "frames")), similarity)


def _directions(embeddings):
    norms = np.linalg.norm(np.float64(embeddings), axis=1, keepdims=True)
    return embeddings / np.maximum(norms, np.finfo(np.float64).tiny)


def drawable(rows: Rows) -> bool:
    """Tells whether frames are pictures, so that `draw` can show them."""
    return visualize.drawable(rows.sequences.frame_shape)


def lines(rows: Rows, hits: list[list[Hit]]) -> list[str]:
    """Describes the result of `nearest`: a line per query, with names, classes and cosines."""
    return [
        f"{_named(rows, query)}: "
        + ", ".join(f"{_named(rows, hit)} {hit.similarity:.3f}" for hit in others)
        for query, *others in hits
    ]


def _named(rows, hit):
    entry = rows.sequences.entries[hit.sequence]
    start = f" at {hit.start}" if rows.settings["per"] == "window" else ""
    known = entry.label and entry.label not in entry.name
    return f"{entry.name}{start}" + (f" ({entry.label})" if known else "")


def draw(rows: Rows, hits: list[list[Hit]], path: str | os.PathLike) -> None:
    """Writes the result of `nearest` as a PNG: a query on the left of its neighbours, in each row.

    Four frames of each are shown, evenly spaced. Names have the colour of their class: green where
    it is the query's, orange where it is another.

    Raises:
        ValueError: frames are no pictures. OSError: the file cannot be written.
    """
    entries = rows.sequences.entries
    if not drawable(rows):
        raise ValueError(f"frames of shape {rows.sequences.frame_shape} are no pictures")
    every = [hit for line in hits for hit in line]
    films = _films(rows, every)
    across, down = max(map(len, hits)), len(hits)
    height, width = next(iter(films.values())).shape[:2]
    texts = [fonts.legible(_named(rows, hit)) for hit in every]
    size = (2.3 * across, (2.3 * height / width + 0.25) * down + 0.4)
    with visualize.figure(path, size, texts) as figure:
        axes = figure.subplots(down, across, squeeze=False)
        for axis in axes.ravel():
            axis.axis("off")
        for line, (query, *others) in zip(axes, hits, strict=True):
            label = entries[query.sequence].label
            for axis, hit in zip(line, (query, *others), strict=False):
                film = films[hit.sequence, hit.start]
                axis.imshow(film, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                title = fonts.shortened(fonts.legible(_named(rows, hit)), _NAME)
                title += "" if hit is query else f"  {hit.similarity:.2f}"
                same = entries[hit.sequence].label == label
                colour = "black" if hit is query or not label else _SAME if same else _OTHER
                axis.set_title(title, fontsize=7, color=colour)
        for axis, text in zip(axes[0], ("query", "nearest, with the cosine"), strict=False):
            axis.annotate(text, (0, 1), (0, 16), "axes fraction", "offset points", fontsize=8)


def _films(rows, hits):
    """Returns {(sequence, start): evenly spaced frames side by side, uint8}."""
    wanted = {}
    for hit in hits:
        wanted.setdefault(hit.sequence, set()).add((hit.start, hit.frames))
    films = {}
    for number, frames in rows.sequences.read(sorted(wanted)):
        times = {
            start: start + np.linspace(0, length - 1, _SHOWN).round().astype(int)
            for start, length in wanted[number]
        }
        needed = set(np.concatenate(list(times.values())).tolist())
        kept = {}
        for time, frame in enumerate(frames):
            if time in needed:
                kept[time] = visualize.to_uint8(frame)
            if time == max(needed):
                break
        for start, at in times.items():
            films[number, start] = _side_by_side([kept[time] for time in at])
    return films


def _side_by_side(frames):
    if frames[0].shape[2:] == (1,):
        frames = [frame[..., 0] for frame in frames]
    gap = np.full((len(frames[0]), 2, *frames[0].shape[2:]), 255, np.uint8)
    parts = [part for frame in frames for part in (gap, frame)][1:]
    return np.concatenate(parts, axis=1)
