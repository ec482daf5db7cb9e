"""Runs a future predictor far beyond its training length (the paper's figure 7)."""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops

from unsup_video.evaluation import intervals, results, testset
from unsup_video.models.cells import by_layer
from unsup_video.models.video_models import VideoModel
from unsup_video.pictures import charts, visualize
from unsup_video.training import precision
from unsup_video.training import trained as trained_module
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files

KIND = "long_range"
# A predictor counts as standing still below this variance of h, which lies between -1 and 1: a
# standard deviation of 0.001. The spectrum of a smaller one shows no real oscillation.
STILL = 1e-6
_SEED = 0  # of the choice of units, and of the untrained predictor's weights
_CLIPS = 100
_BLOCK = 20  # clips in memory at a time
_COLOURS = {"model": "#2f81c8", "untrained": "#cf6a22", "truth": "#28946a"}


def evaluate(
    trained: TrainedModel,
    steps: int | None = None,
    clips: int | None = None,
    units: int = 200,
    records: str | None = None,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Lets a future predictor run freely for `steps` frames and measures whether it keeps moving.

    Subject "untrained" is a predictor of the same architecture with random weights of the recipe,
    started from the state of the TRAINED encoder; "truth" stands for the frames of the clips, up
    to their end.

    Rows for each frame t = 1 .. steps:
        "activity_energy": the mean over units of (h_t - h_{t-1})^2, h the output of the
            predictor's top layer and h_0 its initial state.
        "motion": sum over pixels |x_t - x_{t-1}|, x_0 the last frame read.
    Rows with frame None, where F is the number of frames that the model was trained to predict:
        "activity_energy_late_early", "motion_late_early": `late_early` of these two. No row where
            nothing moves early.
        "variance": of h over t = F + 1 .. steps, the mean over units.
        "peak_frequency", "period", "peak_share": `peak` of the spectrum of h over the same frames.
            No row where the variance is below `STILL`, and no period where the peak is at the
            lowest frequency: that is a drift, not an oscillation.

    Pictures: `activity.png`, `persistence.png`, and, if frames are pictures, `long_range.png` and
    `long_range.gif`.

    Args:
        steps: at least 4 F; None for 100, or 4 F where that is more.
        clips: number of clips; None for 100, or all of a smaller data set.
        units: number of units in `activity.png`; all where there are fewer.
        records: a data set of data_prep's; default: that of the run, or generated clips, which are
            as long as `steps` needs.

    Raises:
        ValueError: a number is bad, or the model cannot read the clips. results.Unsuitable: the
            model has no future predictor.
    """
    data = trained.config.data
    if "future" not in trained.model.outputs:
        raise results.Unsuitable(
            f"{trained.name} is an {trained.model.kind} and has no future predictor: it cannot run "
            "ahead; train a future_predictor or a composite"
        )
    least = 4 * data.frames_out
    steps = max(100, least) if steps is None else steps
    if steps < least:
        raise ValueError(
            f"steps must be at least {least}, four times the {data.frames_out} "
            f"frames that {trained.name} was trained to predict, got {steps}"
        )
    if units < 1:
        raise ValueError(f"units, the number of units to draw, must be at least 1, got {units}")
    test_set = _test_set(trained, steps, clips, records)
    settings = {
        "data": test_set.description,
        "clips": test_set.count,
        "seen": test_set.seen,
        "steps": steps,
        "units": min(units, trained.config.model.units),
        "seed": _SEED,
        "gemm_dtype": precision.gemm_dtype(trained.config.precision),
    }
    given = {"steps": steps, "clips": clips, "units": units, "records": records}

    def compute(folder):
        models = {"model": trained.model, "untrained": trained_module.untrained(trained, _SEED)}
        log(f"{trained.name}: {steps} frames ahead of {test_set.count} clips")
        measured = _measure(trained, models, test_set, steps, log)
        pictures = [
            *_draw_first_clip(trained, models, test_set, steps, settings["units"], folder),
            _draw_persistence(
                measured, data.frames_out, test_set.groups, folder / "persistence.png"
            ),
        ]
        return results.Outcome(
            _rows(measured, data.frames_out, steps, test_set.groups, test_set.label), pictures
        )

    command = results.command(trained, KIND, given)
    return results.run(trained, KIND, settings, command, compute, recompute, log)


def _test_set(trained, steps, clips, records):
    data = trained.config.data
    length = data.frames_in + steps
    if records or data.records:
        test_set = testset.of_model(trained, records, clips, length)
        if clips is None and test_set.count > _CLIPS:
            test_set = testset.of_model(trained, records, _CLIPS, length)
    else:
        count = _CLIPS if clips is None else clips
        test_set = testset.generated(trained.config, count, num_frames=length, trained=trained)
    testset.check_fits(
        test_set, trained.frame_shape, data.frames_in + data.frames_out, trained.name
    )
    return test_set


# ---------------------------------------------------------------------- running


def free_run(model: VideoModel, states: list, steps: int) -> tuple[np.ndarray, dict]:
    """Decodes `steps` frames of the future, free-running.

    Args:
        states: the encoder's states of every layer, each (B, units).

    Returns:
        frames (B, steps, D), and the activity of the predictor's top layer as
        `RecurrentLayer.gates` returns it, each (B, steps, units).
    """
    decoder = model.decoder_layers["future"]
    clock = ops.zeros((len(states[0]), steps))
    frames = model.decoders["future"]({"states": states, "clock": clock})
    x = None
    if decoder.conditional:  # a free-running decoder reads its own frames
        x = ops.concatenate([ops.zeros_like(frames[:, :1]), model.read(frames[:, :-1])], axis=1)
    for cell, state in zip(decoder.cells, by_layer(decoder.cells, states), strict=True):
        run = {"initial_state": state, "steps": steps}
        if cell is decoder.cells[-1]:
            activity = cell.gates(x, **run)
        else:
            x, *_ = cell(x, **run)
    return np.asarray(frames), {name: np.asarray(values) for name, values in activity.items()}


# ---------------------------------------------------------------------- measuring


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """The motion and activity of one subject in N clips.

    Attributes:
        motion: (N, S), S the number of its frames.
        energy: (N, steps). power: (N, K), see `spectrum`. Both are None for the truth, which has no
            units.
    """

    motion: np.ndarray
    energy: np.ndarray | None = None
    power: np.ndarray | None = None


def _measure(trained, models, test_set, steps, log):
    """Returns {subject: `Dynamics`}, computed in blocks of clips."""
    read, predicted = trained.config.data.frames_in, trained.config.data.frames_out
    blocks = {subject: [] for subject in (*models, "truth")}
    for start in range(0, test_set.count, _BLOCK):
        clips = test_set.clips(start, min(_BLOCK, test_set.count - start))[:, : read + steps]
        last = clips[:, read - 1 : read]
        states = trained.model.encode(clips[:, :read])
        before, *_ = by_layer(trained.model.cells, states)[-1]  # the output of the top layer
        blocks["truth"].append((motion(last, clips[:, read:]),))
        for subject, model in models.items():
            frames, activity = free_run(model, states, steps)
            h = activity["output"]
            blocks[subject].append(
                (
                    motion(last, frames),
                    activity_energy(np.asarray(before)[:, None], h),
                    spectrum(h[:, predicted:]),
                )
            )
        log(f"{trained.name}: {start + len(clips)} of {test_set.count} clips")
    return {
        subject: Dynamics(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        for subject, parts in blocks.items()
    }


def motion(before: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Sums |x_t - x_{t-1}| over pixels: frames (N, S, D) after `before` (N, 1, D) -> (N, S)."""
    steps = np.diff(np.concatenate([before, frames], axis=1), axis=1)
    return np.abs(steps).sum(-1, dtype=np.float64)


def activity_energy(before: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Averages (h_t - h_{t-1})^2 over units: h (N, S, U) after `before` (N, 1, U) -> (N, S)."""
    steps = np.diff(np.concatenate([before, h], axis=1).astype(np.float64), axis=1)
    return (steps**2).mean(-1)


def spectrum(h: np.ndarray) -> np.ndarray:
    """Returns the power of h, (N, n, units), at 1/n, 2/n, .. 1/2 cycles per frame: (N, n // 2).

    With X_k the discrete Fourier transform of a unit over its n frames minus its mean,

        P_k = mean over units of w_k |X_k|^2 / n^2,   w_k = 2, but 1 for k = n/2,

    so that sum_k P_k is the variance over time, the mean over units. A drift looks like the lowest
    frequency: a period as long as the n frames is no oscillation.
    """
    n = h.shape[1]
    x = h.astype(np.float64)
    power = np.abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1)[:, 1:] / n) ** 2
    weights = np.where(2 * np.arange(1, n // 2 + 1) == n, 1, 2)
    return weights * power.mean(-1)


def peak(power: np.ndarray, n: int) -> tuple[float, np.ndarray]:
    """Returns (frequency, share) of the peak of the mean of spectra (N, n // 2) over n frames.

    The frequency is in cycles per frame. The share is that of the power in the bin of the peak and
    its two neighbours, one value per clip, (N,), see `ratio`.
    """
    k = power.mean(0).argmax()
    return (k + 1) / n, ratio(power[:, max(k - 1, 0) : k + 2].sum(1), power.sum(1))


def late_early(values: np.ndarray, frames_out: int) -> np.ndarray | None:
    """Divides late motion by early motion: values per frame, (N, S) -> (N,), see `ratio`.

    The ratio is the mean over the last half of the S frames, divided by the mean over frames 2 ..
    frames_out (frame 2 for frames_out = 1). The model was trained on these early frames, where
    even a predictor that stops later still moves: two intervals after it has stopped would compare
    rounding errors. Frame 1 is left out, since it holds the jump from the last frame read.

    Returns None where nothing moves early.
    """
    late = values[:, values.shape[1] // 2 :].mean(1)
    early = values[:, 1 : max(frames_out, 2)].mean(1)
    return ratio(late, early) if early.any() else None


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Returns R = sum(numerators) / sum(denominators) over clips, as one value per clip.

        R + (numerator_n - R denominator_n) / mean(denominators)

    Their mean is R, and the interval of their mean is that of R by the delta method. The mean of
    the clips' own ratios would depend mostly on the clips with the smallest denominators.
    """
    r = numerators.mean() / denominators.mean()
    return r + (numerators - r * denominators) / denominators.mean()


def _rows(measured, frames_out, steps, groups, data="test"):
    rows = []

    def add(subject, metric, values, unit="", frame=None, count=None):
        mode = "" if subject == "truth" else "free_running"
        rows.append(
            results.row(
                subject,
                data,
                "future",
                metric,
                values,
                mode,
                unit,
                frame,
                count,
                groups if np.ndim(values) else None,
            )
        )

    for subject, dynamics in measured.items():
        for metric, values in {
            "activity_energy": dynamics.energy,
            "motion": dynamics.motion,
        }.items():
            if values is None:
                continue
            for t, column in enumerate(values.T):
                add(subject, metric, column, frame=t + 1)
            whole = values.shape[1] == steps  # False for clips of a data set that end earlier
            compared = late_early(values, frames_out) if whole else None
            if compared is not None:
                add(subject, f"{metric}_late_early", compared)
        if dynamics.power is None:
            continue
        variance = dynamics.power.sum(1)
        add(subject, "variance", variance)
        if variance.mean() >= STILL:
            frequency, share = peak(dynamics.power, steps - frames_out)
            count = len(dynamics.power)
            add(subject, "peak_frequency", frequency, "cycles/frame", count=count)
            if frequency > 1 / (steps - frames_out):
                add(subject, "period", 1 / frequency, "frames", count=count)
            add(subject, "peak_share", share)
    return rows


# ---------------------------------------------------------------------- pictures


def _draw_first_clip(trained, models, test_set, steps, units, folder):
    data = trained.config.data
    clip = test_set.clips(0, 1)
    past, truth = clip[:, : data.frames_in], clip[0, data.frames_in : data.frames_in + steps]
    states = trained.model.encode(past)
    total = trained.config.model.units
    chosen = np.sort(np.random.default_rng(_SEED).choice(total, units, replace=False))
    activities, frames = {}, {}
    for subject, model in models.items():
        frames[subject], activity = free_run(model, states, steps)
        activities[subject] = {name: x[0][:, chosen].T for name, x in activity.items()}
    ranges = trained.model.cells[-1].gate_ranges
    _draw_activity(activities, ranges, data.frames_out, folder / "activity.png")
    which = f"all {units} units" if units == total else f"{units} of {total} units, chosen randomly"
    activity = results.Picture(
        "activity.png",
        f"Activity of {which}, of the future predictor's top layer, over {steps} steps of one "
        "clip: the trained predictor above one with random weights that starts from the same "
        f"state; the dashed line is where training ended, step {data.frames_out}",
    )
    shape = trained.frame_shape
    if not visualize.drawable(shape):
        return [activity]
    past, truth, made = (x.reshape(-1, *shape) for x in (past, truth, frames["model"]))
    shown = _shown_steps(steps)
    picture = visualize.strip(
        [
            ("truth", [truth[t - 1] if t <= len(truth) else None for t in shown]),
            ("model", [made[t - 1] for t in shown]),
        ],
        shown,
    )
    with files.atomic_write(folder / "long_range.png") as temporary:
        picture.save(temporary, "PNG")
    ended = np.zeros((steps - len(truth), *shape), truth.dtype)
    visualize.sample_gif(
        past, np.concatenate([truth, ended]), None, made, folder / "long_range.gif", fps=10
    )
    until = "" if len(truth) == steps else f"; the clips end after step {len(truth)}"
    return [
        activity,
        results.Picture(
            "long_range.png", f"One clip up to step {steps} of the future: truth and model{until}"
        ),
        results.Picture(
            "long_range.gif",
            f"One clip, {data.frames_in} frames read and {steps} predicted: truth and model{until}",
        ),
    ]


def _shown_steps(steps):
    """Returns 1, 2, 5, .. 75, 100, 150, 200, .. and the last step."""
    usual = [1, 2, 5, 10, 15, 20, 30, 50, 75, *range(100, steps, 50)]
    return [t for t in usual if t < steps] + [steps]


def _draw_activity(activities, ranges, frames_out, path):
    """Draws {subject: {name: (units, steps)}}: one row of panels per subject, one column per name.

    The colour scale of a name without a range in `ranges` covers its values.
    """
    names = list(next(iter(activities.values())))
    with visualize.figure(path, (3 * len(names), 7), dpi=100) as figure:
        axes = figure.subplots(len(activities), len(names), sharex=True, sharey=True, squeeze=False)
        for column, name in enumerate(names):
            limits = ranges.get(name)
            if limits is None:
                values = [np.abs(activity[name]) for activity in activities.values()]
                largest = max(np.quantile(x, 0.99) for x in values) or 1.0
                limits = (-largest, largest)
            for row, (subject, activity) in enumerate(activities.items()):
                panel = axes[row, column]
                units, steps = activity[name].shape
                image = panel.imshow(
                    activity[name],
                    cmap="viridis" if limits[0] == 0 else "RdBu_r",
                    vmin=limits[0],
                    vmax=limits[1],
                    aspect="auto",
                    interpolation="nearest",
                    extent=(0.5, steps + 0.5, units + 0.5, 0.5),
                )
                panel.axvline(frames_out + 0.5, color="black", linestyle="--", linewidth=1)
                if row == 0:
                    panel.set_title(name.replace("_", " "))
                if column == 0:
                    panel.set_ylabel(f"{subject}\nunit")
            panel.set_xlabel("step")
            figure.colorbar(image, ax=axes[:, column], location="bottom", shrink=0.9)


def _draw_persistence(measured, frames_out, groups, path):
    with visualize.figure(path, (15, 4.5), dpi=100) as figure:
        energy, spectra, moved = figure.subplots(1, 3)
        for subject, dynamics in measured.items():
            if dynamics.energy is not None:
                _line(energy, subject, dynamics.energy, groups)
                frequencies = np.arange(1, dynamics.power.shape[1] + 1) / (
                    dynamics.energy.shape[1] - frames_out
                )
                power = dynamics.power.mean(0)
                spectra.plot(frequencies, power, color=_COLOURS[subject], label=subject)
            _line(moved, subject, dynamics.motion, groups)
        energy.set(title="activity: mean over units of (hₜ - hₜ₋₁)²", xlabel="step")
        spectra.set(
            title=f"power spectrum of h after step {frames_out}",
            xlabel="frequency (cycles per frame)",
        )
        for axes in (energy, spectra):
            charts.log_scale(axes)
        moved.set(title="motion: sum over pixels of |xₜ - xₜ₋₁|", xlabel="step", ylim=(0, None))
        for axes in (energy, moved):
            axes.axvline(frames_out + 0.5, color="grey", linestyle="--", linewidth=1)
        for axes in (energy, spectra, moved):
            axes.grid(alpha=0.3)
            axes.legend()
    return results.Picture(
        path.name,
        "Does the motion continue? The activity of the predictor's units, their spectrum, and the "
        "motion in the frames, means over clips with their 95% intervals; the dashed line is where "
        f"training ended, step {frames_out}",
    )


def _line(axes, subject, values, groups):
    mean, low, high = np.array([intervals.interval(column, groups) for column in values.T]).T
    steps = np.arange(1, len(mean) + 1)
    axes.plot(steps, mean, color=_COLOURS[subject], label=subject)
    axes.fill_between(steps, low, high, color=_COLOURS[subject], alpha=0.2, linewidth=0)


_COLUMNS = {
    "activity_energy_late_early": "activity late/early",
    "variance": "variance",
    "period": "period (frames)",
    "peak_share": "share of peak",
    "motion_late_early": "motion late/early",
}


def table(evaluation: results.Evaluation) -> str:
    """Returns the summaries as text, one line per subject."""
    lines = [" " * 12 + "".join(f"{title:>21}" for title in _COLUMNS.values())]
    for subject in _COLOURS:
        cells = []
        for metric in _COLUMNS:
            rows = evaluation.find(subject=subject, metric=metric, frame=None)
            cells.append(f"{rows[0].value:>21.3g}" if rows else f"{'-':>21}")
        lines.append(f"{subject:<12}" + "".join(cells))
    return "\n".join(lines)
