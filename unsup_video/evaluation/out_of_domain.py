"""Tests a model on other numbers of digits than it was trained on (the paper's figure 8)."""

from collections.abc import Callable
from pathlib import Path

from unsup_video.evaluation import predict, results, testset
from unsup_video.pictures import visualize
from unsup_video.training import precision
from unsup_video.training.tasks import pretraining
from unsup_video.training.trained import TrainedModel

KIND = "out_of_domain"
_PICTURES = 3  # clips to draw for each number of digits


def evaluate(
    trained: TrainedModel,
    num_digits: tuple[int, ...] = (1, 3),
    clips: int = 1000,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Scores and draws a model of Moving MNIST on these numbers of digits, and on its own.

    All clips are generated from test digits. The rows have the model's free-running loss of each
    part, per frame and on average, and the floors; `data` is "N digits". "relative_excess" compares
    numbers of digits: the mean loss above the targets' entropy, per digit, divided by the same
    quantity in domain. A value of 1 means that each digit is predicted as well as in domain; an
    additional digit in the prediction raises it, too.

    Raises:
        ValueError: a number is bad. FileNotFoundError: digits are missing.
        results.Unsuitable: the model was not trained on generated Moving MNIST, or on records that
            are missing.
    """
    try:
        own = testset.generator(trained.config).num_digits
    except ValueError as error:
        raise results.Unsuitable(f"{trained.name} was trained on other data: {error}") from None
    except FileNotFoundError as error:
        if not trained.config.data.records:
            raise
        raise results.Unsuitable(
            f"{trained.name}: the data that it was trained on are missing: {error}"
        ) from None
    numbers = sorted({own, *num_digits})
    data = trained.config.data
    test_sets = {n: testset.generated(trained.config, clips, num_digits=n) for n in numbers}
    for test_set in test_sets.values():
        testset.check_fits(
            test_set, trained.frame_shape, data.frames_in + data.frames_out, trained.name
        )
    settings = {
        "data": [test_set.description for test_set in test_sets.values()],
        "clips": clips,
        "gemm_dtype": precision.gemm_dtype(trained.config.precision),
    }
    given = {"num_digits": ",".join(map(str, num_digits)), "clips": clips}

    def compute(folder):
        rows, pictures = [], []
        for n, test_set in test_sets.items():
            log(f"{trained.name}: {clips:,} clips of {_name(n)}")
            clip_values = test_set.clips(0, clips)
            outputs = predict.predict(trained, clip_values)
            rows += _rows(trained, n, clip_values, outputs)
            pictures += _draw(trained, n, clip_values[:_PICTURES], outputs, folder, n == own)
        return results.Outcome(rows + _relative(rows, own), pictures)

    command = results.command(trained, KIND, given)
    return results.run(trained, KIND, settings, command, compute, recompute, log)


def _name(digits):
    return f"{digits} digit{'s' if digits > 1 else ''}"


def _rows(trained, digits, clips, outputs):
    data = trained.config.data
    past, future = pretraining.split(clips, data.frames_in, data.frames_out)
    targets = pretraining.target_arrays(past, future)
    rows = []
    for part, (frame_losses, _) in outputs.items():
        output = trained.model.decoder_outputs[part]
        metric, unit = output.metric, output.unit
        columns = [(None, frame_losses.mean(1))]
        columns += [(t + 1, values) for t, values in enumerate(frame_losses.T)]
        rows += [
            results.row("model", _name(digits), part, metric, values, "free_running", unit, frame)
            for frame, values in columns
        ]
        floors = output.floors(past, targets[part], trained.mean_frame)
        rows += [
            results.row(subject, _name(digits), part, metric, value, "", unit, count=len(clips))
            for subject, value in floors.items()
        ]
    return rows


def _relative(rows, own):
    """Divides the loss above the entropy, per digit, by that on the model's number of digits."""
    means = {(r.subject, r.data, r.part): r for r in rows if r.frame is None}

    def excess(data, part):
        loss = means["model", data, part].value - means["entropy", data, part].value
        return loss / int(data.split()[0])

    return [
        results.row(
            "model",
            r.data,
            r.part,
            "relative_excess",
            excess(r.data, r.part) / excess(_name(own), r.part),
            r.mode,
            count=r.count,
        )
        for r in means.values()
        if r.subject == "model"
    ]


def _draw(trained, digits, clips, outputs, folder: Path, in_domain):
    data, shape = trained.config.data, trained.frame_shape
    past, future = pretraining.split(clips, data.frames_in, data.frames_out)
    pictures = []
    for i in range(len(clips)):
        made = {part: frames[i].reshape(-1, *shape) for part, (_, frames) in outputs.items()}
        frames = {
            "past": past[i].reshape(-1, *shape),
            "future": future[i].reshape(-1, *shape),
            "reconstruction": made.get("reconstruction"),
            "prediction": made.get("future"),
        }
        stem = f"{_name(digits).replace(' ', '_')}-{i}"
        visualize.sample_figure(**frames, path=folder / f"{stem}.png")
        visualize.sample_gif(**frames, path=folder / f"{stem}.gif")
        what = "as in training" if in_domain else "never seen in training"
        caption = f"{_name(digits)}, {what}: truth and model, clip {i + 1}"
        pictures += [results.Picture(f"{stem}.{end}", caption) for end in ("png", "gif")]
    return pictures


def table(evaluation: results.Evaluation) -> str:
    """Returns a text with one line for each number of digits."""
    means = evaluation.find(subject="model", frame=None)
    losses = [r for r in means if r.metric != "relative_excess"]
    metrics = {r.part: r.metric for r in losses}
    parts = list(metrics)
    lines = [
        f"{' / '.join(dict.fromkeys(metrics.values())) + ', free-running':<28}"
        + "".join(f"{part:>16}{'entropy':>9}{'x in domain':>13}" for part in parts)
    ]
    for name in dict.fromkeys(r.data for r in losses):
        cells = []
        for part in parts:
            here = {"data": name, "part": part, "frame": None}
            model, times = (
                evaluation.find(subject="model", **here, metric=metric)[0].value
                for metric in (metrics[part], "relative_excess")
            )
            entropy = evaluation.find(subject="entropy", **here)[0].value
            cells.append(f"{model:>16.1f}{entropy:>9.1f}{times:>13.2f}")
        lines.append(f"{name:<28}" + "".join(cells))
    return "\n".join(lines)
