"""Suggests what to run after a study that recommends a classifier of the package."""

from collections.abc import Sequence
from pathlib import Path

from unsup_video.evaluation.choosing import model, networks
from unsup_video.evaluation.choosing.sets import Sets
from unsup_video.evaluation.choosing.study import Row
from unsup_video.utils import cli


def undivided(out: Path, data: Sets, best: Row) -> dict[str, Path]:
    """Makes folders in which a data set is training, validation and test split at once.

    Returns:
        name -> folder, for each set of percepts of the recommendation.
    """
    folders = {}
    for name in best.percepts:
        folders[name] = out / "all_videos" / name
        folders[name].mkdir(parents=True, exist_ok=True)
        for part in ("train", "validation", "test"):
            link = folders[name] / part
            link.unlink(missing_ok=True)
            link.symlink_to(Path(data.videos[name].folder).resolve(), target_is_directory=True)
    return folders


def trainings(out: Path, data: Sets, best: Row, split: int) -> list[str]:
    """Returns the commands that train the recommended classifier, a run for each set of percepts.

    Without an official split, 0, they train on all videos, from the folders of `undivided`.
    """
    folders = {name: data.videos[name].folder for name in best.percepts}
    official = [f"--config.data.split={split}"]
    if not split:
        folders, official = undivided(out, data, best), []
    commands = []
    for name, folder in folders.items():
        run, init = out / "runs" / name, "none"
        if best.classifier == networks.PRETRAINED:
            init = f"{run}-pretrained"
            commands.append(
                cli.command(
                    "train.pretrain",
                    "--config=percepts_small",
                    f"--config.data.records={folder}",
                    *official,
                    f"--workdir={init}",
                )
            )
        own = networks.configs(best.classifier)["classifier"]
        given = {
            "single_frame": [
                "--config.model.kind=single_frame",
                f"--config.recipe.learning_rate={own.recipe.learning_rate:g}",
            ],
            "lstm": [f"--config.model.units={own.model.units}"],
        }
        commands.append(
            cli.command(
                "train.finetune",
                "--config=finetune_small",
                f"--init={init}",
                f"--records={folder}",
                *official,
                *given.get(best.classifier, []),
                f"--workdir={run}",
                note="" if split else "on all videos: none are left for a test",
            )
        )
    return commands


def uses(out: Path, data: Sets, best: Row, split: int, cnn: Sequence[str]) -> list[str]:
    """Returns the commands that test the runs of `trainings`, or name the actions in videos.

    Args:
        cnn: the flags of eval.action_recognition for the CNN that makes percepts, if known.
    """
    runs = [f"--workdir={out / 'runs' / name}" for name in best.percepts]
    commands = []
    if split:
        commands.append(cli.command("eval.action_recognition", *runs))
    if len(runs) == 1 and _of_pictures(data, best):
        if not cnn and model.how_made(data.videos[best.percepts[0]].folder)["sha256"]:
            cnn = ["--cnn=FILE"]
        commands.append(cli.command("eval.action_recognition", *runs, "--predict=NEW_VIDEOS", *cnn))
    return commands


def note(data: Sets, best: Row) -> str:
    """Returns what no command does for the runs of `trainings`; "" if nothing."""
    if len(best.percepts) > 1:
        return (
            "the fusion is the mean of the probabilities of these runs: eval.action_recognition "
            "computes it for labelled data sets (--records, one per run), not for new videos"
        )
    if not _of_pictures(data, best):
        return (
            "for new videos, make their percepts in the same way, and give them to "
            "eval.action_recognition --predict as .npy files (T, D)"
        )
    return ""


def _of_pictures(data, best):
    """Tells whether eval.action_recognition makes the percepts of one set from videos itself."""
    made = model.how_made(data.videos[best.percepts[0]].folder)
    return "cnn" in made and "flow" not in made
