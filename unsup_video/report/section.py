"""Base class of the page's sections: each computes its evaluation and lays out its content."""

import dataclasses
from collections.abc import Callable, Sequence

from unsup_video.evaluation import results
from unsup_video.report.cells import Table
from unsup_video.training.trained import TrainedModel


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of `eval.report` that its evaluations depend on.

    Attributes:
        clips: number of test clips of future_prediction; None for all.
        records: a data set of data_prep's to test on; None for the run's own.
        convention: of the metrics, one of `metrics.CONVENTIONS`; None for the first.
        recompute: replace stored evaluations.
    """

    clips: int | None = None
    records: str | None = None
    convention: str | None = None
    recompute: bool = False


class Section:
    """A section of the page; `sections.SECTIONS` lists them all.

    Attributes:
        anchor: its id on the page. title: its heading.
        template: the file of templates/ that lays out the result of `content`.
        kind: of the evaluations that it shows, which other sections may show, too; "" if it shows
            only files of runs or of studies.
    """

    anchor: str
    title: str
    template: str
    kind: str = ""

    def applies_to(self, trained: TrainedModel) -> bool:
        """Tells whether `evaluate` has to be called for a model."""
        return False

    def evaluate(
        self, trained: TrainedModel, options: Options, log: Callable[[str], None]
    ) -> results.Evaluation:
        """Reads or computes the evaluation of a model that the section applies to.

        Raises:
            Unsuitable: the evaluation does not exist for this model; the page gives the reason.
            ValueError, OSError: the model cannot be tested on these data; a stored evaluation is
                damaged.
        """
        raise NotImplementedError

    def summary(self, runs: list, studies: Sequence) -> Table | None:
        """Returns a table for the head of the page; None without one."""
        return None

    def content(self, runs: list, studies: Sequence) -> dict | None:
        """Returns the variables of the template; None leaves the section out.

        Args:
            runs: `report.Run`s. studies: `report.Study`s.
        """
        raise NotImplementedError

    def evaluated(self, runs: list) -> list:
        """Returns the runs that have an evaluation of this kind, or a reason why not."""
        return [run for run in runs if self.kind in run.evaluations]

    def commands(self, runs: list) -> list[str]:
        """Returns the commands that make the evaluations of this kind."""
        evaluations = [run.evaluations[self.kind] for run in self.evaluated(runs)]
        return list(dict.fromkeys(e.command for e in evaluations if not isinstance(e, str)))
