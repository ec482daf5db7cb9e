"""Tries percepts and classifiers by repeated cross-validation, within a budget of time.

A study is a folder; starting it again resumes it, also with more repeats, minutes, classifiers, or
percepts of the same videos:

    settings.json                     the data sets, folds, seed, version and configs
    fits/SET/CLASSIFIER-REPEAT.npz    the probabilities of all videos, from the folds of one repeat
    results.json, results.csv         the accuracies, and the recommendation
    table.md                          the table to look at
"""

import csv
import dataclasses
import io
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

import unsup_video
from unsup_video.evaluation.choosing import folds, networks, scores, statistics
from unsup_video.evaluation.choosing.sets import Sets
from unsup_video.training import fields, workdir
from unsup_video.training.trainer import NonFiniteLoss
from unsup_video.utils import files

CLASSIFIERS = {  # from the cheapest
    "logistic": "statistics over time, logistic regression",
    "forest": "statistics over time, random forest",
    "single_frame": "regression on single frames",
    "lstm": "LSTM from random weights",
    "pretrained": "LSTM from a pretrained encoder",
}
_SLOW = ("lstm", "pretrained")  # tried after all repeats of the others
_ALL_SUBSETS = 4  # of more sets, only pairs and all together are fused
_PLUS = " + "  # joins the names of sets that are fused


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a study, as JSON values.

    Attributes:
        videos: the fingerprint of the videos, see `Sets.fingerprint`.
        percepts: name of a set -> the fingerprint of its data set.
        split: the official split whose test videos are left alone; 0 without one.
        folds: number of folds. seed: of the folds and of the classifiers.
    """

    videos: str
    percepts: dict[str, str]
    split: int = 0
    folds: int = 5
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Row:
    """A candidate's figures.

    Attributes:
        percepts: names of its sets; the probabilities of several are averaged (late fusion).
        classifier: one of `CLASSIFIERS`.
        accuracy, low, high: % of the videos, and the 95% interval over groups of videos.
        repeats: of the cross-validation. seconds: for the trainings of one repeat.
    """

    percepts: tuple[str, ...]
    classifier: str
    accuracy: float
    low: float
    high: float
    repeats: int
    seconds: float

    @property
    def name(self) -> str:
        return f"{_PLUS.join(self.percepts)}, {CLASSIFIERS[self.classifier]}"


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a study.

    Attributes:
        rows: the best first; of equal ones, the cheapest.
        videos, groups: their numbers. classes: their names.
        frequent: the most frequent class. guess: its share of the videos, in %.
        gain: over `guess`, of the best, in points with its interval: (mean, low, high).
        lead: over the second, in the same way; None for a single candidate. equal: the number of
            others whose difference to the best has an interval that contains 0.
        corrected: of choosing the best, see `scores.corrected`.
        untried: (set, classifier) for which there was no time. failed: (set, classifier, reason).
    """

    rows: tuple[Row, ...]
    videos: int
    groups: int
    classes: tuple[str, ...]
    frequent: str
    guess: float
    gain: tuple[float, float, float]
    lead: tuple[float, float, float] | None
    equal: int
    corrected: scores.Corrected
    untried: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str, str], ...]


def run(
    settings: Settings,
    sets: Sets,
    folder: str | Path,
    classifiers: Sequence[str] = tuple(CLASSIFIERS),
    repeats: int = 10,
    minutes: float = 30.0,
    log: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
    networks_of: Callable = networks.Networks,
) -> Result:
    """Runs, or resumes, the study in `folder`.

    All repeats of the cheap classifiers come first, then those of LSTMs in turn. What would take
    longer than the time left, going by the last repeat of that kind, is not started.

    Args:
        classifiers: of `CLASSIFIERS`. minutes: of this call; finished trainings cost none.
        clock: returns seconds. networks_of: (kind, videos) -> an object with the method
            `probabilities` of `networks.Networks`.

    Raises:
        ValueError: an argument is bad; the folder holds another study; there are too few videos for
            the folds; or nothing was finished within the time.
    """
    check(settings.percepts, classifiers, repeats, minutes)
    classifiers = [name for name in CLASSIFIERS if name in classifiers]
    folds.check(sets.labels, sets.groups, settings.folds, sets.classes)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with files.lock(folder):
        _claim(settings, folder)
        failed = _try_all(
            settings, sets, folder, classifiers, repeats, 60 * minutes, log, clock, networks_of
        )
        result = _result(settings, sets, folder, classifiers, repeats, failed)
        _write(settings, result, folder)
    return result


def check(
    percepts: Iterable[str], classifiers: Sequence[str], repeats: int, minutes: float
) -> None:
    """Raises ValueError for a bad argument of `run`; `percepts` are the names of the sets."""
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    if not minutes > 0:
        raise ValueError(f"minutes must be above 0, got {minutes:g}")
    if unknown := [name for name in classifiers if name not in CLASSIFIERS]:
        raise ValueError(f"unknown classifier {unknown[0]!r}: one of {', '.join(CLASSIFIERS)}")
    if not classifiers:
        raise ValueError(f"no classifier is given: some of {', '.join(CLASSIFIERS)}")
    for name in percepts:
        if not name.replace("-", "_").isidentifier():
            raise ValueError(
                f"name of a set of percepts: letters, digits, - and _, no digit first, got {name!r}"
            )


def _claim(settings, folder):
    """Writes settings.json, or checks that the stored settings are the same.

    It also holds what stored predictions depend on, so that those of other code are not mixed in.
    Later calls may have more sets of percepts, or fewer, of the same videos.
    """
    made_with = {
        "version": unsup_video.__version__,
        "networks": {
            kind: {name: config.to_dict() for name, config in networks.configs(kind).items()}
            for kind in networks.KINDS
        },
    }
    wanted = json.loads(json.dumps({**dataclasses.asdict(settings), "made_with": made_with}))
    path = folder / "settings.json"
    if path.exists():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.keys() != wanted.keys():
            raise ValueError(
                f"{folder} holds a study of another version of unsup_video: use another folder"
            )
        networks_of = stored["made_with"]["networks"]
        for kind in networks_of:  # an earlier version may have had fewer fields
            networks_of[kind] = {k: fields.completed(v) for k, v in networks_of[kind].items()}
        more = wanted["percepts"] | stored["percepts"]
        wanted["percepts"] = stored["percepts"] | wanted["percepts"]
        if differences := workdir.diff(stored | {"percepts": more}, wanted):
            raise ValueError(
                f"{folder} holds a study with other settings:\n  "
                + "\n  ".join(differences)
                + "\nUse another folder."
            )
    files.write_text(path, json.dumps(wanted, indent=1) + "\n")


# ---------------------------------------------------------------------- trainings


def _order(sets, classifiers, repeats):
    """Returns (classifier, set, repeat) of all trainings, in the order in which they are tried."""
    slow = [name for name in classifiers if name in _SLOW]
    cheap = [name for name in classifiers if name not in _SLOW]
    first = itertools.product(cheap, sets.videos, range(repeats))
    then = itertools.product(range(repeats), slow, sets.videos)
    return [*first, *((name, percepts, repeat) for repeat, name, percepts in then)]


def _try_all(settings, sets, folder, classifiers, repeats, seconds, log, clock, networks_of):
    """Trains what is not stored yet; returns {(set, classifier): the reason why it cannot be}."""
    began = clock()
    made, taken, failed = {}, {}, {}
    for classifier, percepts, repeat in _order(sets, classifiers, repeats):
        path = _path(folder, percepts, classifier, repeat)
        key = percepts, classifier
        if path.exists() or key in failed:
            continue
        left = began + seconds - clock()
        longest = max(taken.values(), default=0.0)  # a new classifier is none of the faster ones
        if left <= 0 or taken.get(key, taken.get(classifier, longest)) > left:
            continue
        if key not in made:
            made[key] = _fitter(classifier, sets.videos[percepts], networks_of)
        start = clock()
        try:
            probabilities = _cross_validated(settings, sets, made[key], repeat)
        except (networks.CannotTrain, NonFiniteLoss) as error:
            failed[key] = str(error)
            log(f"{percepts}, {CLASSIFIERS[classifier]}: cannot be trained: {error}")
            continue
        taken[key] = taken[classifier] = clock() - start
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, probabilities=probabilities, seconds=taken[key])
        accuracy = scores.right(probabilities[None], sets.labels).mean()
        log(
            f"{percepts}, {CLASSIFIERS[classifier]}, repeat {repeat + 1} of {repeats}: "
            f"{accuracy:.1f} %; {(clock() - began) / 60:.1f} min"
        )
    return failed


def _path(folder, percepts, classifier, repeat):
    return folder / "fits" / percepts / f"{classifier}-{repeat}.npz"


def _fitter(classifier, videos, networks_of):
    """Returns (train (N,) bool, test (N,) bool, seed) -> (test.sum(), K)."""
    if classifier in networks.KINDS:
        return networks_of(classifier, videos).probabilities
    features = statistics.of_sequences(videos.folder, videos.chosen)

    def fit(train, test, seed):
        model = statistics.classifier(classifier, features.shape[1], seed)
        model.fit(features[train], videos.labels[train])
        return model.predict_proba(features[test])

    return fit


def _cross_validated(settings, sets, fit, repeat):
    """Returns the probabilities of each video, (N, K), by the classifier that has not seen it."""
    seed = settings.seed + repeat
    fold = folds.draw(sets.labels, sets.groups, settings.folds, seed)
    probabilities = np.zeros((len(sets), len(sets.classes)))
    for number in range(settings.folds):
        test = fold == number
        probabilities[test] = fit(~test, test, seed)
    return probabilities


# ---------------------------------------------------------------------- results


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the sets to classify with: each alone, and fusions of two or more.

    Of more than four sets, these are all pairs and all sets together.
    """
    sizes = range(1, len(names) + 1) if len(names) <= _ALL_SUBSETS else (1, 2, len(names))
    return [chosen for size in sizes for chosen in itertools.combinations(names, size)]


def _result(settings, sets, folder, classifiers, repeats, failed):
    stored, shape = {}, (len(sets), len(sets.classes))
    for classifier, percepts in itertools.product(classifiers, sets.videos):
        paths = (_path(folder, percepts, classifier, repeat) for repeat in range(repeats))
        repeats_done = [_read(path, shape) for path in itertools.takewhile(Path.exists, paths)]
        if repeats_done:
            stored[percepts, classifier] = repeats_done
    rows, right = [], []
    for chosen, classifier in itertools.product(subsets(list(sets.videos)), classifiers):
        if not all((name, classifier) in stored for name in chosen):
            continue
        members = [stored[name, classifier] for name in chosen]
        count = min(map(len, members))
        probabilities = np.mean(
            [[repeat[0] for repeat in member[:count]] for member in members], axis=0
        )
        hits = scores.right(probabilities, sets.labels)
        rows.append(
            Row(
                chosen,
                classifier,
                *scores.accuracy(hits, sets.groups),
                count,
                sum(float(np.mean([repeat[1] for repeat in member])) for member in members),
            )
        )
        right.append(hits)
    if not rows:
        reasons = "".join(f"\n  {s}, {CLASSIFIERS[c]}: {why}" for (s, c), why in failed.items())
        raise ValueError(
            "no candidate was finished: use more --minutes"
            if not failed
            else f"no candidate could be trained:{reasons}"
        )
    order = sorted(range(len(rows)), key=lambda i: (-rows[i].accuracy, rows[i].seconds))
    rows, right = [rows[i] for i in order], np.array([right[i] for i in order])
    counts = np.bincount(sets.labels, minlength=len(sets.classes))
    guesses = 100.0 * (sets.labels == counts.argmax())
    leads = [scores.difference(right[0], other, sets.groups) for other in right[1:]]
    return Result(
        tuple(rows),
        len(sets),
        len(np.unique(sets.groups)),
        sets.classes,
        sets.classes[counts.argmax()],
        float(guesses.mean()),
        scores.difference(right[0], guesses, sets.groups),
        leads[0] if leads else None,
        sum(low <= 0 for _, low, _ in leads),
        scores.corrected(right, sets.groups, settings.seed),
        tuple(
            (percepts, classifier)
            for classifier in classifiers
            for percepts in sets.videos
            if (percepts, classifier) not in {**stored, **failed}
        ),
        tuple((*key, reason) for key, reason in failed.items()),
    )


def _read(path, shape):
    """Returns (probabilities, of this shape, seconds) of a repeat."""
    arrays = files.read_arrays(path)
    shapes = {name: array.shape for name, array in arrays.items()}
    wanted = {"probabilities": shape, "seconds": ()}
    if shapes != wanted:
        raise ValueError(f"{path} holds arrays of {shapes}, not {wanted}: delete it")
    return arrays["probabilities"], float(arrays["seconds"])


# ---------------------------------------------------------------------- files and text


def _write(settings, result, folder):
    fields = {"settings": dataclasses.asdict(settings), **dataclasses.asdict(result)}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["percepts", "classifier", "accuracy", "low", "high", "repeats", "seconds"])
    for row in result.rows:
        table.writerow([_PLUS.join(row.percepts), *dataclasses.astuple(row)[1:]])
    files.write_text(folder / "results.csv", text.getvalue())
    files.write_text(folder / "table.md", markdown(result) + "\n")
    files.write_text(folder / "results.json", json.dumps(_plain(fields), indent=1) + "\n")


def _plain(value):
    """Replaces NaN, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def markdown(result: Result) -> str:
    """Returns the table of all candidates, the best first, and of guessing."""
    lines = [
        "| percepts | classifier | accuracy, % (95% interval) | repeats | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in result.rows:
        lines.append(
            f"| {_PLUS.join(row.percepts)} | {CLASSIFIERS[row.classifier]} | "
            f"{row.accuracy:.1f} ({row.low:.1f} to {row.high:.1f}) | {row.repeats} | "
            f"{row.seconds:.1f} |"
        )
    lines.append(f"| | always {result.frequent} | {result.guess:.1f} | | |")
    return "\n".join(lines)


def verdict(result: Result) -> str:
    """Returns sentences on the recommended candidate, and on how sure it is."""
    best, *others = result.rows
    safe = result.corrected
    doubt = ": no better than a guess, as far as these videos tell"
    lines = [
        f"recommended: {best.name}: {best.accuracy:.1f} % ({best.low:.1f} to {best.high:.1f})",
        f"  over always guessing {result.frequent}: {_points(result.gain)}"
        + ("" if result.gain[1] > 0 else doubt),
    ]
    if others:
        lines.append(
            f"  over the next, {others[0].name}: {_points(result.lead)}; {result.equal} of the "
            f"{len(others)} others may be as good, as far as these videos tell"
        )
        lines.append(
            f"  the best of {len(result.rows)} is partly the luckiest: corrected for the choice "
            f"(BBC-CV), expect {safe.mean:.1f} % ({safe.low:.1f} to {safe.high:.1f}) on new videos"
            + ("" if safe.low > result.guess else doubt)
        )
    for percepts, classifier, reason in result.failed:
        lines.append(f"cannot be trained: {percepts}, {CLASSIFIERS[classifier]}: {reason}")
    if result.untried:
        names = "; ".join(f"{percepts}, {CLASSIFIERS[c]}" for percepts, c in result.untried)
        lines.append(f"not tried, for lack of time (more --minutes resume the study): {names}")
    return "\n".join(lines)


def _points(difference):
    mean, low, high = difference
    return f"{mean:+.1f} points ({low:+.1f} to {high:+.1f})"
