"""Sets of percepts made from a folder of videos, to choose from."""

import dataclasses
import json
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from unsup_video.data import records
from unsup_video.evaluation.choosing import folds
from unsup_video.utils import files
from unsup_video.video import flow, flow_percepts, hof, jobs, listing, percepts, stored_flow

RGB, HOF, FLOW = "rgb", "hof", "flow"  # frames, descriptors of flow, flow drawn as images
_OPTICAL_FLOW = "optical_flow"  # the data set that `HOF` and `FLOW` are made from
_STAMP = "videos.sha256"  # beside the sets: of which videos they are
_MAX_BAD_FRACTION = 0.5  # few videos are of use without the bad ones, too


def available(cnn: percepts.Percepts | None) -> tuple[str, ...]:
    """Returns the names of the sets that can be made; without a CNN, `HOF` alone."""
    return (RGB, HOF, FLOW) if cnn else (HOF,)


def check(listed: listing.Listing, count: int) -> None:
    """Raises ValueError unless videos are of two classes, and there are `count` of each.

    Percepts take minutes, so this is checked before.
    """
    labels = np.array([video.label for video in listed.videos if video.label >= 0], int)
    if not len(labels):
        raise ValueError(
            f"{listed.source['videos']}: no video has a label. Put the videos of each class into a "
            "sub-folder with the name of the class"
        )
    folds.check(labels, np.arange(len(labels)), count, listed.classes)


def make(
    listed: listing.Listing,
    out: str | Path,
    names: Collection[str],
    cnn: percepts.Percepts | None,
    fps: float | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Path]:
    """Makes sets of percepts, OUT/NAME; those that exist are kept. Called again, it resumes.

    Args:
        listed: the videos. names: of `available`. cnn: of images. fps: frames per second to
            resample to for flow; None for the videos' own rate. That for `RGB` is the CNN's.

    Returns:
        Name of a set -> its folder.

    Raises:
        ValueError: a set is unknown, or needs a CNN; OUT has percepts of other videos or of another
            CNN; more than half of the videos cannot be used; other errors as in `jobs.run`.
    """
    if unknown := [name for name in names if name not in (RGB, HOF, FLOW)]:
        raise ValueError(
            f"percepts {unknown[0]} are not made from videos here: make them with data_prep and "
            "give --predict=NAME=FOLDER"
        )
    if cnn is None and set(names) - {HOF}:
        raise ValueError("--cnn is missing: give the same CNN and flags as in training")
    out = Path(out)
    _claim(listed, out)
    folders = {}
    for name in (RGB, HOF, FLOW):
        if name not in names:
            continue
        folders[name] = out / name
        if name == RGB:
            _made(cnn, listed, out / name, log)
            continue
        source = out / _OPTICAL_FLOW
        _made(flow.Flow(fps=fps), listed, source, log)
        job = (
            flow_percepts.described(hof.Hof(), source)
            if name == HOF
            else flow_percepts.of_images(dataclasses.replace(cnn, fps=None), source)
        )
        _made(job, stored_flow.listing(source), out / name, log)
    return folders


def _claim(listed, out):
    """Writes of which videos `out` is, or checks that it is of these; names alone do not tell."""
    path, stamp = out / _STAMP, listing.stamp(listed.videos)
    out.mkdir(parents=True, exist_ok=True)
    stored = path.read_text(encoding="utf-8").strip() if path.exists() else None
    made = any(records.exists(out / name) for name in (RGB, HOF, FLOW, _OPTICAL_FLOW))
    if stored is None and not made:
        files.write_text(path, stamp + "\n")
    elif stored != stamp:
        raise ValueError(f"{out} was made from other videos: give another --out, or delete it")


def _made(job, videos, out, log):
    """Makes a data set, or checks that it is of this job."""
    if not records.exists(out):
        log(f"{out}: {len(videos.videos):,} videos")
        jobs.run(job, videos, out, max_bad_fraction=_MAX_BAD_FRACTION, log=log)
    elif records.Manifest.load(out).source["settings"] != json.loads(json.dumps(job.settings)):
        raise ValueError(
            f"{out} was made with other settings: give another --out, or delete {out.parent}"
        )
    if unused := records.Manifest.load(out).source["unused"]:
        log(
            f"  {unused:,} of {len(videos.videos):,} videos cannot be used, see "
            f"{out / records.QUARANTINE}"
        )
