"""Decides whether a run was trained on the sequences it is tested on.

Sequences are compared by their content, the bytes of their stored frames. Data sets that were made
in different ways, such as percepts of two CNNs, have different bytes for the same video, so they
are also compared by the names of the videos. A file name made of digits is a mere number and is
ignored. So are the names in two data sets of converted frames, where walk/a may be two videos of
two folders; a name of UCF-101 is that of one video everywhere. Generated Moving MNIST is compared
by the digits that it was generated from.

Two kinds of copies go unnoticed: a video that was cut, scaled or encoded in another way and has
another name; and percepts that two machines computed in the same way but with different rounding.

For a run on records, and for one that starts from trained weights, `FILE` in its folder and in its
exports keeps digests of the training data: 32 bytes per sequence. Computing them takes one pass
through the data.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.configs import NO_INIT
from unsup_video.data import digits, records, sources, splits
from unsup_video.utils import files

FILE = "trained_on.npz"
UNKNOWN = "unknown"
PRETRAINING = "pretraining"  # stands for the data that the initial weights were trained on
_ROLES = {
    "train": "which it was trained on",
    "validation": "which chose its weights",
    PRETRAINING: "which its initial weights were trained on",
}
_OFFICIAL = re.compile(r"v_\w+_g[0-9]+_c[0-9]+$")  # names of UCF-101
_DIGEST = 16  # bytes
_LIMIT = 64 << 20  # bytes of digests, in addition to what the size of the file allows


@dataclasses.dataclass(frozen=True)
class Digits:
    """The digits that Moving MNIST was generated from; each field is "" if it is not known.

    Attributes:
        split, source, sha256: see `digits.Digits`.
    """

    split: str = ""
    source: str = ""
    sha256: str = ""

    @property
    def _family(self):
        """The source, or "MNIST" for all of MNIST, wherever it was read from."""
        return "MNIST" if digits.is_mnist(self.source) else self.source

    def shared_with(self, other: "Digits") -> bool | None:
        """Returns True if it has digits of `other`, None if that is not known."""
        if self.sha256 and self.sha256 == other.sha256:
            return True
        if not self.split or not other.split:
            return None
        mine, others = (self._family, self.split), (other._family, other.split)
        if mine[0] == others[0] and mine[1] != others[1]:
            # Idx files and TFDS have the 60,000 training digits in different orders.
            order, its_order = (x.source.partition(" in ")[0] for x in (self, other))
            return False if order == its_order or "test" in (self.split, other.split) else None
        # All embedded digits are training digits of MNIST.
        return False if mine != others and ("MNIST", "test") in (mine, others) else None


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """Digests of N sequences, by which they are recognised.

    Attributes:
        count: N. frames: (N, 16) uint8, digests of the stored frames; (0, 16) for clips that are
            generated without end. names: (N, 16) uint8, digests of the names of the videos, 0 for a
            video without a name or with a number as its name; or (0, 16).
        digits: of Moving MNIST, in the data of a chain of runs perhaps several; () for other data.
        made: a digest of how frames are made from a video and stored; if it is equal, equal videos
            have equal bytes; "" if it is not known.
    """

    count: int
    frames: np.ndarray
    names: np.ndarray
    digits: tuple[Digits, ...] = ()
    made: str = ""


_NONE = np.zeros((0, _DIGEST), np.uint8)


def generated_contents(count: int, origin: Digits) -> Contents:
    """Returns the contents of `count` clips of Moving MNIST, generated from these digits."""
    return Contents(count, _NONE, _NONE, (origin,))


def split_contents(split: sources.Split) -> Contents:
    """Reads a split and returns its contents.

    Raises:
        FileNotFoundError, ValueError: as `records.examples`.
    """
    return _contents_by_name({"": split})[""]


def _contents_by_name(parts: Mapping[str, sources.Split]) -> dict[str, Contents]:
    """Reads several splits; a data set that they share is read once."""
    contents = {}
    for folder in {part.folder for part in parts.values()}:
        manifest, entries = records.Manifest.load(folder), records.load_index(folder)
        chosen = {
            name: part.mask(manifest.count) for name, part in parts.items() if part.folder == folder
        }
        together = np.any(list(chosen.values()), axis=0)
        frames = _frame_digests(folder, manifest.fingerprint, together.tobytes())
        names = _name_digests(manifest, entries) if entries else np.zeros_like(frames)
        for name, mask in chosen.items():
            contents[name] = Contents(
                int(mask.sum()),
                frames[mask],
                names[mask],
                _digits_of(manifest),
                _production_digest(manifest, entries),
            )
    return contents


@functools.lru_cache(4)  # consecutive evaluations often use the same data
def _frame_digests(folder, fingerprint, chosen):
    """Returns digests of the chosen sequences of a data set, 0 for others: (count, 16) uint8."""
    chosen = np.frombuffer(chosen, bool)
    digests = np.zeros((len(chosen), _DIGEST), np.uint8)
    for index, example in records.examples(folder, pieces=chosen.astype(np.int64)):
        feature = tf.train.Example.FromString(example.numpy()).features.feature
        data = feature["frames"].bytes_list.value[0]
        if data.count(data[:1]) < len(data):  # black clips of two videos are not copies
            digests[int(index)] = _digest(data)
    return digests


def _digest(data: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(data, digest_size=_DIGEST).digest(), np.uint8)


def _name_digests(manifest: records.Manifest, entries: Sequence[records.Entry]) -> np.ndarray:
    digests = np.zeros((len(entries), _DIGEST), np.uint8)
    settings = manifest.source.get("settings", {})
    are_parts = manifest.kind == "patches" or (manifest.kind == "frames" and settings.get("frames"))
    for i, entry in enumerate(entries):
        # The parts of one video are called NAME#0, NAME#1, ..
        name = _video_name(re.sub(r"#[0-9]+$", "", entry.name) if are_parts else entry.name)
        if not re.fullmatch("[0-9]*", PurePosixPath(name).name):
            digests[i] = _digest(name.encode())
    return digests


def _video_name(name):
    """Returns the name of a video, the same for every command that writes entries."""
    name = re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", name)  # the extension of a file
    official = _OFFICIAL.search(name)  # in any folder
    return official[0] if official else name


def _production_digest(manifest, entries):
    official = any(_OFFICIAL.search(_video_name(entry.name)) for entry in entries)
    if "settings" not in manifest.source and official:
        return ""  # converted, from frames that may have been made in any way
    fields = [
        manifest.kind,
        manifest.dtype,
        manifest.scale,
        manifest.frame_shape,
        manifest.source.get("settings"),  # everything that records depend on besides the videos
    ]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _digits_of(manifest):
    if manifest.kind != "moving_mnist":
        return ()
    source = manifest.source
    if "generator" in source:
        made_from = source["digits"]
        return (Digits(source["split"], made_from["source"], made_from["sha256"]),)
    if source.get("published_test_file"):
        return (Digits("test", "MNIST, the published test file", ""),)
    return (Digits(),)


# ---------------------------------------------------------------------- runs


def read_contents(
    config: ConfigDict,
    pretraining: Mapping[str, Contents | None] | None = None,
    generated: Mapping | None = None,
) -> dict:
    """Reads all data that a run of `config` will be trained and tested on.

    Args:
        pretraining: `run_contents` of the run whose weights this one starts from, if any.
        generated: for clips that are generated, their description in run.json.

    Returns:
        {"train", "validation", "test": `Contents`}; for a run that starts from the weights of
        another one also `PRETRAINING`, None if it is not known.

    Raises:
        FileNotFoundError, ValueError: data is missing or damaged.
    """
    if config.data.records:
        contents = _contents_by_name({name: sources.split(config, name) for name in splits.SPLITS})
    else:
        contents = _generated(config, generated)
    if pretraining is not None:
        contents[PRETRAINING] = _pretraining_contents(pretraining)
    return contents


def _pretraining_contents(run):
    """Joins the data that trained a model and chose its weights; None if it is not known."""
    used = [run[name] for name in ("train", "validation", PRETRAINING) if name in run]
    if None in used:
        return None
    frames, names = (
        np.concatenate([getattr(c, field) for c in used]) for field in ("frames", "names")
    )
    made = used[0].made if len({c.made for c in used}) == 1 else ""
    origins = tuple(dict.fromkeys(origin for c in used for origin in c.digits))
    return Contents(sum(c.count for c in used), frames, names, origins, made)


def write(folder: str | Path, run: Mapping[str, Contents | None]) -> None:
    """Writes the result of `read_contents` to `FILE` in the folder of a run."""
    arrays = {}
    for name, contents in run.items():
        if contents is None:
            continue
        arrays[f"{name}/count"] = np.array(contents.count)
        arrays[f"{name}/frames"], arrays[f"{name}/names"] = contents.frames, contents.names
        arrays[f"{name}/made"] = np.array(contents.made)
        if contents.digits:
            arrays[f"{name}/digits"] = np.array([dataclasses.astuple(d) for d in contents.digits])
    with files.atomic_write(Path(folder) / FILE) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def run_contents(origin: str | Path, config: ConfigDict) -> dict[str, Contents | None]:
    """Returns the data that a run was trained on, as `read_contents` does; None if not known.

    Without `FILE`, the contents are computed from the data set that the config names, if it has not
    changed since.

    Args:
        origin: the folder with the run's run.json and `FILE`. config: of the run.

    Raises:
        ValueError: `FILE` is damaged. OSError: it cannot be read.
    """
    origin = Path(origin)
    wanted = [*splits.SPLITS]
    if config.model.get("init", NO_INIT) != NO_INIT:
        wanted.append(PRETRAINING)
    if (origin / FILE).exists():
        contents = _read(origin / FILE)
    else:
        data = json.loads((origin / "run.json").read_text(encoding="utf-8"))["data"]
        contents = _recompute(config, data)
    return {name: contents.get(name) for name in wanted}


def _read(path):
    # Compression shrinks only the digests of equal sequences, and zeros.
    stored = files.read_arrays(path, limit=_LIMIT + 2 * path.stat().st_size)
    try:
        return {
            name: Contents(
                int(stored[f"{name}/count"]),
                _digests(stored[f"{name}/frames"]),
                _digests(stored[f"{name}/names"]),
                tuple(
                    Digits(*map(str, origin))  # an earlier version stored a single one
                    for origin in np.atleast_2d(stored.get(f"{name}/digits", np.zeros((0, 3))))
                ),
                str(stored[f"{name}/made"]) if f"{name}/made" in stored else "",
            )
            for name in (*splits.SPLITS, PRETRAINING)
            if f"{name}/count" in stored
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def _digests(array):
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != _DIGEST:
        raise ValueError(f"{array.dtype} {array.shape}, digests of {_DIGEST} bytes expected")
    return array


def _generated(config, data):
    counts = {"test": config.eval.test_clips}  # training clips are generated without end
    return {
        name: generated_contents(
            counts.get(name, 0), Digits(name, data["source"], data["sha256"][name])
        )
        for name in splits.SPLITS
    }


def _recompute(config, data):
    if not config.data.records:
        return _generated(config, data)
    parts = {}
    for name in splits.SPLITS:
        try:
            part = sources.split(config, name)
            if records.Manifest.load(part.folder).is_recorded_as(data["sha256"][name]):
                parts[name] = part
        except (OSError, ValueError, KeyError):  # removed, or written again in another way
            pass
    return _contents_by_name(parts)


def seen_in_own_test(origin: str | Path, config: ConfigDict) -> dict[str, int | str]:
    """Returns `seen` for the test split of the run itself; see `run_contents`."""
    run = run_contents(origin, config)
    test = run["test"]
    return {
        name: UNKNOWN if test is None else n
        for name, n in seen(run, test or generated_contents(0, Digits())).items()
    }


# ---------------------------------------------------------------------- judging


def seen(run: Mapping[str, Contents | None], test: Contents) -> dict[str, int | str]:
    """Counts the sequences of a test that a run was trained on.

    Args:
        run: the result of `run_contents` or `read_contents`.

    Returns:
        For each split of the run but "test": the number of test sequences in it, or `UNKNOWN`.
    """
    shared = {name: shared_sequences(run[name], test) for name in _ROLES if name in run}
    return {name: UNKNOWN if mask is None else int(mask.sum()) for name, mask in shared.items()}


def shared_sequences(contents: Contents | None, test: Contents) -> np.ndarray | None:
    """Returns which sequences of a test are in `contents`, (test.count,) bool; None: not known."""
    if contents is None:
        return None
    shared = np.zeros(test.count, bool)
    compared = ["frames"]
    if not contents.made or contents.made != test.made:
        compared.append("names")
    for field in compared:
        mine, others = getattr(contents, field), getattr(test, field)
        known = {digest.tobytes() for digest in mine if digest.any()}
        shared |= (
            np.array([digest.tobytes() in known for digest in others], bool)
            if len(others)
            else False
        )
    shares_digits = {mine.shared_with(its) for mine in contents.digits for its in test.digits}
    if True in shares_digits:
        return np.ones(test.count, bool)
    if None in shares_digits and not shared.any():
        return None
    return shared


def is_training_data(run: Mapping[str, Contents | None], test: Contents) -> str | None:
    """Returns the split of a run that a test consists of, or None.

    That is a split with all sequences of the test; or "train", if the test has all of it and the
    shared sequences are too many for a test (see `is_no_test`). Arguments as in `seen`.
    """
    for name, n in seen(run, test).items():
        contents = run[name]
        if contents is None or not isinstance(n, int) or n == 0:
            continue
        whole = name == "train" and n == contents.count
        if n == test.count or (whole and is_no_test({name: n}, test.count)):
            return name
    return None


def is_no_test(counts: Mapping[str, int | str] | None, count: int) -> bool:
    """Returns True if a run was trained on at least 1% of the `count` sequences of a test.

    A smaller share occurs within data sets: UCF-101 has clips under two names, one for training and
    one for testing.

    Args:
        counts: the result of `seen`.
    """
    return any(isinstance(n, int) and n > 0 and 100 * n >= count for n in (counts or {}).values())


def notes(
    counts: Mapping[str, int | str] | None, count: int | None, what: str = "videos"
) -> list[str]:
    """Returns cautions for the reader of a test's figures, one sentence each; [] if all is well.

    Args:
        counts: the result of `seen`; None for figures of an earlier version, which did not look.
        count: the number of sequences of the test; None if it is not known.
        what: the name of these sequences, in the plural.
    """
    if counts is None:
        counts = dict.fromkeys(("train", "validation"), UNKNOWN)
    total = "test's" if count is None else f"{count:,}"
    cautions = [
        f"CAUTION: {n:,} of the {total} {what} are of the run's {name} split, {_ROLES[name]}"
        + (": this is no test" if count and is_no_test({name: n}, count) else "")
        for name, n in counts.items()
        if n not in (0, UNKNOWN)
    ]
    if unknown := [name for name, n in counts.items() if n == UNKNOWN]:
        cautions.append(
            f"CAUTION: whether the run's {' and '.join(unknown)} split had these {what} is not "
            "known: its data are gone or have changed, or what they were made from was not recorded"
        )
    return cautions
