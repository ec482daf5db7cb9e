"""Embeds videos: the states of a trained encoder after each window of frames, as a table.

A row is a video, with the mean over its windows, or a window. The columns, in .npz and Parquet:

    embedding   (N, E) float32
    name        of the sequence; several windows share it
    label       the name of its class, "" without one
    group       sequences of one group belong together; without one, the name
    split       (N, K) int8, for each official split 1 (train), 2 (test) or 0 (unused); a video
                without official splits has K = 0
    start       the first frame of the row, from 0
    frames      the number of frames from there to the last one that was read
    seconds     the time of the first frame; NaN where the frame rate is not known

Rows are stored in a working folder until the table is complete, so that the same call resumes a
killed one, and memory holds no more than a part of them and one window:

    .parts-NAME/settings.json     what the rows depend on: nothing else can resume here
    .parts-NAME/000012.npz        the rows of some consecutive sequences
"""

import contextlib
import dataclasses
import functools
import importlib.util
import json
import os
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.evaluation.embedding_inputs import Sequences
from unsup_video.models.cells import state_sizes
from unsup_video.training import precision, workdir
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files, progress

LAYERS, PER = ("all", "top"), ("video", "window")
SUFFIXES = (".npz", ".parquet")
_SETTINGS = "settings.json"
_BATCH = 100  # windows
_SEQUENCES, _WINDOWS = 100, 4000  # a part is complete after so many of either
_LINES_EVERY = 10.0  # seconds between lines of progress


@dataclasses.dataclass(frozen=True)
class Settings:
    """Says which states of which windows to embed.

    Attributes:
        states: names of states, such as ("h", "c"); None for all. layers: "all" or "top".
        frames: the length of a window; None for that of the training. stride: frames from one
            window to the next; None for `frames`, windows side by side.
        per: a row per "video", the mean over its windows, or per "window".
    """

    states: tuple[str, ...] | None = None
    layers: str = "all"
    frames: int | None = None
    stride: int | None = None
    per: str = "video"


# ---------------------------------------------------------------------- the encoder


def columns(
    trained: TrainedModel, states: Iterable[str] | None = None, layers: str = "all"
) -> dict[str, slice]:
    """Returns the parts of an embedding: name of a state, such as h_1, -> its columns.

    The order is that of the signature `encode` of an export: h_1, c_1, h_2, .. for LSTMs.

    Args:
        states, layers: as of `Settings`.

    Raises:
        ValueError: the model has no recurrent layers, or not these states; `layers` is unknown.
    """
    cells = trained.model.cells
    if not cells:
        raise ValueError(
            f"{trained.path} is a {trained.config.model.kind} classifier, which has no encoder and "
            "no states: give a video model, or a classifier with recurrent layers"
        )
    if layers not in LAYERS:
        raise ValueError(f"unknown layers {layers!r}: one of {', '.join(LAYERS)}")
    known = cells[0].state_names
    chosen = known if states is None else tuple(states)
    if not chosen or not set(chosen) <= set(known):
        raise ValueError(
            f"states {','.join(chosen) or 'none'}: the layers of {trained.path} have "
            f"{','.join(known)}"
        )
    parts, end = {}, 0
    for name, size in state_sizes(cells).items():
        state, _, layer = name.rpartition("_")
        if state in chosen and (layers == "all" or int(layer) == len(cells)):
            parts[name] = slice(end, end + size)
            end += size
    return parts


def encode(
    trained: TrainedModel,
    clips: np.ndarray,
    states: Iterable[str] | None = None,
    layers: str = "all",
    batch_size: int = _BATCH,
) -> np.ndarray:
    """Returns the states of the encoder after the last frame of each clip, side by side.

    Args:
        clips: (N, T, D) or (N, T, *frame_shape) float32, of any length T.
        states, layers: as of `Settings`; `columns` says where each state is.

    Returns:
        (N, E) float32.

    Raises:
        ValueError: as of `columns`; the frames have another shape, or values that the model was not
            trained on.
    """
    wanted = list(columns(trained, states, layers))
    names = list(state_sizes(trained.model.cells))
    dim = int(np.prod(trained.frame_shape))
    clips = np.asarray(clips, np.float32)
    if clips.shape[2:] not in (trained.frame_shape, (dim,)) or not all(clips.shape[:2]):
        raise ValueError(
            f"clips of shape {clips.shape}; {trained.path} reads frames of {trained.frame_shape}: "
            "(N, T, *frame) expected, N and T at least 1"
        )
    trained.check_values(clips)
    flat, batches = clips.reshape(*clips.shape[:2], dim), []
    for start in range(0, len(flat), batch_size):
        after = _encoder(trained.model)(tf.constant(flat[start : start + batch_size]))
        by_name = dict(zip(names, after, strict=True))
        batches.append(np.concatenate([by_name[name].numpy() for name in wanted], axis=1))
    return np.concatenate(batches)


@functools.lru_cache(maxsize=1)
def _encoder(model):
    return tf.function(model.encode, reduce_retracing=True, autograph=False)


# ---------------------------------------------------------------------- rows


@dataclasses.dataclass(frozen=True)
class Rows:
    """The finished rows, in parts on disk.

    Attributes:
        sequences: what they are of. settings: JSON values that they depend on.
        count: the number of rows. dim: E.
        problems: (name, reason) of each sequence that has no row.
        paths: the files of the parts, in order.
    """

    sequences: Sequences
    settings: dict
    count: int
    dim: int
    problems: tuple[tuple[str, str], ...]
    paths: tuple[Path, ...]

    def parts(self, names: tuple[str, ...] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Yields the columns `sequence`, `start`, `frames` and `embedding` part by part.

        Args:
            names: those to read; None for all.
        """
        for path in self.paths:
            yield files.read_arrays(path, names or ("sequence", "start", "frames", "embedding"))


@contextlib.contextmanager
def computed(
    trained: TrainedModel,
    sequences: Sequences,
    settings: Settings,
    working: str | os.PathLike,
    log: Callable[[str], None] = lambda line: None,
) -> Iterator[Rows]:
    """Embeds sequences, or resumes, and yields the rows; then deletes the folder `working`.

    If the body raises an error, the folder stays, and the next call only reads it.

    Raises:
        ValueError: the model has no encoder, or reads other frames; a setting is bad; the folder
            belongs to another job, or a process is at work there; no sequence can be embedded.
        OSError: it cannot be written.
    """
    working = Path(working)
    parts_of = columns(trained, settings.states, settings.layers)
    settings = _checked(trained, settings)
    if sequences.frame_shape != tuple(trained.frame_shape):
        raise ValueError(
            f"frames of {sequences.frame_shape}, but {trained.path} reads frames of "
            f"{tuple(trained.frame_shape)}"
        )
    identity = {
        "model": {"path": str(trained.path), "step": trained.step, "sha256": trained.sha256},
        "gemm_dtype": precision.gemm_dtype(trained.config.precision),
        "columns": {name: [part.start, part.stop] for name, part in parts_of.items()},
        **dataclasses.asdict(settings),
        "input": sequences.identity,
    }
    identity = json.loads(json.dumps(identity))  # tuples become lists, as in the file

    def refuse():
        raise ValueError(f"{working}: another process is at work there now")

    with files.locked(working, waiting=refuse):
        files.remove_leftovers(working.parent, working.name)
        _claim(working, identity)
        paths, row_count, problems = _compute(trained, sequences, settings, working, log)
        if not row_count:
            files.discard(working)
            raise ValueError(
                f"none of {len(sequences.entries):,} sequences can be embedded: "
                + "; ".join(f"{name}: {reason}" for name, reason in problems[:3])
            )
        dim = max(part.stop for part in parts_of.values())
        yield Rows(sequences, identity, row_count, dim, tuple(problems), tuple(paths))
        files.discard(working)


def _checked(trained, settings):
    """Returns the settings with numbers for the defaults."""
    data = trained.config.data
    usual = data.frames if trained.task == "finetuning" else data.frames_in
    frames = usual if settings.frames is None else settings.frames
    stride = frames if settings.stride is None else settings.stride
    for name, value in (("frames", frames), ("stride", stride)):
        if value < 1:
            raise ValueError(f"the {name} of a window must be at least 1, got {value}")
    if settings.per not in PER:
        raise ValueError(f"a row per {settings.per!r}: one of {', '.join(PER)}")
    return dataclasses.replace(settings, frames=frames, stride=stride)


def _claim(working, identity):
    """Makes the working folder, or checks that an existing one has the same identity."""
    if not working.exists():
        with files.atomic_write(working) as temporary:
            temporary.mkdir()
            (temporary / _SETTINGS).write_text(json.dumps(identity, indent=1), encoding="utf-8")
        return
    files.remove_leftovers(working)
    stored = json.loads((working / _SETTINGS).read_text(encoding="utf-8"))
    if differences := workdir.diff(stored, identity):
        raise ValueError(
            f"{working} holds the rows of another job that did not finish:\n  "
            + "\n  ".join(differences)
            + "\nResume that job, choose another --out, or delete the folder."
        )


def _compute(trained, sequences, settings, working, log):
    """Computes the missing parts; returns (paths, number of rows, problems)."""
    total, done, rows, problems, paths = len(sequences.entries), 0, 0, [], []

    def take(path):
        nonlocal done, rows
        arrays = files.read_arrays(path, ("start", "report"))
        report = json.loads(str(arrays["report"]))
        done, rows = report["end"], rows + len(arrays["start"])
        problems.extend(map(tuple, report["problems"]))
        paths.append(path)

    while (path := working / f"{len(paths):06d}.npz").exists():
        take(path)
    if paths:
        log(f"resuming: {done:,} of {total:,} sequences are done")
    began = logged = time.perf_counter()
    before = done
    rest = sequences.read(range(done, total))
    while done < total:
        part = _Part(trained, settings)
        for number, frames in rest:
            part.add(number, sequences.entries[number].name, frames)
            if part.is_full():
                break
        part.write(path)
        take(path)
        path = working / f"{len(paths):06d}.npz"
        if done < total and (now := time.perf_counter()) - logged > _LINES_EVERY:
            rate = (done - before) / (now - began)
            log(progress.line(done, total, "sequences", rate))
            logged = now
    return paths, rows, problems


class _Part:
    """The rows of consecutive sequences, while they are computed."""

    def __init__(self, trained, settings):
        self._trained, self._settings = trained, settings
        self._waiting = []  # (key of the row, window) of windows that are not encoded yet
        self._sums = {}  # key of a row -> [sum of its embeddings in float64, number, first, end]
        self._problems, self._sequences, self._windows, self._end = [], 0, 0, 0

    def add(self, number, name, frames):
        """Embeds a sequence; one that raises an error, or has no window, becomes a problem."""
        length, per_window = self._settings.frames, self._settings.per == "window"
        count = 0
        try:
            for count, window in _windows(frames, length, self._settings.stride):
                if window is None:
                    continue
                self._trained.check_values(window)
                first = count - length
                row = self._sums.setdefault(
                    (number, first if per_window else 0), [0.0, 0, first, count]
                )
                row[3] = count
                self._waiting.append((row, window))
                self._windows += 1
                if len(self._waiting) == _BATCH:
                    self._encode()
            if count < length:
                raise ValueError(f"{count} frames, but a window has {length}")
        except (ValueError, OSError) as error:
            self._problems.append((name, str(error)))
            self._sums = {key: row for key, row in self._sums.items() if key[0] != number}
        self._sequences += 1
        self._end = number + 1

    def is_full(self):
        return self._sequences >= _SEQUENCES or self._windows >= _WINDOWS

    def write(self, path):
        self._encode()
        rows = self._sums.values()
        dim = max(part.stop for part in self._columns().values())
        embedding = np.zeros((len(rows), dim), np.float32)
        for target, (total, number, _, _) in zip(embedding, rows, strict=True):
            target[:] = total / number
        with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                sequence=np.array([number for number, _ in self._sums], np.int64),
                start=np.array([first for _, _, first, _ in rows], np.int64),
                frames=np.array([end - first for _, _, first, end in rows], np.int64),
                embedding=embedding,
                report=np.array(json.dumps({"end": self._end, "problems": self._problems})),
            )

    def _columns(self):
        return columns(self._trained, self._settings.states, self._settings.layers)

    def _encode(self):
        if not self._waiting:
            return
        embedded = encode(
            self._trained,
            np.stack([window for _, window in self._waiting]),
            self._settings.states,
            self._settings.layers,
        )
        for (row, _), embedding in zip(self._waiting, embedded, strict=True):
            row[0] = row[0] + np.float64(embedding)
            row[1] += 1
        self._waiting = []


def _windows(frames, length, stride):
    """Yields (number of frames read, the window that ends there or None) for every frame."""
    last = deque(maxlen=length)
    for count, frame in enumerate(frames, 1):
        last.append(frame)
        is_end = count >= length and (count - length) % stride == 0
        yield count, np.stack(last) if is_end else None


# ---------------------------------------------------------------------- tables


def check_out(path: str | os.PathLike) -> None:
    """Raises ValueError or OSError if `write` could not write `path`."""
    files.check_place(path, SUFFIXES)
    if Path(path).suffix.lower() == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ValueError(
            f"{path}: Parquet needs the package pyarrow: pip install -e '.[parquet]' installs it; "
            "or write a .npz file"
        )


def write(rows: Rows, path: str | os.PathLike) -> None:
    """Writes the columns, and the settings as JSON, to a .npz or a .parquet file.

    In a .npz file the settings are the array `settings`; in Parquet they are the metadata
    `settings` of the schema, and `embedding` is a list of fixed size.

    Raises:
        ValueError: see `check_out`. OSError: the file cannot be written.
    """
    check_out(path)
    with files.atomic_write(path) as temporary:
        if Path(path).suffix.lower() == ".npz":
            _write_npz(rows, temporary)
        else:
            _write_parquet(rows, temporary)


_SMALL = ("sequence", "start", "frames")  # arrays of a part that all columns but one are made of


def _table(rows, part):
    """Returns the columns of a part, without its embeddings, by name."""
    entries = [rows.sequences.entries[number] for number in part["sequence"]]
    count = max(len(entry.splits) for entry in rows.sequences.entries)
    split = np.zeros((len(entries), count), np.int8)
    for target, entry in zip(split, entries, strict=True):
        target[: len(entry.splits)] = entry.splits
    return {
        **{
            name: [_legible(getattr(entry, name)) for entry in entries]
            for name in ("name", "label", "group")
        },
        "split": split,
        "start": part["start"],
        "frames": part["frames"],
        "seconds": part["start"] / np.array([entry.fps or np.nan for entry in entries]),
    }


def _legible(text):
    """Replaces the bytes of a file's name that are no text."""
    return text.encode(errors="backslashreplace").decode()


def _write_npz(rows, path):
    """Writes column by column, each part by part, as `np.savez` does with whole arrays."""

    def texts(name):
        entries = rows.sequences.entries
        longest = max(len(_legible(getattr(entry, name))) for entry in entries)
        return np.dtype(f"<U{max(1, longest)}"), ()

    first = _table(rows, next(rows.parts(_SMALL)))
    kinds = {  # name -> (dtype, shape of a row)
        name: texts(name) if isinstance(value, list) else (value.dtype, value.shape[1:])
        for name, value in first.items()
    }
    with zipfile.ZipFile(path, "w") as archive:

        def add(name, dtype, shape, values):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype),
                    "fortran_order": False,
                    "shape": shape,
                }
                np.lib.format.write_array_header_1_0(file, header)
                for array in values:
                    file.write(np.ascontiguousarray(array, dtype).tobytes())

        for name, (dtype, shape) in kinds.items():
            values = (_table(rows, part)[name] for part in rows.parts(_SMALL))
            add(name, dtype, (rows.count, *shape), values)
        values = (part["embedding"] for part in rows.parts(("embedding",)))
        add("embedding", np.dtype(np.float32), (rows.count, rows.dim), values)
        settings = np.array(json.dumps(rows.settings))
        add("settings", settings.dtype, (), [settings])


def _write_parquet(rows, path):
    import pyarrow as arrow
    from pyarrow import parquet

    kinds = {
        "name": arrow.string(),
        "label": arrow.string(),
        "group": arrow.string(),
        "split": arrow.list_(arrow.int8()),
        "start": arrow.int64(),
        "frames": arrow.int64(),
        "seconds": arrow.float64(),
        "embedding": arrow.list_(arrow.float32(), rows.dim),
    }
    schema = arrow.schema(kinds.items(), metadata={"settings": json.dumps(rows.settings)})
    with parquet.ParquetWriter(path, schema, use_dictionary=["name", "label", "group"]) as writer:
        for part in rows.parts():
            table = {**_table(rows, part), "embedding": part["embedding"]}
            arrays = [
                arrow.array(list(table[name]), kind)
                if name in ("split", "name", "label", "group")
                else arrow.FixedSizeListArray.from_arrays(table[name].ravel(), rows.dim)
                if name == "embedding"
                else arrow.array(table[name], kind)
                for name, kind in kinds.items()
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
