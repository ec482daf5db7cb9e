"""Flags for the output and the workers, shared by all commands that make records of videos.

To resume a command that was killed, or stopped by a full disk, run it again. By default, one
process does the work; `--num_workers=8` starts eight on this machine. Everything after `--` goes to
Apache Beam (`pip install 'unsup_video[beam]'`), which runs the same job on any cluster whose
machines see the same files:

    python -m data_prep.patches --videos=my_videos --out=data/patches -- \\
        --runner=PortableRunner --job_endpoint=localhost:8099 --environment_type=LOOPBACK
"""

import functools
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from data_prep import common
from unsup_video.data import records
from unsup_video.utils import cli
from unsup_video.video import jobs
from unsup_video.video.listing import Listing

_OUT = flags.DEFINE_string("out", None, "Folder to write.")
_SHARDS = flags.DEFINE_integer("shards", None, "Number of files; default: one per 256 MB.")
_COMPRESSION = flags.DEFINE_enum(
    "compression", "GZIP", records.COMPRESSIONS, "GZIP makes files smaller, but slower to read."
)
_MAX_BAD_FRACTION = flags.DEFINE_float(
    "max_bad_fraction", 0.05, "Fails if a larger fraction of the videos cannot be used."
)
_NUM_WORKERS = flags.DEFINE_integer("num_workers", 1, "Number of worker processes on this machine.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "Replaces an existing data set, and the unfinished work of another job."
)


def check(argv: list[str]) -> None:
    """Raises ValueError or OSError if `run` could not write --out, before any work is done."""
    if strange := [text for text in argv[1:] if not text.startswith("--")]:
        raise ValueError(f"unknown argument {strange[0]!r}: options start with --")
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder to write")
    records.check_writable(Path(_OUT.value), _COMPRESSION.value, _OVERWRITE.value)


def run(
    job: jobs.Job, listing: Listing, argv: list[str], notes: Sequence[str] = (), config: str = ""
) -> records.Manifest:
    """Writes --out, then prints its contents and what to run next; call `check` before.

    Args:
        argv: of `main`: the program's name, and Beam's flags.
        notes: lines to print after the contents.
        config: of `train.pretrain`, which is suggested with these data.
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
    notes, quarantine = list(notes), Path(out) / records.QUARANTINE
    if quarantine.exists():
        notes.append(
            f"{manifest.source['unused']:,} videos were not used, "
            f"{manifest.source['doubtful']:,} were used, but are doubtful: "
            f"see {quarantine}"
        )
    commands = []
    if config:
        fields = [f"--config={config}", f"--config.data.records={out}"]
        commands.append(cli.command("train.pretrain", *fields))
    common.print_summary(out, manifest, *notes, commands=commands)
    return manifest
