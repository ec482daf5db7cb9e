"""Flags for the input videos, shared by all commands that read videos.

    --videos=FOLDER                                            classes are sub-folders
    --list=FILE                                                lines `PATH` or `PATH LABEL`
    --layout=ucf101 --videos=FOLDER --splits_dir=FOLDER        official split files
    --layout=hmdb51 --videos=FOLDER --splits_dir=FOLDER
    --layout=tfds_ucf101 --videos=~/tensorflow_datasets        downloaded by TFDS
    --layout=sports1m --videos=FOLDER --partition=FILE         random clips, up to --hours

--labels=FILE and --groups=FILE give the videos of a folder other labels, and groups, for example of
one recording, which no split divides. Their lines are `NAME LABEL` and `NAME GROUP`; NAME is
relative to the folder. --folds=5 gives videos without official splits five of them, for
cross-validation.
"""

import dataclasses

from absl import flags

from unsup_video.data import folders, labelling, splits, text
from unsup_video.utils.indices import evenly_spread
from unsup_video.video import listing as listings

_LAYOUTS = ("folder", "ucf101", "hmdb51", "tfds_ucf101", "sports1m")

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of the videos.")
_LIST = flags.DEFINE_string(
    "list", None, "Text file with lines `PATH` or `PATH LABEL`, instead of --videos."
)
_LAYOUT = flags.DEFINE_enum("layout", "folder", _LAYOUTS, "Layout of --videos.")
_SPLITS_DIR = flags.DEFINE_string(
    "splits_dir", None, "Folder of the official split files of UCF-101 or HMDB-51."
)
_PARTITION = flags.DEFINE_string(
    "partition", None, "Sports-1M's list, with lines `ADDRESS CLASS,CLASS`."
)
_HOURS = flags.DEFINE_float("hours", 300.0, "Maximum total duration of Sports-1M's clips in hours.")
_CLIP_SECONDS = flags.DEFINE_float("clip_seconds", 10.0, "Duration of a clip of Sports-1M.")
_CLIP_SEED = flags.DEFINE_integer("clip_seed", 0, "Seed of the choice of Sports-1M's clips.")
_ALLOW_MISSING = flags.DEFINE_bool(
    "allow_missing", False, "Continues without missing videos, and lists them."
)
_LIMIT = flags.DEFINE_integer(
    "limit", None, "Maximum number of videos, evenly spaced, to try something out.", lower_bound=1
)
_FOLDS = flags.DEFINE_integer(
    "folds", None, "Number of splits to make; each video is in the test list of one of them."
)

_LABELS = flags.DEFINE_string(
    "labels", None, "Text file with lines `NAME LABEL` for all videos; the label -1 means none."
)
_GROUPS = flags.DEFINE_string("groups", None, "Text file with lines `NAME GROUP` for all videos.")

_FLAGS_OF_LAYOUT = {  # in addition to --videos
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
    """Lists the videos that the flags choose; prints their number and what is missing or unused.

    Args:
        given: the videos, if a flag of the command, `by`, chooses them. what: their name in
            messages.
    """
    if given is None:
        chosen = _list_videos(by)
    else:
        for flag in (_VIDEOS, _LIST, _LAYOUT, *sum(_FLAGS_OF_LAYOUT.values(), ())):
            if flag.present:
                raise ValueError(f"--{flag.name} does not go with --{by}")
        chosen = given
    chosen = _grouped(_labelled(chosen))
    print(
        f"{chosen.kind}: {len(chosen.videos):,} {what} of {chosen.source['videos']}, "
        f"{len(chosen.classes):,} classes"
    )
    unlabelled = sum(video.label < 0 for video in chosen.videos)
    if unlabelled:
        print(f"  without a label: {unlabelled:,}")
    for names, what in ((chosen.missing, "missing"), (chosen.ignored, "files not used")):
        if names:
            print(f"  {what}: {len(names):,}: {folders.shown(names)}")
    return _fold(_limit(chosen))


def _labelled(chosen):
    if _LABELS.value is None:
        return chosen
    _check_own(chosen, _LABELS)
    given = text.values(_LABELS.value, [video.name for video in chosen.videos], "LABEL")
    labels = {
        name: None if label == labelling.NONE else label for name, (_, label) in given.items()
    }
    return listings.labelled(chosen, labels, _LABELS.value)


def _grouped(chosen):
    if _GROUPS.value is None:
        return chosen
    _check_own(chosen, _GROUPS)
    given = text.values(_GROUPS.value, [video.name for video in chosen.videos], "GROUP")
    videos = tuple(
        dataclasses.replace(video, group=given[video.name][1]) for video in chosen.videos
    )
    return dataclasses.replace(chosen, videos=videos)


def _check_own(chosen, flag):
    if chosen.kind not in ("folder", "input", "list"):
        raise ValueError(f"--{flag.name} does not go with {chosen.kind}, which has its own")


def _limit(chosen):
    limit = _LIMIT.value
    if limit is None or limit >= len(chosen.videos):
        return chosen
    print(f"  --limit: {limit:,} of them")
    videos = tuple(chosen.videos[i] for i in evenly_spread(limit, len(chosen.videos)))
    return dataclasses.replace(chosen, videos=videos, source={**chosen.source, "limit": limit})


def _fold(chosen):
    if _FOLDS.value is None:
        return chosen
    if any(video.splits for video in chosen.videos):
        raise ValueError(f"--folds does not go with {chosen.kind}, which has official splits")
    dealt = splits.folds(
        [video.label for video in chosen.videos],
        [video.group or video.name for video in chosen.videos],
        _FOLDS.value,
    )
    videos = tuple(
        dataclasses.replace(video, splits=codes)
        for video, codes in zip(chosen.videos, dealt, strict=True)
    )
    return dataclasses.replace(
        chosen, videos=videos, source={**chosen.source, "folds": _FOLDS.value}
    )


def _list_videos(by):
    layout = "list" if _LIST.value is not None else _LAYOUT.value
    if layout == "list" and (_VIDEOS.present or _LAYOUT.present):
        raise ValueError("--list does not go with --videos or --layout: it says where videos are")
    names = {flag.name for flag in _FLAGS_OF_LAYOUT[layout]}
    for flag in sum(_FLAGS_OF_LAYOUT.values(), ()):
        if flag.present and flag.name not in names:
            raise ValueError(f"--{flag.name} does not go with --layout={layout}")
    for flag in (_LIST if layout == "list" else _VIDEOS, *_FLAGS_OF_LAYOUT[layout]):
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
