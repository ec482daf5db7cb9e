"""The files that a run writes into its folder; only the first of its processes writes them."""

from typing import Self

from unsup_video.training import checkpoints
from unsup_video.training.summaries import TensorBoard
from unsup_video.training.trainer import Trainer
from unsup_video.training.workdir import Workdir


class Record:
    """Writes run.json, metrics, checkpoints, samples and TensorBoard's files of a run.

    Creating it removes the checkpoints and the lines of metrics.jsonl after the checkpoint that the
    run resumes from. Newer files in tb/ and samples/ stay; samples are drawn again under the same
    names.
    """

    def __init__(self, trainer: Trainer, workdir: Workdir, info: dict):
        """Writes `info` to run.json, see `Workdir.write_run_info`."""
        self.trainer = trainer
        self.workdir = workdir
        workdir.write_run_info(info)
        trainer.task.write(workdir)
        checkpoints.discard_after(workdir.checkpoints, trainer.step)
        workdir.truncate_metrics(trainer.step)
        self.board = TensorBoard(workdir.tb)

    def figures(self, split: str, values: dict[str, float]) -> None:
        step, elapsed_s = self.trainer.step, self.trainer.elapsed_s
        self.board.scalars(step, {f"{split}/{name}": v for name, v in values.items()})
        self.workdir.append_metrics(
            {"step": step, "split": split, "elapsed_s": elapsed_s, **values}
        )

    def validation(self, scores: dict[str, float], is_best: bool) -> None:
        trainer = self.trainer
        self.figures("validation", scores)
        if is_best:
            checkpoints.save_best(
                self.workdir.checkpoints, trainer.step, trainer.weights(), {"scores": scores}
            )
        trainer.task.sample(self.workdir, self.board, trainer.step)

    def save(self) -> None:
        self.trainer.save(self.workdir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.board.close()


class NoRecord:
    """Stands in for a `Record` in the processes that write nothing."""

    def figures(self, split: str, values: dict[str, float]) -> None: ...

    def validation(self, scores: dict[str, float], is_best: bool) -> None: ...

    def save(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, traceback) -> None: ...
