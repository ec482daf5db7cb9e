"""What is in a data set, in words and pictures: what a model will see."""

import dataclasses
import json
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from unsup_video.data import records
from unsup_video.pictures import fonts, visualize
from unsup_video.utils import files
from unsup_video.utils.indices import evenly_spread
from unsup_video.video import flow

_TILE = 112  # pixels, at most, of a frame's longer side
_GIF_FRAMES = 60  # at most
_FEATURES = 128  # of a vector, that are drawn
_LABEL = 44  # characters
_BARS = 6  # of the histogram of lengths


def summary(folder: str | Path) -> list[str]:
    """Lines on a data set: how many sequences, how long, of which classes, and what is not there.

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
        f"{text}, {shortest:,} to {longest:,} a sequence, median {np.median(lengths):,.0f}",
        *bars,
    ]


def _classes(entries, classes):
    counts = Counter(entry.label for entry in entries)
    lines = []
    if classes:
        held = [counts[label] for label in range(len(classes))]
        most = sorted(range(len(classes)), key=lambda label: -held[label])[:8]
        shown = ", ".join(f"{classes[label]} {held[label]:,}" for label in most)
        lines.append(
            f"{len(classes)} classes of {min(held):,} to {max(held):,} sequences: {shown}"
            + (", .." if len(classes) > len(most) else "")
        )
    if counts[-1]:
        lines.append(f"without a label: {counts[-1]:,}")
    return lines


def _splits(entries):
    return [
        f"official split {k + 1}: "
        + ", ".join(
            f"{parts.count(code):,} {name}"
            for code, name in ((1, "for training"), (2, "for testing"), (0, "unused"))
        )
        for k, parts in enumerate(zip(*(entry.splits for entry in entries), strict=True))
    ]


def _quarantine(path):
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = []
    for used, what in ((False, "not used"), (True, "used, but doubtful")):
        reasons = Counter(line["reason"] for line in lines if line.get("used", False) == used)
        if reasons:
            found.append(f"{what}: {reasons.total():,}, see {path}")
            found += [f"  {reason}: {count:,}" for reason, count in reasons.most_common(5)]
    return found


# ---------------------------------------------------------------------- pictures


@dataclasses.dataclass(frozen=True)
class Sample:
    """Some sequences of a data set: its manifest, their indices in it, and their records."""

    manifest: records.Manifest
    indices: list[int]
    records: list[records.Record]

    @property
    def labels(self) -> list[str]:
        """Class and name of each; for one without a name, its number, from 1."""
        labels = []
        for index, found in zip(self.indices, self.records, strict=True):
            name = found.name or f"sequence {index + 1:,}"
            name = fonts.shortened(name, _LABEL)
            known = found.label >= 0 and self.manifest.classes[found.label] not in name
            label = fonts.shortened(self.manifest.classes[found.label], _LABEL) if known else ""
            labels.append(f"{label}: {name}" if known else name)
        return labels


def sample(folder: str | Path, count: int) -> Sample:
    """At most `count` sequences, evenly spaced over a data set. Errors as of `records.pick`."""
    manifest = records.Manifest.load(folder)
    indices = evenly_spread(count, manifest.count).tolist()
    return Sample(manifest, indices, records.pick(folder, indices))


def statistics(sample: Sample) -> str:
    """A line on the values, in the units that a model gets."""
    # One by one, without conversion: the flow of a video may take 1 GiB.
    parts = [(found.frames, found.scale) for found in sample.records]
    low = min(float(frames.min()) * scale for frames, scale in parts)
    high = max(float(frames.max()) * scale for frames, scale in parts)
    size = sum(frames.size for frames, _ in parts)
    mean = sum(frames.sum(dtype=np.float64) * scale for frames, scale in parts) / size
    zeros = 1 - sum(np.count_nonzero(frames) for frames, _ in parts) / size
    return f"values of these: {low:.4g} to {high:.4g}, mean {mean:.4g}, {zeros:.1%} are 0"


def sheet(sample: Sample, path: str | os.PathLike, columns: int = 10) -> None:
    """Writes a contact sheet as a PNG: a row a sequence, time from left to right.

    Vectors (T, D) become plots: time from left to right, a line for each of the features that are
    the most active in the sample, the most active on top.
    """
    if len(sample.manifest.frame_shape) == 1:
        _plot(sample, path)
        return
    lengths = [len(found.frames) for found in sample.records]
    columns = min(columns, max(lengths))
    times = [np.linspace(0, length - 1, columns).round().astype(int) for length in lengths]
    if len(set(lengths)) == 1:
        steps = [t + 1 for t in times[0]]
    else:
        steps = [f"{k / max(1, columns - 1):.0%}" for k in range(columns)]
    rows = list(zip(sample.labels, _pictures(sample, times), strict=True))
    with files.whole(path) as temporary:
        visualize.strip(rows, steps).save(temporary, "PNG")


def animation(sample: Sample, path: str | os.PathLike, fps: float = 10) -> None:
    """Writes sequences of pictures side by side as a GIF, as long as the shortest."""
    length = min(_GIF_FRAMES, *(len(found.frames) for found in sample.records))
    pictures = _pictures(sample, [range(length)] * len(sample.records))
    panels = {f"{i + 1}": frames for i, frames in enumerate(pictures)}
    captions = [f"frame {t + 1}" for t in range(length)]
    shape = sample.manifest.frame_shape
    colourful = sample.manifest.kind == "flow" or shape[2:] == (3,)
    data = visualize.gif(panels, captions, length, fps, colourful)
    with files.whole(path) as temporary:
        temporary.write_bytes(data)


def _pictures(sample, times):
    """For every sequence its frames at `times` as uint8 pictures, not too large."""
    frames = [found.frames[list(at)] for found, at in zip(sample.records, times, strict=True)]
    if sample.manifest.kind == "flow":
        # Of a stack, the first flow.
        flows = [part[..., :2] * np.float32(sample.manifest.scale) for part in frames]
        bound = flow.visible_bound(np.concatenate(flows))
        frames = [flow.to_colour(part[..., 0], part[..., 1], bound) for part in flows]
    elif not visualize.drawable(sample.manifest.frame_shape):
        raise ValueError(f"frames of {sample.manifest.frame_shape} are no pictures")
    elif sample.manifest.dtype != "uint8":
        frames = [
            visualize.to_uint8(part.astype(np.float32) * found.scale)
            for part, found in zip(frames, sample.records, strict=True)
        ]
    return [[_small(frame) for frame in part] for part in frames]


def _small(frame):
    factor = _TILE / max(frame.shape[:2])
    if factor >= 1:
        return frame
    size = (round(frame.shape[1] * factor), round(frame.shape[0] * factor))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _plot(sample, path):
    values = [found.frames.astype(np.float32) * found.scale for found in sample.records]
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
