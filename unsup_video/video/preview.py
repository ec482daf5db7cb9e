"""Shows the contents of a data set, as a model will see them, in words and pictures."""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from unsup_video.data import records
from unsup_video.data.splits import TEST, TRAIN
from unsup_video.pictures import fonts, visualize
from unsup_video.utils import files
from unsup_video.utils.indices import evenly_spread
from unsup_video.video import flow

_TILE = 112  # maximum length of a frame's longer side in pixels
_GIF_FRAMES = 60  # maximum number of frames
_FEATURES = 128  # maximum number of features drawn of a vector
_LABEL = 44  # maximum characters of a label
_BARS = 6  # in the histogram of lengths


def summary(folder: str | Path) -> list[str]:
    """Returns lines on a data set: its sequences, lengths, classes, splits and unused inputs.

    Raises FileNotFoundError or ValueError as `records.load_index` does.
    """
    manifest, entries = records.Manifest.load(folder), records.load_index(folder)
    size = sum(shard.bytes for shard in manifest.shards)
    lines = [
        f"{manifest.kind}: {manifest.count:,} sequences of "
        f"{records.format_shape(manifest.shape)} {manifest.dtype}, {len(manifest.shards)} files, "
        f"{size / 1e6:,.1f} MB {manifest.compression}".rstrip()
    ]
    if entries:
        lines += [*_lengths(entries), *_classes(entries, manifest.classes), *_splits(entries)]
    return lines + _quarantine(Path(folder) / records.QUARANTINE)


def _lengths(entries):
    lengths = np.array([entry.frames for entry in entries])
    text = f"frames: {lengths.sum():,} in all"
    if (lengths == lengths[0]).all():
        return [text]
    shortest, longest = int(lengths.min()), int(lengths.max())
    width = -(-(longest - shortest + 1) // _BARS)
    counts = np.bincount((lengths - shortest) // width)
    bars = (
        f"  {shortest + i * width:>6,} to {shortest + (i + 1) * width - 1:>6,}: {count:>6,} "
        f"{'#' * -(-30 * count // counts.max())}"
        for i, count in enumerate(counts)
    )
    return [
        f"{text}, {shortest:,} to {longest:,} per sequence, median {np.median(lengths):,.0f}",
        *bars,
    ]


def _classes(entries, classes):
    counts = Counter(entry.label for entry in entries)
    lines = []
    if classes:
        sizes = [counts[label] for label in range(len(classes))]
        largest = sorted(range(len(classes)), key=lambda label: -sizes[label])[:8]
        shown = ", ".join(f"{classes[label]} {sizes[label]:,}" for label in largest)
        lines.append(
            f"{len(classes)} classes of {min(sizes):,} to {max(sizes):,} sequences: {shown}"
            + (", .." if len(classes) > len(largest) else "")
        )
    if counts[-1]:
        lines.append(f"without a label: {counts[-1]:,}")
    return lines


def _splits(entries):
    return [
        f"official split {k + 1}: "
        + ", ".join(
            f"{parts.count(code):,} {name}"
            for code, name in ((TRAIN, "for training"), (TEST, "for testing"), (0, "unused"))
        )
        for k, parts in enumerate(zip(*(entry.splits for entry in entries), strict=True))
    ]


def _quarantine(path):
    if not path.is_file():
        return []
    inputs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    lines = []
    for used, what in ((False, "not used"), (True, "used, but doubtful")):
        reasons = Counter(entry["reason"] for entry in inputs if entry.get("used", False) == used)
        if reasons:
            lines.append(f"{what}: {reasons.total():,}, see {path}")
            lines += [f"  {reason}: {count:,}" for reason, count in reasons.most_common(5)]
    return lines


# ---------------------------------------------------------------------- pictures


@dataclasses.dataclass(frozen=True)
class Sample:
    """A sample of a data set: its manifest, and the indices and records of some sequences."""

    manifest: records.Manifest
    indices: list[int]
    records: list[records.Record]

    @property
    def labels(self) -> list[str]:
        """The class and name of each sequence; without a name, its number, from 1."""
        labels = []
        for index, record in zip(self.indices, self.records, strict=True):
            name = record.name or f"sequence {index + 1:,}"
            name = fonts.shortened(name, _LABEL)
            known = record.label >= 0 and self.manifest.classes[record.label] not in name
            label = fonts.shortened(self.manifest.classes[record.label], _LABEL) if known else ""
            labels.append(f"{label}: {name}" if known else name)
        return labels


def sample(folder: str | Path, count: int) -> Sample:
    """Picks at most `count` sequences, evenly spaced. Raises the errors of `records.pick`."""
    manifest = records.Manifest.load(folder)
    indices = evenly_spread(count, manifest.count).tolist()
    return Sample(manifest, indices, records.pick(folder, indices))


def statistics(sample: Sample) -> str:
    """Returns a line on the values, in the units that a model reads."""
    # Sums them one by one, without conversion: the flow of a video may take 1 GiB.
    parts = [(record.frames, record.scale) for record in sample.records]
    low = min(float(frames.min()) * scale for frames, scale in parts)
    high = max(float(frames.max()) * scale for frames, scale in parts)
    size = sum(frames.size for frames, _ in parts)
    mean = sum(frames.sum(dtype=np.float64) * scale for frames, scale in parts) / size
    zeros = 1 - sum(np.count_nonzero(frames) for frames, _ in parts) / size
    return f"values of these: {low:.4g} to {high:.4g}, mean {mean:.4g}, {zeros:.1%} are 0"


def sheet(sample: Sample, path: str | os.PathLike, columns: int = 10) -> None:
    """Writes a contact sheet as a PNG: one row per sequence, time from left to right.

    Vectors (T, D) become plots: time from left to right, with one line for each of the features
    that are most active in the sample, the most active on top.
    """
    if len(sample.manifest.frame_shape) == 1:
        _plot(sample, path)
        return
    lengths = [len(record.frames) for record in sample.records]
    columns = min(columns, max(lengths))
    times = [np.linspace(0, length - 1, columns).round().astype(int) for length in lengths]
    if len(set(lengths)) == 1:
        steps = [t + 1 for t in times[0]]
    else:
        steps = [f"{k / max(1, columns - 1):.0%}" for k in range(columns)]
    rows = list(zip(sample.labels, _pictures(sample, times), strict=True))
    with files.atomic_write(path) as temporary:
        visualize.strip(rows, steps).save(temporary, "PNG")


def animation(sample: Sample, path: str | os.PathLike) -> None:
    """Writes sequences of pictures side by side as a GIF, as long as the shortest sequence."""
    length = min(_GIF_FRAMES, *(len(record.frames) for record in sample.records))
    pictures = _pictures(sample, [range(length)] * len(sample.records))
    panels = {f"{i + 1}": frames for i, frames in enumerate(pictures)}
    captions = [f"frame {t + 1}" for t in range(length)]
    shape = sample.manifest.frame_shape
    colourful = sample.manifest.kind == "flow" or shape[2:] == (3,)
    data = visualize.gif(panels, captions, length, fps=10, colourful=colourful)
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(data)


def _pictures(sample, times):
    """Returns the frames of every sequence at `times`, as small uint8 pictures."""
    frames = [record.frames[list(at)] for record, at in zip(sample.records, times, strict=True)]
    if sample.manifest.kind == "flow":
        # The first flow of a stack stands for all.
        flows = [part[..., :2] * np.float32(sample.manifest.scale) for part in frames]
        bound = flow.visible_bound(np.concatenate(flows))
        frames = [flow.to_colour(part[..., 0], part[..., 1], bound) for part in flows]
    elif not visualize.drawable(sample.manifest.frame_shape):
        raise ValueError(f"frames of {sample.manifest.frame_shape} are no pictures")
    elif sample.manifest.dtype != "uint8":
        frames = [
            visualize.to_uint8(part.astype(np.float32) * record.scale)
            for part, record in zip(frames, sample.records, strict=True)
        ]
    return [[_small(frame) for frame in part] for part in frames]


def _small(frame):
    factor = _TILE / max(frame.shape[:2])
    if factor >= 1:
        return frame
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _plot(sample, path):
    values = [record.frames.astype(np.float32) * record.scale for record in sample.records]
    activity = np.concatenate(values).mean(axis=0)
    order = np.argsort(-activity, kind="stable")[:_FEATURES]
    highest = max(np.quantile(np.concatenate(values)[:, order], 0.99), 1e-6)
    across = min(4, len(values))
    down = -(-len(values) // across)
    labels = list(map(fonts.legible, sample.labels))
    with visualize.figure(path, (2.8 * across + 1, 2.6 * down), labels, dpi=130) as figure:
        axes = figure.subplots(down, across, squeeze=False)
        for axis in axes.ravel()[len(values) :]:
            axis.axis("off")
        for axis, label, part in zip(axes.ravel(), labels, values, strict=False):
            image = axis.imshow(part[:, order].T, aspect="auto", vmin=0, vmax=highest, cmap="magma")
            axis.set_title(fonts.shortened(label, _LABEL), fontsize=6)
            axis.tick_params(labelsize=6)
        figure.supxlabel("frame", fontsize=8)
        figure.supylabel(f"the {len(order)} most active of {len(activity)} features", fontsize=8)
        figure.colorbar(image, ax=axes).ax.tick_params(labelsize=6)
