"""The flags that say which videos, of every command that reads videos.

    --videos=FOLDER                                            the class is the sub-folder
    --list=FILE                                                lines `PATH` or `PATH LABEL`
    --layout=ucf101 --videos=FOLDER --splits_dir=FOLDER        official split files
    --layout=hmdb51 --videos=FOLDER --splits_dir=FOLDER
    --layout=tfds_ucf101 --videos=~/tensorflow_datasets        what TFDS has downloaded
    --layout=sports1m --videos=FOLDER --partition=FILE         random clips, up to --hours

--labels=FILE and --groups=FILE give the videos of a folder other labels, and groups: of one
recording, say, which no split divides. They have lines `NAME LABEL` and `NAME GROUP`; NAME is
relative to the folder. --folds=5 gives videos that have no official splits five of them, for
cross-validation.
"""

import dataclasses

from absl import flags

from unsup_video.data import folders, labelling, splits, text
from unsup_video.video import listing as listings

_LAYOUTS = ("folder", "ucf101", "hmdb51", "tfds_ucf101", "sports1m")

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of the videos.")
_LIST = flags.DEFINE_string("list", None, "Text file of `PATH` or `PATH LABEL`, for --videos.")
_LAYOUT = flags.DEFINE_enum("layout", "folder", _LAYOUTS, "What --videos is.")
_SPLITS_DIR = flags.DEFINE_string("splits_dir", None, "Official split files of UCF-101, HMDB-51.")
_PARTITION = flags.DEFINE_string("partition", None, "Sports-1M's list: `ADDRESS CLASS,CLASS`.")
_HOURS = flags.DEFINE_float("hours", 300.0, "Most hours of Sports-1M's clips.")
_CLIP_SECONDS = flags.DEFINE_float("clip_seconds", 10.0, "Of a clip of Sports-1M.")
_CLIP_SEED = flags.DEFINE_integer("clip_seed", 0, "Which clips of Sports-1M.")
_ALLOW_MISSING = flags.DEFINE_bool(
    "allow_missing", False, "Go on without the videos that are missing, and list them."
)
_LIMIT = flags.DEFINE_integer(
    "limit", None, "At most so many videos, evenly spread: to try something out.", lower_bound=1
)
_FOLDS = flags.DEFINE_integer(
    "folds", None, "Make so many splits: each video is for testing in one of them."
)

_LABELS = flags.DEFINE_string("labels", None, "Text file of `NAME LABEL`, of all videos; -1: none.")
_GROUPS = flags.DEFINE_string("groups", None, "Text file of `NAME GROUP`, of all videos.")

_OF_LAYOUT = {  # beside --videos
    "list": (_LIST, _ALLOW_MISSING),
    "folder": (),
    "ucf101": (_SPLITS_DIR, _ALLOW_MISSING),
    "hmdb51": (_SPLITS_DIR, _ALLOW_MISSING),
    "tfds_ucf101": (_ALLOW_MISSING,),
    "sports1m": (_PARTITION, _HOURS, _CLIP_SECONDS, _CLIP_SEED),
}


def listing(
    given: listings.Listing | None = None, by: str = "", what: str = "videos"
) -> listings.Listing:
    """The videos that the flags say; prints how many there are, and what is missing or not used.

    Args:
        given: the videos, where a flag of the command, `by`, says them. what: they are, for people.
    """
    if given is None:
        found = _find(by)
    else:
        for flag in (_VIDEOS, _LIST, _LAYOUT, *sum(_OF_LAYOUT.values(), ())):
            if flag.present:
                raise ValueError(f"--{flag.name} does not go with --{by}")
        found = given
    found = _grouped(_labelled(found))
    print(
        f"{found.kind}: {len(found.videos):,} {what} of {found.source['videos']}, "
        f"{len(found.classes):,} classes"
    )
    unlabelled = sum(video.label < 0 for video in found.videos)
    if unlabelled:
        print(f"  without a label: {unlabelled:,}")
    for names, what in ((found.missing, "missing"), (found.ignored, "files not used")):
        if names:
            print(f"  {what}: {len(names):,}: {folders.shown(names)}")
    return _folded(_limited(found))


def _labelled(found):
    if _LABELS.value is None:
        return found
    _check_own(found, _LABELS)
    given = text.values(_LABELS.value, [video.name for video in found.videos], "LABEL")
    labels = {
        name: None if label == labelling.NONE else label for name, (_, label) in given.items()
    }
    return listings.labelled(found, labels, _LABELS.value)


def _grouped(found):
    if _GROUPS.value is None:
        return found
    _check_own(found, _GROUPS)
    given = text.values(_GROUPS.value, [video.name for video in found.videos], "GROUP")
    videos = tuple(dataclasses.replace(video, group=given[video.name][1]) for video in found.videos)
    return dataclasses.replace(found, videos=videos)


def _check_own(found, flag):
    if found.kind not in ("folder", "input", "list"):
        raise ValueError(f"--{flag.name} does not go with {found.kind}, which has its own")


def _limited(found):
    limit = _LIMIT.value
    if limit is None or limit >= len(found.videos):
        return found
    print(f"  --limit: {limit:,} of them")
    videos = tuple(found.videos[i * len(found.videos) // limit] for i in range(limit))
    return dataclasses.replace(found, videos=videos, source={**found.source, "limit": limit})


def _folded(found):
    if _FOLDS.value is None:
        return found
    if any(video.splits for video in found.videos):
        raise ValueError(f"--folds does not go with {found.kind}, which has official splits")
    dealt = splits.folds(
        [video.label for video in found.videos],
        [video.group or video.name for video in found.videos],
        _FOLDS.value,
    )
    videos = tuple(
        dataclasses.replace(video, splits=of) for video, of in zip(found.videos, dealt, strict=True)
    )
    return dataclasses.replace(found, videos=videos, source={**found.source, "folds": _FOLDS.value})


def _find(by):
    layout = "list" if _LIST.value is not None else _LAYOUT.value
    if layout == "list" and (_VIDEOS.present or _LAYOUT.present):
        raise ValueError("--list does not go with --videos or --layout: it says where videos are")
    names = {flag.name for flag in _OF_LAYOUT[layout]}
    for flag in sum(_OF_LAYOUT.values(), ()):
        if flag.present and flag.name not in names:
            raise ValueError(f"--{flag.name} does not go with --layout={layout}")
    for flag in (_LIST if layout == "list" else _VIDEOS, *_OF_LAYOUT[layout]):
        if flag.value in (None, ""):  # "" would be this folder
            raise ValueError(
                f"--{flag.name} is missing"
                + (
                    f": --layout={layout} needs it"
                    if flag is not _VIDEOS
                    else f": the folder of the videos; or --list=FILE{f' or --{by}' if by else ''}"
                )
            )
    if layout == "list":
        return listings.text_list(_LIST.value, _ALLOW_MISSING.value)
    if layout == "folder":
        return listings.folder(_VIDEOS.value)
    if layout == "tfds_ucf101":
        return listings.tfds_ucf101(_VIDEOS.value, _ALLOW_MISSING.value)
    if layout == "sports1m":
        return listings.sports1m(
            _PARTITION.value, _VIDEOS.value, _HOURS.value, _CLIP_SEED.value, _CLIP_SECONDS.value
        )
    official = listings.ucf101 if layout == "ucf101" else listings.hmdb51
    return official(_VIDEOS.value, _SPLITS_DIR.value, _ALLOW_MISSING.value)
