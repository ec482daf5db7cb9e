"""The export at the end of a training command."""

from pathlib import Path

from absl import flags

from unsup_video.serving import export
from unsup_video.training import trained
from unsup_video.training.workdir import Workdir

_EXPORT = flags.DEFINE_bool("export", True, "Export the best checkpoint after training.")


def exported(workdir: Workdir) -> Path | None:
    """Exports the best checkpoint if that is not done yet; returns None with --noexport."""
    if not _EXPORT.value:
        return None
    print(f"exporting to {workdir.export} ...")
    return export.write_once(trained.load(workdir.path), workdir.export)
