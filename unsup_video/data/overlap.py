"""Whether a run was trained on what it is tested on: the one place that judges it.

Sequences are compared by their content, the bytes of their stored frames. Two data sets that were
made in two ways, such as percepts of two CNNs, have other bytes for the same video: they are compared
by the names of the videos too. A file name of digits alone is a number, and says nothing of the
video. Generated Moving MNIST is compared by the digits that it was generated from.

Two kinds of copies are not noticed: one that was cut, scaled or encoded in another way and has
another name, and percepts that two machines computed in the same way, if they differ in a bit.

What a run on records was trained on is kept in its folder and in its exports, in `FILE`, as
digests: 32 bytes for each sequence. To compute them reads the data once, one sequence at a time.
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

from unsup_video.data import digits, records, sources, splits
from unsup_video.utils import files

FILE = "trained_on.npz"
UNKNOWN = "unknown"
PRETRAINING = "pretraining"  # the part of what the encoder of a classifier was trained on
_WHAT = {
    "train": "which it was trained on",
    "validation": "which chose its weights",
    PRETRAINING: "which its encoder was pretrained on",
}
_DIGEST = 16  # bytes
_LIMIT = 64 << 20  # bytes of digests, besides those that the size of their file allows


@dataclasses.dataclass(frozen=True)
class Digits:
    """The digits that Moving MNIST was generated from; "" each where that is not known.

    Attributes:
        split, source, sha256: as of `digits.Digits`.
    """

    split: str = ""
    source: str = ""
    sha256: str = ""

    @property
    def _family(self):
        """All MNIST, wherever it was read from; or the source."""
        return "MNIST" if digits.is_mnist(self.source) else self.source

    def shared_with(self, other: "Digits") -> bool | None:
        """Whether it has digits of `other`; None where that is not known."""
        if self.sha256 and self.sha256 == other.sha256:
            return True
        if not self.split or not other.split:
            return None
        mine, others = (self._family, self.split), (other._family, other.split)
        if mine[0] == others[0] and mine[1] != others[1]:
            return False
        # The embedded digits are training digits of MNIST, all of them.
        return False if mine != others and ("MNIST", "test") in (mine, others) else None


@dataclasses.dataclass(frozen=True, eq=False)
class Contents:
    """What N sequences are.

    Attributes:
        count: N. frames: (N, 16) uint8, digests of their stored frames; (0, 16) of clips that are
            generated without end. names: (N, 16) uint8, digests of the names of their videos, 0 where
            there is none, or a number; or (0, 16).
        digits: of Moving MNIST; None for other data.
        made: a digest of the way in which frames are made of a video and stored, the same where
            equal videos have equal bytes; "" where that is not known.
    """

    count: int
    frames: np.ndarray
    names: np.ndarray
    digits: Digits | None = None
    made: str = ""


_NONE = np.zeros((0, _DIGEST), np.uint8)


def generated(count: int, of: Digits) -> Contents:
    """The contents of `count` clips of Moving MNIST that are generated from those digits."""
    return Contents(count, _NONE, _NONE, of)


def of_part(part: sources.Part) -> Contents:
    """The contents of a part of a data set, which is read for it.

    Raises:
        FileNotFoundError, ValueError: as of `records.examples`.
    """
    return _of_parts({"": part})[""]


def _of_parts(parts: Mapping[str, sources.Part]) -> dict[str, Contents]:
    """The contents of several parts; a data set that they share is read once."""
    found = {}
    for folder in {part.folder for part in parts.values()}:
        manifest, entries = records.Manifest.load(folder), records.load_index(folder)
        chosen = {
            name: np.ones(manifest.count, bool) if part.chosen is None else part.chosen
            for name, part in parts.items()
            if part.folder == folder
        }
        together = np.any(list(chosen.values()), axis=0)
        frames = _frames(folder, manifest.fingerprint, together.tobytes())
        names = _names(entries) if entries else np.zeros_like(frames)
        for name, which in chosen.items():
            found[name] = Contents(
                int(which.sum()), frames[which], names[which], _digits_of(manifest), _made(manifest)
            )
    return found


@functools.lru_cache(4)  # several evaluations in a row are of the same data
def _frames(folder, fingerprint, chosen):
    """(count, 16) uint8: the digests of the chosen sequences of a data set, 0 for the others."""
    chosen = np.frombuffer(chosen, bool)
    found = np.zeros((len(chosen), _DIGEST), np.uint8)
    for index, example in records.examples(folder, pieces=chosen.astype(np.int64)):
        feature = tf.train.Example.FromString(example.numpy()).features.feature
        data = feature["frames"].bytes_list.value[0]
        if data.count(data[:1]) < len(data):  # black clips of two videos are no copies
            found[int(index)] = _digest(data)
    return found


def _digest(data: bytes) -> np.ndarray:
    return np.frombuffer(hashlib.blake2b(data, digest_size=_DIGEST).digest(), np.uint8)


def _names(entries: Sequence[records.Entry]) -> np.ndarray:
    found = np.zeros((len(entries), _DIGEST), np.uint8)
    for i, entry in enumerate(entries):
        name = _video_name(entry)
        if not re.fullmatch("[0-9]*", PurePosixPath(name).name):
            found[i] = _digest(name.encode())
    return found


def _video_name(entry):
    """The name of an entry's video, the same whichever command of data_prep wrote the entry."""
    # Patches of one video are called NAME#0, NAME#1, .., and are of one group.
    name = re.sub(r"#[0-9]+$", "", entry.name) if entry.group else entry.name
    name = re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", name)  # the extension of a file
    official = re.search(r"v_\w+_g[0-9]+_c[0-9]+$", name)  # of UCF-101, in any folder
    return official[0] if official else name


def _made(manifest):
    fields = [
        manifest.kind,
        manifest.dtype,
        manifest.scale,
        manifest.frame_shape,
        manifest.source.get("settings"),  # all that a job's records depend on besides the videos
    ]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _digits_of(manifest):
    if manifest.kind != "moving_mnist":
        return None
    source = manifest.source
    if "generator" in source:
        return Digits(source["split"], source["digits"]["source"], source["digits"]["sha256"])
    if source.get("published_test_file"):
        return Digits("test", "MNIST, the published test file", "")
    return Digits()


# ---------------------------------------------------------------------- of a run


def learn(config: ConfigDict, pretraining: Mapping[str, Contents | None] | None = None) -> dict:
    """What a run of `config` on records will be trained and tested on, which is read for it.

    Args:
        pretraining: `of_run` of the encoder's run, for a classifier that starts from one.

    Returns:
        Part -> `Contents`: "train", "validation" and "test"; and `PRETRAINING`, None where it is
        not known, of a classifier that starts from an encoder.

    Raises:
        FileNotFoundError, ValueError: data that are missing or damaged.
    """
    found = _of_parts({name: sources.part(config, name) for name in splits.PARTS})
    if pretraining is not None:
        found[PRETRAINING] = _together(pretraining)
    return found


def _together(run):
    """All that an encoder was trained on, and chosen by; None where that is not known."""
    used = [run[name] for name in ("train", "validation")]
    if None in used:
        return None
    frames, names = (
        np.concatenate([getattr(c, field) for c in used]) for field in ("frames", "names")
    )
    made = used[0].made if len({c.made for c in used}) == 1 else ""
    return Contents(sum(c.count for c in used), frames, names, used[0].digits, made)


def write(folder: str | Path, run: Mapping[str, Contents | None]) -> None:
    """Writes `FILE` into the folder of a run: what `learn` returned."""
    arrays = {}
    for name, contents in run.items():
        if contents is None:
            continue
        arrays[f"{name}/count"] = np.array(contents.count)
        arrays[f"{name}/frames"], arrays[f"{name}/names"] = contents.frames, contents.names
        arrays[f"{name}/made"] = np.array(contents.made)
        if contents.digits is not None:
            arrays[f"{name}/digits"] = np.array(dataclasses.astuple(contents.digits))
    with files.whole(Path(folder) / FILE) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def of_run(origin: str | Path, config: ConfigDict) -> dict[str, Contents | None]:
    """What a run was trained on, part -> `Contents` as of `learn`; None where it is not known.

    Of a run that has no `FILE` it is computed anew from the data set that the config names, if that
    has not changed since.

    Args:
        origin: the folder that has its run.json, and `FILE`. config: of the run.

    Raises:
        ValueError: `FILE` is damaged. OSError: it cannot be read.
    """
    origin = Path(origin)
    wanted = [*splits.PARTS]
    if config.model.get("init", "none") != "none":
        wanted.append(PRETRAINING)
    if (origin / FILE).exists():
        found = _read(origin / FILE)
    else:
        data = json.loads((origin / "run.json").read_text(encoding="utf-8"))["data"]
        found = _recomputed(config, data)
    return {name: found.get(name) for name in wanted}


def _read(path):
    # Digests do not shrink when they are compressed; those of equal sequences, and 0, do.
    stored = files.read_arrays(path, limit=_LIMIT + 2 * path.stat().st_size)
    try:
        return {
            name: Contents(
                int(stored[f"{name}/count"]),
                _digests(stored[f"{name}/frames"]),
                _digests(stored[f"{name}/names"]),
                Digits(*map(str, stored[f"{name}/digits"])) if f"{name}/digits" in stored else None,
                str(stored[f"{name}/made"]) if f"{name}/made" in stored else "",
            )
            for name in (*splits.PARTS, PRETRAINING)
            if f"{name}/count" in stored
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error})") from None


def _digests(array):
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != _DIGEST:
        raise ValueError(f"{array.dtype} {array.shape}, digests of {_DIGEST} bytes expected")
    return array


def _recomputed(config, data):
    if not config.data.records:
        return {
            name: generated(0, Digits(name, data["source"], data["sha256"][name]))
            for name in splits.PARTS
        }
    parts = {}
    for name in splits.PARTS:
        try:
            part = sources.part(config, name)
            if records.Manifest.load(part.folder).fingerprint == data["sha256"][name]:
                parts[name] = part
        except (OSError, ValueError, KeyError):  # gone, or written anew in another way
            pass
    return _of_parts(parts)


def of_own_test(origin: str | Path, config: ConfigDict) -> dict[str, int | str]:
    """`seen` of the test part that a run has itself. Arguments and errors as of `of_run`."""
    run = of_run(origin, config)
    test = run["test"]
    return {
        name: UNKNOWN if test is None else n
        for name, n in seen(run, test or generated(0, Digits())).items()
    }


# ---------------------------------------------------------------------- judging


def seen(run: Mapping[str, Contents | None], test: Contents) -> dict[str, int | str]:
    """How many of the sequences of a test a run was trained on.

    Args:
        run: of `of_run` or `learn`.

    Returns:
        Part of the run but "test" -> the number of sequences of the test that were in it, or
        `UNKNOWN`.
    """
    shared = {name: which(run[name], test) for name in _WHAT if name in run}
    return {name: UNKNOWN if of is None else int(of.sum()) for name, of in shared.items()}


def which(contents: Contents | None, test: Contents) -> np.ndarray | None:
    """(test.count,) bool: the sequences of a test that are among others; None if not known."""
    if contents is None:
        return None
    found = np.zeros(test.count, bool)
    compared = ["frames"]
    if not contents.made or contents.made != test.made:
        compared.append("names")
    for field in compared:
        mine, others = getattr(contents, field), getattr(test, field)
        known = {digest.tobytes() for digest in mine if digest.any()}
        found |= (
            np.array([digest.tobytes() in known for digest in others], bool)
            if len(others)
            else False
        )
    if contents.digits is not None and test.digits is not None:
        shared = contents.digits.shared_with(test.digits)
        if shared:
            return np.ones(test.count, bool)
        if shared is None and not found.any():
            return None
    return found


def is_training_data(run: Mapping[str, Contents | None], test: Contents) -> str | None:
    """The part of a run that has all sequences of a test, or "train" where the test has all of that
    part, and these are enough to make it none (see `is_no_test`); or None.

    Arguments as of `seen`.
    """
    for name, n in seen(run, test).items():
        contents = run[name]
        if contents is None or not isinstance(n, int) or n == 0:
            continue
        whole = name == "train" and n == contents.count
        if n == test.count or (whole and is_no_test({name: n}, test.count)):
            return name
    return None


def is_no_test(found: Mapping[str, int | str] | None, count: int) -> bool:
    """Whether a run was trained on a hundredth, or more, of the `count` sequences of a test.

    Less is what data sets hold twice themselves: UCF-101 has clips under two names, of which one is
    for training and the other for testing.
    """
    return any(isinstance(n, int) and n > 0 and 100 * n >= count for n in (found or {}).values())


def notes(
    found: Mapping[str, int | str] | None, count: int | None, what: str = "videos"
) -> list[str]:
    """What a reader of a test's figures has to know, a sentence each; [] where all is well.

    Args:
        found: of `seen`; None for figures of an earlier version, which did not look.
        count: of the test's sequences, which are `what`; None where nobody counted them.
    """
    if found is None:
        found = dict.fromkeys(("train", "validation"), UNKNOWN)
    of = "test's" if count is None else f"{count:,}"
    said = [
        f"CAUTION: {n:,} of the {of} {what} are of the run's {name} part, {_WHAT[name]}"
        + (": this is no test" if count and is_no_test({name: n}, count) else "")
        for name, n in found.items()
        if n not in (0, UNKNOWN)
    ]
    if unknown := [name for name, n in found.items() if n == UNKNOWN]:
        said.append(
            f"CAUTION: whether the run's {' and '.join(unknown)} part had these {what} is not "
            "known: its data are gone or have changed, or what they were made from was not recorded"
        )
    return said
