"""The flags on what is written and who works, of every command that makes records of videos.

A command that was killed, or stopped by a full disk, is started again in the same way and goes on
where it was. By default one process works; `--num_workers=8` starts eight on this machine. All that
follows `--` goes to Apache Beam (`pip install 'unsup_video[beam]'`), which runs the same job on any
cluster that sees the same files:

    python -m data_prep.patches --videos=my_videos --out=data/patches -- \\
        --runner=PortableRunner --job_endpoint=localhost:8099 --environment_type=LOOPBACK
"""

import functools
from pathlib import Path

from absl import flags

from data_prep import common
from unsup_video.data import records
from unsup_video.video import jobs
from unsup_video.video.listing import Listing

_OUT = flags.DEFINE_string("out", None, "Folder to write.")
_SHARDS = flags.DEFINE_integer("shards", None, "Number of files; default: one per 256 MB.")
_COMPRESSION = flags.DEFINE_enum(
    "compression", "GZIP", records.COMPRESSIONS, "GZIP makes files smaller and slower to read."
)
_MAX_BAD_FRACTION = flags.DEFINE_float(
    "max_bad_fraction", 0.05, "Fail where more of the videos cannot be used."
)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 1, "Number of worker processes on this machine.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replace what is there, also what another job has left unfinished."
)


def check(argv: list[str]) -> None:
    """Raises ValueError or OSError where `run` could not write --out, before there is any work."""
    if strange := [text for text in argv[1:] if not text.startswith("--")]:
        raise ValueError(f"unknown argument {strange[0]!r}: options start with --")
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder to write")
    records.check_writable(Path(_OUT.value), _COMPRESSION.value, _OVERWRITE.value)


def run(job: jobs.Job, listing: Listing, argv: list[str]) -> records.Manifest:
    """Writes --out, and says what is there and what to do with it; after `check`.

    Args:
        argv: of `main`: the program's name, and Beam's flags.
    """
    out = _OUT.value
    manifest = jobs.run(
        job,
        listing,
        out,
        shards=_SHARDS.value,
        compression=_COMPRESSION.value,
        max_bad_fraction=_MAX_BAD_FRACTION.value,
        num_workers=_NUM_WORKERS.value,
        beam_args=argv[1:],
        overwrite=_OVERWRITE.value,
        log=functools.partial(print, flush=True),
    )
    notes, quarantine = [], Path(out) / records.QUARANTINE
    if quarantine.exists():
        notes.append(
            f"{manifest.source['unused']:,} videos were not used, "
            f"{manifest.source['doubtful']:,} were used, but are doubtful: "
            f"see {quarantine}"
        )
    common.written(out, manifest, *notes)
    return manifest
