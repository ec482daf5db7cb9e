"""Measures the gain from pretraining when labels are few: the paper's figure 12 and table 3.

Classifiers of every kind are trained on the same random subsets of the labelled videos, k of each
class, and tested on the test split, so that their differences are paired. A study is a folder;
starting the study again resumes it:

    settings.json            the settings of the study
    fits/CONTENDER-K.jsonl   one line per trained classifier
    results.csv              the accuracies on the test split; results.json, the summary
    table.md, figure_12.png  the table and the figure to look at
"""

import copy
import csv
import dataclasses
import io
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unsup_video.evaluation import intervals
from unsup_video.pictures import fonts, visualize
from unsup_video.utils import files

BASELINE = "LSTM"  # the classifier from random weights, which the others are compared with
LINEAR = {"single frame": "single_frame", "mean frame": "mean_frame"}  # name -> kind of classifier
STATE = "state of "  # prefix of a pretrained model's name: regression on its encoder's state
LINEAR_FACTOR = 10.0  # the learning rate of a regression, times that of an LSTM
_SETTINGS, _FITS = "settings.json", "fits"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a study, as JSON values.

    Attributes:
        config: the classifiers' config as a dict, a complete one like `configs.finetune`.
        pretrained: name -> {"path", "sha256"} and the kind of the models whose encoders are tried.
        data: sha256 of the labelled videos.
        per_class: numbers of labelled videos of each class; 0 for all.
        subsets: number of random subsets of each size, the same for every contender. With all
            videos there are as many seeds of the classifier instead, at most `search_subsets`.
        epochs: minimum number of passes over the labelled videos; `config["train"]["steps"]` is the
            minimum number of steps.
        learning_rates, dropouts: the values to search over, for each contender and number of
            videos, with `search_subsets` subsets of the training split, scored on the validation
            split. Regression has no dropout, and uses `LINEAR_FACTOR` times these rates: its one
            kernel has many inputs, for which `optimizers.rate_factor` lowers the rate most.
        seed: of the subsets and of the initial weights.
    """

    config: dict
    pretrained: dict[str, dict]
    data: str
    per_class: tuple[int, ...] = (1, 2, 4, 10, 0)
    subsets: int = 10
    epochs: int = 12
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    dropouts: tuple[float, ...] = (0.5,)
    search_subsets: int = 5
    seed: int = 0

    def contenders(self) -> list[str]:
        """Returns the names: the baselines, then the pretrained models as LSTMs and as states."""
        return [*LINEAR, BASELINE, *self.pretrained, *(STATE + name for name in self.pretrained)]

    def classifier(self, contender: str) -> tuple[str, str | None]:
        """Returns (a kind of `classifiers.KINDS`, the name of the pretrained model or None)."""
        if contender in self.pretrained:
            return "lstm", contender
        if contender in (BASELINE, *LINEAR):
            return LINEAR.get(contender, "lstm"), None
        return "state", contender.removeprefix(STATE)


@dataclasses.dataclass(frozen=True)
class Summary:
    """A contender's figures with one number of labelled videos.

    Attributes:
        contender, per_class: name of the contender, number of labelled videos per class.
        learning_rate, dropout: the chosen values; None where training diverged with all of them.
        accuracies: on the test videos, in %, one per subset; () where training diverged.
        mean, std: mean and sample standard deviation of the accuracies; std is NaN of a single one,
            both are NaN of none.
        difference: the mean gain over the baseline on the same subset; low, high: its 95% interval
            over subsets (Student's t), None where there is none; all None for the baseline, and
            where one of the two has no accuracies.
        diverged: the (learning rate, dropout) that were excluded because training diverged with
            them; the dropout is None in studies of an earlier version.
    """

    contender: str
    per_class: int
    learning_rate: float | None
    dropout: float | None
    accuracies: tuple[float, ...]
    mean: float
    std: float
    difference: float | None
    low: float | None
    high: float | None
    diverged: tuple[tuple[float, float | None], ...] = ()


def run(
    settings: Settings,
    folder: str | Path,
    processes: int = 1,
    log: Callable[[str], None] = print,
    seen: dict | None = None,
    classes: int | None = None,
    fits: Callable | None = None,
) -> list[Summary]:
    """Runs, or resumes, the study in `folder`.

    A learning rate and dropout with which training diverges, in the search or in a fit for the
    test, are excluded for that contender and number of videos, and the next best ones are used.

    Args:
        processes: number of processes that train contenders in parallel.
        seen: stored with the results: `overlap.seen` of the test split, for the labelled videos
            ("") and for each pretrained model by its name.
        classes: number of classes of the data, stored with the results.
        fits: (settings, contender, per_class) -> an object that trains as `few_labels_fits.Fits`
            does, which is the default; one that cannot be pickled needs `processes` = 1.

    Raises:
        ValueError: the folder holds another study, the settings are bad, or the data or models do
            not fit.
    """
    _check(settings)
    folder = Path(folder)
    (folder / _FITS).mkdir(parents=True, exist_ok=True)
    with files.lock(folder):
        _claim(settings, folder)
        names = _contenders(settings, folder)
        tasks = [(settings, folder, name, k, fits) for k in settings.per_class for name in names]
        began = time.perf_counter()
        for number, (name, k) in enumerate(_worked(tasks, processes), 1):
            minutes = (time.perf_counter() - began) / 60
            log(f"{number} of {len(tasks)}: {name}, {number_text(k)} per class; {minutes:.1f} min")
        summaries = summarize(settings, folder)
        _write(settings, summaries, folder, {"seen": seen, "classes": classes})
    return summaries


def _check(settings):
    if not settings.per_class or min(settings.per_class) < 0:
        raise ValueError("numbers of labelled videos must be at least 1, or 0 for all of them")
    if len(set(settings.per_class)) < len(settings.per_class):
        raise ValueError("a number of labelled videos is given twice")
    for name in ("subsets", "epochs", "search_subsets"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(settings, name)}")
    if not settings.learning_rates or not all(0 < r < math.inf for r in settings.learning_rates):
        raise ValueError("learning rates must be finite and above 0")
    if not settings.dropouts or not all(0 <= rate < 1 for rate in settings.dropouts):
        raise ValueError("rates of dropout must be in [0, 1)")
    names = [_file_name(name) for name in settings.contenders()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(
            f"two contenders are called {min(twice)}; give the folder of a run another name"
        )


def _claim(settings, folder):
    """Writes settings.json, or checks that the stored settings are the same."""
    from unsup_video.training import unread, workdir  # only workers import TensorFlow

    wanted = json.loads(json.dumps(dataclasses.asdict(settings)))
    path = folder / _SETTINGS
    if not path.exists():
        stream = {"training_stream": workdir.TRAINING_STREAM}
        files.write_text(path, json.dumps({**wanted, **stream}, indent=1) + "\n")
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    stream = stored.pop("training_stream", None)
    ignored = unread.of_study(ConfigDict(settings.config))
    differences = workdir.differences(stored.pop("config"), wanted.pop("config"), ignored)
    if differences := [f"config.{line}" for line in differences] + workdir.diff(stored, wanted):
        raise ValueError(
            f"{folder} holds a study with other settings:\n  "
            + "\n  ".join(differences)
            + "\nUse another folder."
        )
    if not (folder / "results.json").exists():
        workdir.check_stream(stream, f"the study in {folder}", "in another folder")


def _worked(tasks, processes) -> Iterable[tuple[str, int]]:
    if processes == 1:
        yield from map(_work, tasks)
        return
    # Each task gets a new process, because TensorFlow does not release memory. It is forked from a
    # server process that has imported TensorFlow, which takes seconds, and has not used it.
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload(["unsup_video.evaluation.few_labels_fits"])
    threads = max(1, (os.cpu_count() or 1) // processes)
    with ProcessPoolExecutor(
        processes, fresh, _share_the_machine, (threads,), max_tasks_per_child=1
    ) as pool:
        running = [pool.submit(_work, task) for task in tasks]
        try:
            for done in as_completed(running):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _share_the_machine(threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):  # or the first process takes all memory
        tf.config.experimental.set_memory_growth(gpu, True)


def _work(task):
    """Trains all classifiers of one contender with one number of labelled videos."""
    settings, folder, name, per_class, make = task
    searched = _searched(settings, name, per_class)
    done = _Lines(folder, name, per_class)
    fits = None

    def fit(key):
        nonlocal fits
        if done.has(key):
            return
        if fits is None:
            fits = (make or _fits_of_the_package())(settings, name, per_class)
        figures = (fits.search if key[0] == "search" else fits.test)(*key[1:])
        _stop_if_alone()
        done.add(key, figures)

    for key in searched:
        fit(key)
    while (chosen := done.chosen(searched)) is not None:
        for key in _tested(settings, per_class, chosen):
            fit(key)
            if done.diverged(key):
                break  # and choose another learning rate and dropout
        else:
            break
    return name, per_class


def _fits_of_the_package():
    from unsup_video.evaluation import few_labels_fits  # only workers import TensorFlow

    return few_labels_fits.Fits


def contender_config(settings: Settings, contender: str) -> ConfigDict:
    """The config of a contender's classifiers."""
    config = ConfigDict(copy.deepcopy(settings.config))
    config.model.kind, init = settings.classifier(contender)
    if init is None or config.model.kind != "lstm":
        # Random weights must be trained, even if pretrained encoders are frozen. `encoder_factor`
        # applies to pretrained encoders only.
        config.model.freeze = False
        config.recipe.encoder_factor = 1.0
    return config


def fit_config(
    settings: Settings, config: ConfigDict, videos: int, rate: float, dropout: float, subset: int
) -> ConfigDict:
    """Returns the config of one training on a subset of `videos` videos.

    Args:
        config: the contender's, see `contender_config`.
    """
    config = copy.deepcopy(config)
    config.model.dropout = dropout
    config.recipe.learning_rate = rate
    config.recipe.batch_size = min(config.recipe.batch_size, videos)
    epochs = settings.epochs * videos / config.recipe.batch_size
    config.train.steps = max(config.train.steps, math.ceil(epochs))
    config.seed = settings.seed + subset
    return config


def _stop_if_alone():
    """Ends a worker whose study was killed: another process may resume it in the same folder."""
    study = multiprocessing.parent_process()
    if study is not None and not study.is_alive():
        raise SystemExit("the study was stopped")


def _searched(settings, name, per_class):
    """Returns the fits of the search, each ("search", learning rate, dropout, subset)."""
    linear = settings.classifier(name)[0] != "lstm"
    return [
        ("search", rate * (LINEAR_FACTOR if linear else 1.0), dropout, subset)
        for rate in settings.learning_rates
        for dropout in ((0.0,) if linear else settings.dropouts)
        for subset in range(settings.search_subsets if per_class else 1)
    ]


def _tested(settings, per_class, chosen):
    """Returns the fits for the test, each ("test", learning rate, dropout, subset)."""
    count = settings.subsets if per_class else min(settings.subsets, settings.search_subsets)
    return [("test", *chosen, subset) for subset in range(count)]


def _file_name(contender):
    return contender.replace(" ", "_").replace("/", "_")  # names may be paths


class _Lines:
    """The finished fits of a contender with one number of videos."""

    def __init__(self, folder, contender, per_class):
        self.path = folder / _FITS / f"{_file_name(contender)}-{number_text(per_class)}.jsonl"
        self.lines = {}
        if not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        text = [line for line in text if line.endswith("\n")]
        try:
            entries = [json.loads(line) for line in text]
            self.lines = {tuple(line.pop("key")): line for line in entries}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.path}: damaged ({error}); delete it, and its fits are trained again"
            ) from None
        # Removes a line that a crash has cut short, or the next one would be appended to it.
        files.write_text(self.path, "".join(text))

    def has(self, key):
        return key in self.lines

    def add(self, key, figures):
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **figures}) + "\n")
        self.lines[key] = figures

    def diverged(self, key):
        """Tells whether training diverged in a finished fit."""
        return self.lines[key].get("diverged", False)

    def excluded(self):
        """Returns every (learning rate, dropout) with which training diverged."""
        return {key[1:3] for key in self.lines if self.diverged(key)}

    def chosen(self, searched):
        """Returns the (learning rate, dropout) with the best mean validation accuracy.

        Candidates are those of the fits `searched` with which training did not diverge; None if it
        diverged with all. The lower cross entropy decides between equal accuracies.
        """
        scores, excluded = {}, self.excluded()
        for key in searched:
            if key[1:3] not in excluded:
                figures = self.lines[key]
                pair = figures["accuracy"], -figures["cross_entropy"]
                scores.setdefault(key[1:3], []).append(pair)
        return max(
            sorted(scores), key=lambda key: tuple(np.mean(scores[key], axis=0)), default=None
        )


def _contenders(settings, folder):
    """Returns the contenders; those of a finished study may be fewer, from an earlier version."""
    if not (folder / "results.json").exists():
        return settings.contenders()
    return _names(load(folder)[1])


def summarize(settings: Settings, folder: str | Path) -> list[Summary]:
    """Returns the figures of a finished study, by number of videos, then by contender."""
    summaries, names = [], _contenders(settings, Path(folder))
    for k in settings.per_class:
        values, chosen, diverged = {}, {}, {}
        for name in names:
            lines = _Lines(Path(folder), name, k)
            best = lines.chosen(_searched(settings, name, k))
            chosen[name] = best or (None, None)
            values[name] = np.array(
                [
                    lines.lines[key]["accuracy"]
                    for key in (_tested(settings, k, best) if best else ())
                ]
            )
            diverged[name] = tuple(sorted(lines.excluded()))
        summaries += [summary(name, k, *chosen[name], values, diverged[name]) for name in values]
    return summaries


def summary(
    name: str,
    per_class: int,
    learning_rate: float | None,
    dropout: float | None,
    values: dict[str, np.ndarray],
    diverged: tuple[tuple[float, float | None], ...] = (),
) -> Summary:
    """Returns the summary of a contender.

    Args:
        values: {name: accuracies} of the contender and of the baseline at least.
    """
    accuracies, baseline = values[name], values[BASELINE]
    gained = (None,) * 3
    if name != BASELINE and len(accuracies) and len(baseline):
        gained = intervals.interval(accuracies - baseline)
    gained = [None if x is None or math.isnan(x) else x for x in gained]
    mean = float(accuracies.mean()) if len(accuracies) else math.nan
    std = float(accuracies.std(ddof=1)) if len(accuracies) > 1 else math.nan
    return Summary(
        name,
        per_class,
        learning_rate,
        dropout,
        tuple(accuracies.tolist()),
        mean,
        std,
        *gained,
        diverged,
    )


# ---------------------------------------------------------------------- for people


def load(folder: str | Path) -> tuple[dict, list[Summary]]:
    """Loads a finished study and returns (settings, summaries).

    The settings include "seen" and "classes" of `run`, None in studies of an earlier version.

    Raises:
        ValueError: `folder` holds no finished study, or a damaged one.
    """
    try:
        fields = json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))
        summaries = [
            Summary(
                **{
                    **line,
                    "accuracies": tuple(line["accuracies"]),
                    "diverged": tuple(
                        tuple(pair) if isinstance(pair, list) else (pair, None)  # a rate only
                        for pair in line.get("diverged", ())
                    ),
                    **{k: math.nan if line[k] is None else line[k] for k in ("mean", "std")},
                }
            )
            for line in fields["summaries"]
        ]
        known = {name: fields.get(name) for name in ("seen", "classes")}
        return {**fields["settings"], **known}, summaries
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no finished study of eval.few_labels ({error})") from None


def _write(settings, summaries, folder, known):
    def plain(value):  # JSON has no nan
        return None if isinstance(value, float) and math.isnan(value) else value

    fields = {
        "settings": dataclasses.asdict(settings),
        **known,
        "summaries": [
            {key: plain(value) for key, value in dataclasses.asdict(s).items()} for s in summaries
        ],
    }
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["contender", "videos_per_class", "subset", "learning_rate", "dropout", "video_accuracy"]
    )
    for s in summaries:
        for subset, accuracy in enumerate(s.accuracies):
            table.writerow(
                [
                    s.contender,
                    number_text(s.per_class),
                    subset,
                    s.learning_rate,
                    s.dropout,
                    accuracy,
                ]
            )
    files.write_text(folder / "results.csv", text.getvalue())
    files.write_text(folder / "table.md", markdown(summaries) + "\n")
    files.write_text(folder / "results.json", json.dumps(fields, indent=1, allow_nan=False) + "\n")
    draw(summaries, folder / "figure_12.png")  # last, so that all numbers are written if it fails


def number_text(per_class: int) -> str:
    """Returns a number of labelled videos per class for people: "all" for 0."""
    return str(per_class or "all")


def _names(summaries):
    return list(dict.fromkeys(s.contender for s in summaries))


def markdown(summaries: list[Summary]) -> str:
    """Returns two tables: accuracies, and gains over the baseline on the same subsets."""
    numbers = list(dict.fromkeys(s.per_class for s in summaries))
    by_cell = {(s.contender, s.per_class): s for s in summaries}
    head = "| videos per class | " + " | ".join(map(number_text, numbers)) + " |"
    rule = "|---" * (len(numbers) + 1) + "|"

    def lines(names, cell):
        return [
            head,
            rule,
            *(
                f"| {name} | " + " | ".join(cell(by_cell[name, k]) for k in numbers) + " |"
                for name in names
            ),
        ]

    def accuracy(s):
        if not s.accuracies:
            return "diverged"
        return f"{s.mean:.1f}" + ("" if math.isnan(s.std) else f" ± {s.std:.1f}")

    def gain(s):
        if s.difference is None:
            return "–"
        return f"{s.difference:+.1f}" + (
            "" if s.low is None else f" ({s.low:+.1f} to {s.high:+.1f})"
        )

    names = _names(summaries)
    return "\n".join(
        [
            "Accuracy on test videos, %, mean and standard deviation over subsets:",
            "",
            *lines(names, accuracy),
            "",
            f"Gain over the {BASELINE} on the same subsets, with its 95% interval:",
            "",
            *lines([name for name in names if name != BASELINE], gain),
            *([""] if any(s.diverged for s in summaries) else []),
            *(
                f"{s.contender}, {number_text(s.per_class)} per class: training diverged "
                f"with {excluded(s)}."
                for s in summaries
                if s.diverged
            ),
        ]
    )


def excluded(summary: Summary) -> str:
    """Describes the learning rates and dropouts in `diverged`."""
    return (
        " and ".join(
            f"learning rate {rate:g}" + ("" if dropout is None else f" (dropout {dropout:g})")
            for rate, dropout in summary.diverged
        )
        + ", which is excluded"
    )


def draw(summaries: list[Summary], path: str | os.PathLike) -> None:
    """Draws accuracy over the number of videos, with error bars, like the paper's figure 12."""
    numbers = list(dict.fromkeys(s.per_class for s in summaries))
    names = _names(summaries)
    labels = [fonts.legible(name) for name in names]
    trained = [name for name in names if not name.startswith(STATE)]
    colours = {name: f"C{k % 10}" for k, name in enumerate(trained)}
    with visualize.figure(path, (9.5, 5.2), labels) as figure:
        axes = figure.add_subplot(
            xlabel="labelled videos per class",
            ylabel="accuracy on test videos, %",
            title="Mean and standard deviation over random subsets",
        )
        drawn = []
        for number, name in enumerate(names):
            own = [s for s in summaries if s.contender == name]
            positions = [numbers.index(s.per_class) + 0.05 * (number - len(names) / 2) for s in own]
            errors = [0.0 if math.isnan(s.std) else s.std for s in own]
            drawn.append(
                axes.errorbar(
                    positions,
                    [s.mean for s in own],
                    errors,
                    marker="o",
                    markersize=4,
                    capsize=2,
                    linewidth=1.0 if name in LINEAR or name.startswith(STATE) else 1.8,
                    linestyle=":"
                    if name.startswith(STATE)
                    else "--"
                    if name in LINEAR or name == BASELINE
                    else "-",
                    color=colours.get(name.removeprefix(STATE)),  # a state's is its model's
                )
            )
        axes.set_xticks(range(len(numbers)), list(map(number_text, numbers)))
        axes.grid(alpha=0.2)
        axes.legend(
            drawn,
            list(map(fonts.shortened, labels)),
            fontsize=8,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
        )
