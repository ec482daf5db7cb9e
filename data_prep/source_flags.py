"""The flags that say which videos, of every command that reads videos.

    --videos=FOLDER                                            the class is the sub-folder
    --list=FILE                                                lines `PATH` or `PATH LABEL`
    --layout=ucf101 --videos=FOLDER --splits_dir=FOLDER        official split files
    --layout=hmdb51 --videos=FOLDER --splits_dir=FOLDER
    --layout=tfds_ucf101 --videos=~/tensorflow_datasets        what TFDS has downloaded
    --layout=sports1m --videos=FOLDER --partition=FILE         random clips, up to --hours

--folds=5 gives videos that have no official splits five of them, for cross-validation.
"""

import dataclasses

from absl import flags

from unsup_video.data import folders, splits
from unsup_video.utils.indices import evenly_spread
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

_OF_LAYOUT = {  # beside --videos
    "list": (_LIST, _ALLOW_MISSING),
    "folder": (),
    "ucf101": (_SPLITS_DIR, _ALLOW_MISSING),
    "hmdb51": (_SPLITS_DIR, _ALLOW_MISSING),
    "tfds_ucf101": (_ALLOW_MISSING,),
    "sports1m": (_PARTITION, _HOURS, _CLIP_SECONDS, _CLIP_SEED),
}


def listing() -> listings.Listing:
    """The videos that the flags say; prints how many there are, and what is missing or not used."""
    found = _find()
    print(
        f"{found.kind}: {len(found.videos):,} videos of {found.source['videos']}, "
        f"{len(found.classes):,} classes"
    )
    unlabelled = sum(video.label < 0 for video in found.videos)
    if unlabelled:
        print(f"  without a label: {unlabelled:,}")
    for names, what in ((found.missing, "missing"), (found.ignored, "files not used")):
        if names:
            print(f"  {what}: {len(names):,}: {folders.shown(names)}")
    return _folded(_limited(found))


def _limited(found):
    limit = _LIMIT.value
    if limit is None or limit >= len(found.videos):
        return found
    print(f"  --limit: {limit:,} of them")
    videos = tuple(found.videos[i] for i in evenly_spread(limit, len(found.videos)))
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


def _find():
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
                    else ": the folder of the videos; or --list=FILE"
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
