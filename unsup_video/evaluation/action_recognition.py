"""Scores classifiers of actions in videos (the paper's section 3.3): tables 1, 3 and 4."""

from collections.abc import Callable, Sequence

import numpy as np

from unsup_video.evaluation import action_pictures, results
from unsup_video.evaluation.naming import names
from unsup_video.evaluation.testvideos import TestVideos
from unsup_video.models.classification import Predictions

KIND = "action_recognition"
FUSION_KIND = "action_recognition_fusion"
FUSION = "fusion"  # the subject of its rows
FOLDS_KIND = "action_recognition_folds"
FOLDS = "cross_validation"
_TOP_K = (1, 5)
_SHOWN = 10  # classes of a table


def check_topk(topk: Sequence[int] | None, classes: int) -> tuple[int, ...]:
    """Returns the k of the top-k accuracies, ascending.

    None stands for 1 and 5, without those that are not below the number of classes.

    Raises:
        ValueError: a k is below 1, or not below the number of classes.
    """
    if topk is None:
        return tuple(k for k in _TOP_K if k < classes)
    if bad := [k for k in topk if not 1 <= k < classes]:
        raise ValueError(
            f"--topk: {bad[0]} says nothing about {classes} classes; use 1 to {classes - 1}"
        )
    return tuple(sorted({1, *topk}))


def evaluate(
    test: TestVideos,
    command: str,
    topk: Sequence[int] | None = None,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Scores a classifier on videos.

    Rows, all of the subject "model", by part:

        "video": accuracy, top_K_accuracy, and cross_entropy (nats) of whole videos; the
            probabilities of a video are the mean over its blocks.
        "window": accuracy and top_K_accuracy of the blocks.
        "step", with `frame` 1, 2, ..: the accuracy of the softmax at that step of a block alone;
        "steps_so_far": the accuracy of the mean over all steps up to that one. Neither is there for
            the kinds "mean_frame" and "state", which see a whole block at once.
        "class/NAME": accuracy of the videos of that class; and "as/OTHER", the number of them that
            were classified as OTHER, where that is not 0.

    Confidence intervals treat a group of videos, such as those of one recording, as one
    observation, and a video where no groups are known: videos of a group, and blocks of a video,
    are not independent.

    Pictures: `confusion.png`, and `steps.png` where there are steps.
    """
    classes = test.trained.classes
    topk = check_topk(topk, len(classes))
    settings = {**test.settings, "topk": topk}

    def compute(folder):
        classified, labels, data = test.classified, test.videos.labels, test.label
        groups = test.videos.groups
        # Every step of these kinds has the probabilities of the whole block.
        sees_whole_blocks = test.trained.config.model.kind in ("mean_frame", "state")
        rows = [
            *_video_rows("model", data, classified.probabilities, labels, topk, groups),
            *_window_rows(data, classified, labels, topk, groups),
            *([] if sees_whole_blocks else _step_rows(data, classified, labels, groups)),
            *_class_rows("model", data, classified.probabilities, labels, classes, groups),
        ]
        title = f"{test.trained.name}, {data}, {len(labels):,} videos"
        counts = _confusion(classified.probabilities, labels)
        pictures = {
            results.Picture(
                "confusion.png", "What the videos of each class were taken for"
            ): lambda path: action_pictures.confusion(counts, classes, title, path)
        }
        if not sees_whole_blocks:
            steps = {part: [r for r in rows if r.part == part] for part in ("step", "steps_so_far")}
            pictures[
                results.Picture(
                    "steps.png",
                    "Accuracy of windows by the number of frames read, with 95% intervals",
                )
            ] = lambda path: action_pictures.over_steps(steps, title, path)
        return results.Outcome(rows, results.drawn(folder, pictures, log))

    return results.run(test.trained, KIND, settings, command, compute, recompute, log)


# ---------------------------------------------------------------------- several models


def check_weights(weights: Sequence[float] | None, models: int) -> tuple[float, ...]:
    """Returns the weights of `models` models, scaled to the sum 1; None for equal weights.

    Raises:
        ValueError: the number of weights differs, one is negative, or none is above 0.
    """
    weights = [1.0] * models if weights is None else list(weights)
    if len(weights) != models:
        raise ValueError(f"--weights has {len(weights)} numbers for {models} models")
    if not all(0 <= w < np.inf for w in weights) or not sum(weights) > 0:
        raise ValueError(
            f"--weights={','.join(f'{w:g}' for w in weights)}: weights must be at least 0, and "
            "one of them above 0"
        )
    return tuple(w / sum(weights) for w in weights)


def fuse(
    tests: Sequence[TestVideos],
    command: str,
    weights: Sequence[float] | None = None,
    topk: Sequence[int] | None = None,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Scores the weighted mean of the probabilities that several classifiers give to videos.

    Videos are matched by name, since each classifier may read another data set, such as percepts of
    RGB frames and of flow. The evaluation is stored with the first model. It has the parts "video"
    and "class/NAME" of `evaluate`, with the subject "fusion", and "video" of each model, with its
    name as the subject. Picture: `confusion.png`, of the fusion.

    Args:
        weights: one per model, None for equal ones; their sum does not matter.

    Raises:
        ValueError: the weights are bad, or a model's classes, labels or videos differ from the
            first model's.
    """
    first = tests[0]
    labels = first.videos.labels
    weights = check_weights(weights, len(tests))
    topk = check_topk(topk, len(first.trained.classes))
    orders = [_order(first, test) for test in tests]
    settings = {"models": _settings(tests), "weights": weights, "topk": topk}

    each = [test.classified.probabilities[order] for test, order in zip(tests, orders, strict=True)]
    fused = sum(w * p for w, p in zip(weights, each, strict=True))
    groups = first.videos.groups
    return _together(
        tests,
        FUSION_KIND,
        FUSION,
        settings,
        (fused, labels, groups),
        [(p, labels, groups) for p in each],
        command,
        topk,
        recompute,
        log,
    )


def cross_validate(
    tests: Sequence[TestVideos],
    command: str,
    topk: Sequence[int] | None = None,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Scores classifiers of several folds on all their test videos together.

    The evaluation is stored with the first model. Its rows and picture are those of `fuse`, with
    the subject "cross_validation".

    Raises:
        ValueError: there are fewer than two models, their classes differ, or two of them are tested
            on the same video.
    """
    first = tests[0]
    if len(tests) < 2:
        raise ValueError("--cross_validation needs the models of at least two folds")
    seen = {}
    for test in tests:
        _check_classes(first, test)
        for name in test.videos.names:
            if name in seen:
                raise ValueError(
                    f"{name} is in the test part of {seen[name]} and of {test.trained.path}: folds "
                    "have no video in common (data_prep.percepts --folds, --config.data.split)"
                )
            seen[name] = test.trained.path
    topk = check_topk(topk, len(first.trained.classes))
    each, taken = [], 0
    for test in tests:  # folds have no group in common
        groups = taken + test.videos.groups
        each.append((test.classified.probabilities, test.videos.labels, groups))
        taken = groups.max() + 1
    whole = tuple(np.concatenate(arrays) for arrays in zip(*each, strict=True))
    settings = {"models": _settings(tests), "topk": topk}
    return _together(tests, FOLDS_KIND, FOLDS, settings, whole, each, command, topk, recompute, log)


def _settings(tests):
    return [{**test.settings, "model": test.trained.sha256} for test in tests]


def _together(tests, kind, subject, settings, whole, each, command, topk, recompute, log):
    """Evaluates several models together, `whole`, and each of them, `each`.

    Both are given as (probabilities, labels, groups of the videos).
    """
    first = tests[0]
    classes = first.trained.classes
    probabilities, labels, groups = whole

    def compute(folder):
        data = next((test.label for test in tests if test.label != test.part), first.part)
        rows = [
            *_video_rows(subject, data, probabilities, labels, topk, groups),
            *_class_rows(subject, data, probabilities, labels, classes, groups),
        ]
        for name, (p, y, video_groups) in zip(
            names([t.trained.path for t in tests]), each, strict=True
        ):
            rows += _video_rows(name, data, p, y, topk, video_groups)
        what = subject.replace("_", " ")
        title = f"{what}, {len(tests)} models, {data}, {len(labels):,} videos"
        counts = _confusion(probabilities, labels)
        return results.Outcome(
            rows,
            results.drawn(
                folder,
                {
                    results.Picture(
                        "confusion.png", "What the videos of each class were taken for"
                    ): lambda path: action_pictures.confusion(counts, classes, title, path)
                },
                log,
            ),
        )

    return results.run(first.trained, kind, settings, command, compute, recompute, log)


def _check_classes(first, test):
    if test.trained.classes != first.trained.classes:
        raise ValueError(
            f"{first.trained.name} names {', '.join(first.trained.classes)}; {test.trained.name} "
            f"{', '.join(test.trained.classes)}: models of the same classes go together"
        )


def _order(first, test):
    """Returns the indices of the first model's videos among those of another model."""
    _check_classes(first, test)
    place = {name: i for i, name in enumerate(test.videos.names)}
    for one, other in ((first, test), (test, first)):
        has = set(other.videos.names)
        if missing := [name for name in one.videos.names if name not in has]:
            more = ", .." if len(missing) > 5 else ""
            raise ValueError(
                f"{other.videos.folder} ({other.trained.name}) lacks {len(missing):,} of the "
                f"videos of {one.videos.folder} ({one.trained.name}): {', '.join(missing[:5])}"
                f"{more}. Models are fused on the same videos: the same split and part, of data "
                "sets made from the same files"
            )
    order = np.array([place[name] for name in first.videos.names])
    differ = np.flatnonzero(test.videos.labels[order] != first.videos.labels)
    if len(differ):
        raise ValueError(
            f"{first.videos.names[differ[0]]} has one label in {first.videos.folder} and another "
            f"in {test.videos.folder}"
        )
    return order


# ---------------------------------------------------------------------- rows


def _ranks(probabilities, labels):
    """Returns (N,) int, the number of classes that are ranked before the label."""
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    return (order == labels[:, None]).argmax(-1)


def _hits(probabilities, labels, topk):
    """Returns {"accuracy": (N,), "top_5_accuracy": (N,), ..}, 100 for a hit and 0 for a miss."""
    ranks = _ranks(probabilities, labels)
    return {"accuracy" if k == 1 else f"top_{k}_accuracy": 100.0 * (ranks < k) for k in topk}


def _video_rows(subject, data, probabilities, labels, topk, groups):
    right = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)
    return [
        *(
            results.row(subject, data, "video", metric, values, unit="%", groups=groups)
            for metric, values in _hits(probabilities, labels, topk).items()
        ),
        results.row(
            subject, data, "video", "cross_entropy", -np.log(right), unit="nats", groups=groups
        ),
    ]


def _window_rows(data, classified, labels, topk, groups):
    hits = _hits(classified.blocks, labels[classified.videos], topk)
    return [
        results.row(
            "model", data, "window", metric, values, unit="%", groups=groups[classified.videos]
        )
        for metric, values in hits.items()
    ]


def _step_rows(data, classified: Predictions, labels, groups):
    rows = []
    sums = np.zeros(classified.blocks.shape)
    for t in range(classified.steps.shape[1]):
        sums += classified.steps[:, t]  # NaN after the end of a block
        there = ~np.isnan(sums[:, 0])
        videos = classified.videos[there]
        for part, values in (("step", classified.steps[there, t]), ("steps_so_far", sums[there])):
            hits = 100.0 * (values.argmax(-1) == labels[videos])
            rows.append(
                results.row(
                    "model",
                    data,
                    part,
                    "accuracy",
                    hits,
                    unit="%",
                    frame=t + 1,
                    groups=groups[videos],
                )
            )
    return rows


def _confusion(probabilities, labels):
    """Returns (K, K) int, the number of videos of class i that were classified as j."""
    counts = np.zeros(2 * probabilities.shape[1:], np.int64)
    np.add.at(counts, (labels, probabilities.argmax(1)), 1)
    return counts


def _class_rows(subject, data, probabilities, labels, classes, groups):
    rows = []
    guesses = probabilities.argmax(1)
    for k, row in enumerate(_confusion(probabilities, labels)):
        if not row.sum():
            continue  # no video of that class: nothing was measured
        part = f"class/{classes[k]}"
        in_class = labels == k
        hits = 100.0 * (guesses[in_class] == k)
        rows.append(
            results.row(subject, data, part, "accuracy", hits, unit="%", groups=groups[in_class])
        )
        rows += [
            results.row(
                subject, data, part, f"as/{classes[j]}", row[j], unit="videos", count=int(row.sum())
            )
            for j in np.flatnonzero(row)
            if j != k
        ]
    return rows


def hardest_classes(evaluation: results.Evaluation) -> list[tuple[results.Row, str]]:
    """Returns (the row of its accuracy, what it is most often taken for) of each class.

    The class with the lowest accuracy is first; the text has up to three classes, with the numbers
    of videos that are taken for them.
    """
    measured = [row for row in evaluation.rows if row.part.startswith("class/")]
    accuracies = sorted((r for r in measured if r.metric == "accuracy"), key=lambda r: r.value)

    def others(part):
        taken = [r for r in measured if r.part == part and r.metric.startswith("as/")]
        taken.sort(key=lambda r: -r.value)
        return ", ".join(f"{r.metric.removeprefix('as/')} ({r.value:.0f})" for r in taken[:3])

    return [(row, others(row.part)) for row in accuracies]


# ---------------------------------------------------------------------- text


def table(evaluation: results.Evaluation, classes: Sequence[str]) -> str:
    """Returns a text of accuracies and of the hardest classes with their confusions."""
    overall = evaluation.find(metric="accuracy", part="video")
    windows = evaluation.find(metric="accuracy", part="window")
    others = [
        r.metric
        for r in evaluation.find(part="video", subject=overall[0].subject)
        if r.metric.startswith("top_")
    ]
    lines = [
        f"{overall[0].data}, {overall[0].count:,} videos"
        + " " * 4
        + "".join(f"{name:>24}" for name in ["accuracy", *others])
    ]
    width = len(lines[0]) - 24 * (1 + len(others))
    for row in (*overall, *windows):
        label = {"model": f"{row.part}s ({row.count:,})"}.get(row.subject, row.subject)
        cells = [row] + [
            evaluation.find(subject=row.subject, part=row.part, metric=name)[0] for name in others
        ]
        lines.append(f"{'  ' + label:<{width}}" + "".join(f"{_percent(r):>24}" for r in cells))

    hardest = hardest_classes(evaluation)
    shown = f"{min(_SHOWN, len(hardest))} of {len(hardest)}"
    lines.append(f"classes, the hardest first ({shown})")
    for row, text in hardest[:_SHOWN]:
        lines.append(
            f"  {row.part.removeprefix('class/'):<28}{row.value:6.1f} % of {row.count:,}"
            + (f", taken for {text}" if text else "")
        )
    named = {r.part.removeprefix("class/") for r, _ in hardest}
    if absent := [name for name in classes if name not in named]:
        lines.append(
            f"no video of {', '.join(absent[:_SHOWN])}"
            + (f" and {len(absent) - _SHOWN} more" if len(absent) > _SHOWN else "")
        )
    return "\n".join(lines)


def _percent(row):
    if row.low is None:
        return f"{row.value:.1f} %"
    return f"{row.value:.1f} ({row.low:.1f} to {row.high:.1f}) %"
