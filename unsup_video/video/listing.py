"""Lists the videos to make a data set from: a folder, a text file, or an official layout.

A `Listing` also names what is missing and what is not used; nothing is left out silently.
"""

import dataclasses
import hashlib
import math
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from unsup_video.data import folders, labelling, text
from unsup_video.data.splits import TEST, TRAIN
from unsup_video.video import decoding

UCF101_CLASSES = 101
UCF101_COUNTS = ((9537, 3783), (9586, 3734), (9624, 3696))  # train, test of the official splits
HMDB51_CLASSES = 51
HMDB51_COUNTS = (70, 30)  # train, test of every class in every split
SPORTS1M_CLASSES = 487

_EXTENSION = "|".join(re.escape(extension) for extension in decoding.EXTENSIONS)
_LINE = re.compile(rf"(?i)(.+(?:{_EXTENSION}))(?:\s+(\S.*))?")
_UCF101_NAME = re.compile(r"(?i)v_(\w+)_g([0-9]+)_c([0-9]+)")
_HMDB51_NAME = re.compile(r"(.+)_[hluf]_[cn]m_np[0-9]+_(?:fr|ri|le|ba)_(?:goo|med|bad)_[0-9]+")


@dataclasses.dataclass(frozen=True)
class Video:
    """A video, or a part of one.

    Attributes:
        path: of the file.
        name: unique in the listing, relative to the folder, with "/" on every system.
        label: index into the listing's classes, -1 without one.
        group: videos of one group (for example of one recording) are never divided between splits;
            "" for a video that is its own group.
        splits: for each official split `TRAIN`, `TEST` or 0 (unused); () without any.
        start, seconds: the part to use, in seconds; None to the end.
        number: number of the sequence in a file that holds several, from 0; None in other files.
    """

    path: str
    name: str
    label: int = -1
    group: str = ""
    splits: tuple[int, ...] = ()
    start: float = 0.0
    seconds: float | None = None
    number: int | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """A list of videos, with their classes and what is missing.

    Attributes:
        kind: "folder", "list", "ucf101", "hmdb51", "sports1m", "flow" or "input".
        videos: in an order that depends only on their names (and a seed).
        classes: names of the labels.
        missing: what should exist but does not: names of videos, or a line about a short list.
        source: the origin of the listing, JSON values.
        ignored: files in the folder that are not used, by relative name, as in `folders.files`.
    """

    kind: str
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    missing: tuple[str, ...]
    source: dict
    ignored: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.videos:
            raise ValueError(
                f"{self.source['videos']}: no video ({_shown(self.missing, 'missing')}"
                f"{_shown(self.ignored, 'not used')}extensions known: "
                f"{' '.join(decoding.EXTENSIONS)})"
            )
        for video in self.videos:
            try:
                f"{video.path}{video.name}".encode()
            except UnicodeError:
                raise ValueError(f"{video.path!r}: its name is not UTF-8; rename it") from None


def stamp(videos: Sequence[Video]) -> str:
    """Returns a sha256 that changes with the videos: of their names, labels, sizes and times.

    It covers all that a listing says of them but the paths, so that a folder may be moved.

    Raises:
        OSError: a file is missing.
    """
    digest = hashlib.sha256()
    for video in videos:
        known = dataclasses.replace(video, path="")
        digest.update(repr((known, *last_change(video.path))).encode())
    return digest.hexdigest()


def last_change(path: str | os.PathLike) -> tuple[int, int]:
    """Returns (bytes, time of the last change in ns) of a video, or of a folder of images.

    Those of a folder are of itself, which a renamed image changes, and of all files in it, since an
    image that is overwritten changes no folder.

    Raises:
        OSError: the file is missing, or the folder has none.
    """
    path = Path(path)
    own = path.stat()
    if not path.is_dir():
        return own.st_size, own.st_mtime_ns
    files = [p.stat() for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    if not files:
        raise FileNotFoundError(f"{path}: there are no files in it")
    return sum(f.st_size for f in files), max(stat.st_mtime_ns for stat in (own, *files))


def folder(path: str | os.PathLike) -> Listing:
    """Lists all videos below a folder, by name; their classes are the sub-folders of `path`.

    Videos directly in `path` have no label. The name of a sub-folder is the name of the class, even
    if it is a number. Videos are the files that `folders.files` finds with `decoding.EXTENSIONS`.

    Raises:
        FileNotFoundError, OSError: the folder does not exist or cannot be read. ValueError: it
            contains no video.
    """
    paths, ignored = folders.files(path, decoding.EXTENSIONS)
    classes = tuple(sorted({name.split("/")[0] for name in paths if "/" in name}))
    labels = {name: i for i, name in enumerate(classes)}
    videos = tuple(
        Video(str(file), name, labels[name.split("/")[0]] if "/" in name else -1)
        for name, file in paths.items()
    )
    return Listing("folder", videos, classes, (), {"videos": str(path)}, ignored)


def text_list(path: str | os.PathLike, allow_missing: bool = False) -> Listing:
    """Lists the videos in a text file, one per line, in that order: `PATH` or `PATH LABEL`.

    PATH is relative to the file's folder. It ends with the last of `decoding.EXTENSIONS` that is
    followed by white space or the end of the line, so both PATH and LABEL may contain spaces. The
    LABEL -1 means none. Classes are sorted, as numbers if all of them are numbers. Empty lines are
    skipped; there are no comments.

    Raises:
        FileNotFoundError, OSError: the list does not exist or cannot be read. ValueError: a bad
            line, with its number; a repeated video; missing videos, unless allowed; no video;
            labels that `labelling.numbers` refuses.
    """
    path = Path(path)
    entries, missing, seen = [], [], {}
    for number, line in text.lines(path):
        match = _LINE.fullmatch(line)
        if not match:
            raise ValueError(
                f"{path}, line {number}: PATH or PATH LABEL expected, where PATH ends with one of "
                f"{' '.join(decoding.EXTENSIONS)}; got {line!r}"
            )
        name, label = match.groups(labelling.NONE)
        try:
            labelling.check(label)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        file = path.parent / name
        key = os.path.realpath(file)
        if key in seen:
            raise ValueError(f"{path}, line {number}: {name} is there already, on line {seen[key]}")
        seen[key] = number
        if not file.is_file():
            missing.append(name)
            continue
        entries.append((str(file), PurePath(name).as_posix(), label))
    _refuse_missing(missing, len(seen), path, allow_missing)
    labels = {name: None if label == labelling.NONE else label for _, name, label in entries}
    videos = tuple(Video(file, name) for file, name, _ in entries)
    listed = Listing("list", videos, (), tuple(missing), {"videos": str(path)})
    return labelled(listed, labels, path)


def labelled(
    listing: Listing, labels: dict[str, str | None], where: str | os.PathLike, numbered: bool = True
) -> Listing:
    """A listing with other labels.

    Args:
        labels: of all videos, by name; None for none. Classes are sorted, as numbers where all are.
        where: the file that they are from. numbered: labels that are all numbers are meant as
            numbers, unlike the names of folders.

    Raises:
        ValueError: as of `labelling.numbers`.
    """
    given = set(labels.values()) - {None}
    try:
        numbers = labelling.numbers(given) if numbered else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    classes = tuple(sorted(given, key=numbers.get if numbers else None))
    index = {None: -1} | {label: i for i, label in enumerate(classes)}
    videos = tuple(
        dataclasses.replace(video, label=index[labels[video.name]]) for video in listing.videos
    )
    return dataclasses.replace(listing, videos=videos, classes=classes)


def ucf101(
    videos: str | os.PathLike, splits: str | os.PathLike, allow_missing: bool = False
) -> Listing:
    """Lists UCF-101 with its three official splits.

    Args:
        videos: folder of the videos, `v_CLASS_gNN_cNN.avi`, with or without sub-folders of classes.
            They are found by name, ignoring the extension and the case (the lists have
            HandStandPushups, the files HandstandPushups).
        splits: folder of classInd.txt and trainlist01.txt to testlist03.txt.
        allow_missing: accept missing videos, and lists of other lengths than the official ones.

    Returns:
        13,320 videos `CLASS/v_CLASS_gNN_cNN.avi` by name, in groups `CLASS_gNN`, with the spelling
        of classInd.txt.

    Raises:
        FileNotFoundError, OSError: a folder or list does not exist or cannot be read.
        ValueError: a bad line, with its number; something is missing, unless allowed.
    """
    splits = Path(splits)
    classes = _ucf101_classes(splits / "classInd.txt")
    labels = {name.lower(): i for i, name in enumerate(classes)}
    wanted, short = {}, []
    if len(classes) != UCF101_CLASSES:
        short.append(f"classInd.txt: {len(classes)} classes, not {UCF101_CLASSES}")
    for k, counts in enumerate(UCF101_COUNTS):
        for part, count, code in zip(("train", "test"), counts, (TRAIN, TEST), strict=True):
            path = splits / f"{part}list{k + 1:02d}.txt"
            names = 0
            for number, line in text.lines(path):
                where = f"{path}, line {number}"
                match = re.fullmatch(r"(?:[^/]+/)?([^/]+)\.avi(?:\s+([0-9]+))?", line)
                parts = match and _UCF101_NAME.fullmatch(match[1])
                if not parts or parts[1].lower() not in labels:
                    raise ValueError(
                        f"{where}: CLASS/v_CLASS_gNN_cNN.avi expected, with a class "
                        f"of classInd.txt; got {line!r}"
                    )
                label = labels[parts[1].lower()]
                if match[2] and int(match[2]) != label + 1:
                    raise ValueError(
                        f"{where}: class {match[2]}, but {classes[label]} has "
                        f"{label + 1} in classInd.txt"
                    )
                name = f"{classes[label]}/v_{classes[label]}_g{parts[2]}_c{parts[3]}.avi"
                group = f"{classes[label]}_g{parts[2]}"
                _enter(wanted, name, (label, group), k, code, len(UCF101_COUNTS), where)
                names += 1
            if names != count:
                short.append(f"{path.name}: {names:,} videos, not {count:,}")
    return _official("ucf101", videos, splits, wanted, classes, short, allow_missing)


def hmdb51(
    videos: str | os.PathLike, splits: str | os.PathLike, allow_missing: bool = False
) -> Listing:
    """Lists HMDB-51 with its three official splits.

    Args:
        videos: folder of the videos, with or without sub-folders of classes; found by name.
        splits: folder of the files `CLASS_test_splitN.txt`, with lines `NAME.avi CODE`, where CODE
            is 1 for training, 2 for testing, 0 for neither.
        allow_missing: as in `ucf101`.

    Returns:
        6,766 videos `CLASS/NAME.avi` by name. The group is the video that a clip was cut from: the
        part of NAME before the class.

    Raises the errors of `ucf101`.
    """
    splits = Path(splits)
    paths = {}
    for name, path in folders.files(splits, (".txt",))[0].items():
        if match := re.fullmatch(r"([^/]+)_test_split([123])\.txt", name):
            paths[match[1], int(match[2]) - 1] = path
    classes = tuple(sorted({name for name, _ in paths}))
    if not classes:
        raise FileNotFoundError(f"{splits}: no CLASS_test_splitN.txt is there")
    wanted, short = {}, []
    if len(classes) != HMDB51_CLASSES:
        short.append(f"{splits}: {len(classes)} classes, not {HMDB51_CLASSES}")
    for label, (name, k) in ((i, (name, k)) for i, name in enumerate(classes) for k in range(3)):
        path = paths.get((name, k), splits / f"{name}_test_split{k + 1}.txt")
        codes = Counter()
        for number, line in text.lines(path):
            match = re.fullmatch(r"([^/]+)\.avi\s+([012])", line)
            if not match:
                raise ValueError(
                    f"{path}, line {number}: NAME.avi and 0, 1 or 2 expected; got {line!r}"
                )
            code = int(match[2])
            codes[code] += 1
            parts = _HMDB51_NAME.fullmatch(match[1])
            group = parts[1].removesuffix(f"_{name}") if parts else ""
            _enter(
                wanted,
                f"{name}/{match[1]}.avi",
                (label, group),
                k,
                code,
                3,
                f"{path}, line {number}",
            )
        if (codes[TRAIN], codes[TEST]) != HMDB51_COUNTS:
            short.append(
                f"{path.name}: {codes[TRAIN]} for training and {codes[TEST]} for testing, "
                f"not {HMDB51_COUNTS[0]} and {HMDB51_COUNTS[1]}"
            )
    return _official("hmdb51", videos, splits, wanted, classes, short, allow_missing)


def tfds_ucf101(data_dir: str | os.PathLike, allow_missing: bool = False) -> Listing:
    """Lists UCF-101 as `ucf101` does, from what TensorFlow Datasets has downloaded.

    The records that TFDS prepares are not used: they have no names, one split each, and frames that
    were compressed again. But TFDS keeps the archives it extracted, with the official files.

    Args:
        data_dir: TFDS' folder, such as ~/tensorflow_datasets. Nothing is downloaded.

    Raises:
        FileNotFoundError: the extracted videos or split files do not exist; the message says how to
            get them. Other errors as in `ucf101`.
    """
    extracted = Path(data_dir) / "downloads" / "extracted"
    matches = [sorted(extracted.glob(f"*/{name}")) for name in ("UCF101", "ucfTrainTestlist")]
    if not all(matches):
        raise FileNotFoundError(
            f"{extracted}: no */UCF101 and */ucfTrainTestlist, which TFDS leaves there: "
            f"`tfds build ucf101/ucf101_1 --data_dir={data_dir}` makes them (it needs the internet "
            "and ffmpeg; what it prepares beyond them is not used); or fetch videos and split "
            "files yourself"
        )
    return ucf101(matches[0][-1], matches[1][-1], allow_missing)


def sports1m(
    partition: str | os.PathLike,
    videos: str | os.PathLike,
    hours: float = 300.0,
    seed: int = 0,
    seconds: float = 10.0,
) -> Listing:
    """Lists random clips of the Sports-1M videos that have been downloaded.

    There is at most one clip per video, until `hours` are full. The choice and order of the videos
    and the start of each clip depend only on the seed, the video's id and its length, so another
    video in the folder, or more hours, do not change the other clips. A shorter video is used as a
    whole. If the length of a video is not known, its clip is the beginning. A file that cannot be
    opened is listed, too, with a duration of 0, so that a job will report it.

    Args:
        partition: a file such as train_partition.txt, with lines
            `https://www.youtube.com/watch?v=ID 12,34`: the address and one or more classes. The
            classes of repeated lines for a video are merged.
        videos: folder of the videos `ID.mp4`, with any of `decoding.EXTENSIONS`.

    Returns:
        Videos named by id, in the order of choice. The label is the class of a video with exactly
        one class, -1 for others; classes are numbers. Videos of the partition that are not in the
        folder are in `missing`. This is no error, because YouTube has removed many.

    Raises:
        FileNotFoundError, OSError, ValueError: as in `text_list`; no clip fits into `hours`.
    """
    if not 0 < seconds <= hours * 3600 < math.inf:
        raise ValueError(f"clips of {seconds} s do not fit into {hours} hours")
    partition = Path(partition)
    paths, ignored = folders.files(videos, decoding.EXTENSIONS)
    by_id = _by_stem(paths)
    labels = {}
    for number, line in text.lines(partition):
        match = re.fullmatch(r"(\S+)\s+([0-9]+(?:,[0-9]+)*)", line)
        ids = urllib.parse.parse_qs(urllib.parse.urlsplit(match[1]).query).get("v") if match else ()
        given = {int(label) for label in match[2].split(",")} if match else {SPORTS1M_CLASSES}
        if not ids or max(given) >= SPORTS1M_CLASSES:
            raise ValueError(
                f"{partition}, line {number}: an address with v=ID and classes below "
                f"{SPORTS1M_CLASSES}, 12,34, expected; got {line!r}"
            )
        labels.setdefault(ids[0], set()).update(given)

    chosen, left = [], hours * 3600
    there = [name for name in labels if name in by_id]
    for name in sorted(there, key=lambda name: _random(seed, name, "order")):
        path = str(paths[by_id[name]])
        start, length, taken = _clip(path, seconds, _random(seed, name, "start"))
        if taken > left:
            break
        left -= taken
        label = min(labels[name]) if len(labels[name]) == 1 else -1
        chosen.append(Video(path, name, label, start=start, seconds=length))
    missing = tuple(name for name in labels if name not in by_id)
    used = {by_id[name] for name in there}
    source = {
        "videos": str(videos),
        "partition": str(partition),
        "hours": hours,
        "seed": seed,
        "seconds": seconds,
        "clips_hours": round(hours - left / 3600, 4),
    }
    return Listing(
        "sports1m",
        tuple(chosen),
        tuple(map(str, range(SPORTS1M_CLASSES))),
        missing,
        source,
        ignored + tuple(name for name in paths if name not in used),
    )


def _clip(path, seconds, fraction):
    """Returns (start, seconds of a `Video`, duration) of a clip, from what the file claims."""
    try:
        claims = decoding.info(path)
    except decoding.VideoError:
        return 0.0, seconds, 0.0
    if not claims.frames or not claims.fps:
        return 0.0, seconds, seconds
    count = round(seconds * claims.fps)
    if claims.frames <= count:
        return 0.0, None, claims.frames / claims.fps
    first = int(fraction * (claims.frames - count + 1))
    return first / claims.fps, seconds, seconds


def _random(seed, name, purpose):
    """Returns a number in [0, 1) that depends on the arguments alone."""
    digest = hashlib.sha256(f"{seed} {purpose} {name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


# ---------------------------------------------------------------------- official layouts


def _ucf101_classes(path):
    classes = []
    for number, line in text.lines(path):
        match = re.fullmatch(r"([0-9]+)\s+(\w+)", line)
        if not match or int(match[1]) != len(classes) + 1:
            raise ValueError(
                f"{path}, line {number}: `{len(classes) + 1} CLASS` expected, got {line!r}"
            )
        classes.append(match[2])
    return tuple(classes)


def _enter(wanted, name, known, k, code, splits, where):
    """Records in `wanted` that the split with index k contains a video, with its code."""
    codes = wanted.setdefault(name, (*known, [None] * splits))[-1]
    if codes[k] is not None:
        raise ValueError(f"{where}: {name} is in split {k + 1} already")
    codes[k] = code


def _official(kind, videos, splits, wanted, classes, short, allow_missing):
    """Lists the videos `wanted`, {name: (label, group, codes)}, that exist."""
    paths, ignored = folders.files(videos, decoding.EXTENSIONS)
    by_stem = _by_stem(paths, str.lower)
    listed, missing, used = [], [], set()
    for name, (label, group, codes) in sorted(wanted.items()):
        file = by_stem.get(PurePath(name).stem.lower())
        if file is None:
            missing.append(name)
            continue
        used.add(file)
        codes = tuple(code or 0 for code in codes)
        listed.append(Video(str(paths[file]), name, label, group, codes))
    if short and not allow_missing:
        raise ValueError(
            f"{splits}: not the official lists: {folders.shown(short)}. Fetch them "
            "again, or continue with them by --allow_missing"
        )
    _refuse_missing(missing, len(wanted), videos, allow_missing)
    ignored += tuple(name for name in paths if name not in used)
    return Listing(
        kind,
        tuple(listed),
        classes,
        (*short, *missing),
        {"videos": str(videos), "splits": str(splits)},
        ignored,
    )


def _refuse_missing(missing, total, where, allow_missing):
    if missing and not allow_missing:
        raise ValueError(
            f"{where}: {len(missing):,} of {total:,} videos are missing: "
            f"{folders.shown(missing)}. Get them, or continue without them by "
            "--allow_missing"
        )


def _shown(names: Sequence[str], what: str) -> str:
    return f"{what}: {folders.shown(names)}; " if names else ""


# ---------------------------------------------------------------------- files


def _by_stem(names, key=str):
    """Returns {name of a file without folders and extension: name} for files from a folder."""
    result = {}
    for name in names:
        stem = key(PurePath(name).stem)
        if stem in result:
            raise ValueError(f"two files for one video: {result[stem]} and {name}; remove one")
        result[stem] = name
    return result
