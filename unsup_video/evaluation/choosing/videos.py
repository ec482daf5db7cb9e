"""Sets of percepts made from a folder of videos, to choose from."""

import json
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from unsup_video.data import records
from unsup_video.evaluation.choosing import folds
from unsup_video.video import flow, flow_percepts, hof, jobs, listing, percepts, stored_flow

RGB, HOF, FLOW = "rgb", "hof", "flow"  # frames, descriptors of flow, flow drawn as images
_OPTICAL_FLOW = "optical_flow"  # the data set that `HOF` and `FLOW` are made from
_MAX_BAD_FRACTION = 0.5  # few videos are of use without the bad ones, too


def available(cnn: percepts.Percepts | None) -> tuple[str, ...]:
    """Returns the names of the sets that can be made; without a CNN, `HOF` alone."""
    return (RGB, HOF, FLOW) if cnn else (HOF,)


def check(videos: str | Path, count: int) -> None:
    """Raises ValueError unless a folder has videos of two classes, and `count` of each.

    Percepts take minutes, so this is checked before; other errors are those of `listing.folder`.
    """
    listed = listing.folder(videos)
    labels = np.array([video.label for video in listed.videos if video.label >= 0], int)
    if not len(labels):
        raise ValueError(
            f"{videos}: no video has a label. Put the videos of each class into a sub-folder with "
            "the name of the class"
        )
    folds.check(labels, np.arange(len(labels)), count, listed.classes)


def make(
    videos: str | Path,
    out: str | Path,
    names: Collection[str],
    cnn: percepts.Percepts | None,
    log: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Makes sets of percepts, OUT/NAME; those that exist are kept. Called again, it resumes.

    Args:
        videos: a folder; its sub-folders are classes. names: of `available`. cnn: of images.

    Returns:
        Name of a set -> its folder.

    Raises:
        ValueError: OUT has percepts of other videos or of another CNN; more than half of the videos
            cannot be used; other errors as in `listing.folder` and `jobs.run`.
    """
    out = Path(out)
    listed = listing.folder(videos)
    folders = {}
    for name in (RGB, HOF, FLOW):
        if name not in names:
            continue
        folders[name] = out / name
        if name == RGB:
            _made(cnn, listed, out / name, log)
            continue
        source = out / _OPTICAL_FLOW
        _made(flow.Flow(), listed, source, log)
        job = (
            flow_percepts.described(hof.Hof(), source)
            if name == HOF
            else flow_percepts.of_images(cnn, source)
        )
        _made(job, stored_flow.listing(source), out / name, log)
    return folders


def _made(job, videos, out, log):
    """Makes a data set, or checks that it is of these videos and of this job."""
    if not records.exists(out):
        log(f"{out}: {len(videos.videos):,} videos")
        jobs.run(job, videos, out, max_bad_fraction=_MAX_BAD_FRACTION, log=log)
    elif problem := _problem(job, videos, out):
        raise ValueError(f"{out} was made {problem}: give another --out, or delete {out}")
    if unused := records.Manifest.load(out).source["unused"]:
        log(
            f"  {unused:,} of {len(videos.videos):,} videos cannot be used, see "
            f"{out / records.QUARANTINE}"
        )


def _problem(job, videos, out):
    manifest = records.Manifest.load(out)
    if manifest.source["settings"] != json.loads(json.dumps(job.settings)):
        return "with other settings"
    known = {video.name: video.label for video in videos.videos}
    entries = records.load_index(out)
    changed = any(known.get(entry.name) != entry.label for entry in entries)
    if changed or len(entries) + manifest.source["unused"] != len(known):
        return "from other videos"
    return None
