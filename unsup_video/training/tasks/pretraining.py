"""Pretraining: encoder and decoders learn from videos without labels."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.data import overlap
from unsup_video.data.sources import Source
from unsup_video.models import outputs, video_models
from unsup_video.models.video_models import VideoModel
from unsup_video.pictures import visualize
from unsup_video.training import checkpoints, fields, unread, workdir
from unsup_video.training.evaluating import Shared, alone
from unsup_video.training.tasks.base import Task
from unsup_video.training.trained import TrainedModel
from unsup_video.utils.indices import evenly_spread

_AT_LEAST_ONE = ("data.frames_in", "data.frames_out", "eval.validation_clips", "eval.test_clips")


def check(config: ConfigDict) -> None:
    """Raises ValueError for a config of another task, or a number out of its range.

    Numbers of frames, clips and steps are at least 1, the patience at least 0. `model.init` is not
    empty.
    """
    fields.check_task(config, "pretraining")
    fields.check_numbers(config, _AT_LEAST_ONE)
    if not fields.completed(config.to_dict())["model"]["init"]:
        raise ValueError(f"--init is empty: give a run or a SavedModel, or {configs.NO_INIT}")


def start_from(init: TrainedModel, config: ConfigDict, source: Source, model: VideoModel) -> None:
    """Copies all weights of a trained model into the model of a new run of `config` on `source`.

    Raises:
        ValueError: the two differ in their architecture or in the shape of their frames.
    """
    ignored = {"model.init", *unread.of_pretraining(config)}
    differences = workdir.differences(init.config.to_dict(), config.to_dict(), ignored)
    if lines := [f"config.{line}" for line in differences if line.startswith("model.")]:
        raise ValueError(
            f"{init.path} has another architecture than this run:\n  "
            + "\n  ".join(lines)
            + "\nGive the values that it has there (--config.model.FIELD=VALUE)."
        )
    if tuple(init.frame_shape) != tuple(source.frame_shape):
        raise ValueError(
            f"{init.path} reads frames of {tuple(init.frame_shape)}, those of this run's data are "
            f"{tuple(source.frame_shape)}"
        )
    arrays = {name: v.numpy() for name, v in checkpoints.weights(init.model.network).items()}
    checkpoints.load_weights(model.network, arrays, init.path)


def score_name(model: VideoModel) -> str:
    """Returns the name of the decoder whose free-running loss ranks checkpoints."""
    return "future" if "future" in model.outputs else "reconstruction"


def mode(model: VideoModel, name: str) -> str:
    """Returns "teacher_forced" or "free_running", the mode of a decoder in `model.training`."""
    is_taught = name in model.conditional and model.conditional_input == "truth"
    return "teacher_forced" if is_taught else "free_running"


def decoder_targets(past, future) -> dict:
    """Returns the targets of the decoders, tensors: the REVERSED past, and the future."""
    # A slice [:, ::-1] of a tensor takes 10 times as long as tf.reverse.
    return {"reconstruction": tf.reverse(past, [1]), "future": future}


def target_arrays(past: np.ndarray, future: np.ndarray) -> dict[str, np.ndarray]:
    """Returns `decoder_targets` of arrays; the reversed past is a view."""
    return {"reconstruction": past[:, ::-1], "future": future}


def split(clips, frames_in: int, frames_out: int):
    """Divides clips (B, T, D) into the frames to read and the frames to predict."""
    return clips[:, :frames_in], clips[:, frames_in : frames_in + frames_out]


def _compiled_losses(model):
    """Compiles `model.frame_losses` with XLA, which takes a third less time."""
    return tf.function(model.frame_losses, jit_compile=True, autograph=False)


def evaluator(model: VideoModel, config: ConfigDict) -> Callable[..., dict[str, float]]:
    """Returns a function from clips (N, T, D) to mean losses per frame by name.

    With a second argument, several processes share the batches (see `evaluating`). The names are
    "free_running/future" and the like; conditional decoders are also scored under
    "teacher_forced/..". The figures do not depend on the batch size of the evaluation.
    """

    frame_losses = _compiled_losses(model)

    @tf.function(reduce_retracing=True, autograph=False)
    def batch_losses(past, future):
        targets = decoder_targets(past, future)
        x = model.free_running({"past": past, "clock": future[:, :, 0]})
        results = {f"free_running/{k}": v for k, v in frame_losses(targets, x).items()}
        if model.conditional:
            x = model.teacher_forced({"past": past, "future": future})
            taught = frame_losses(targets, {k: x[k] for k in model.conditional})
            results |= {f"teacher_forced/{k}": v for k, v in taught.items()}
        return results

    def evaluate(clips: np.ndarray, shared: Shared = alone):
        size = config.eval.batch_size

        def losses(batches):
            for i in batches:
                batch = clips[i * size : (i + 1) * size]
                past, future = split(batch, config.data.frames_in, config.data.frames_out)
                of_batch = batch_losses(tf.constant(past), tf.constant(future))
                yield {k: v.numpy() for k, v in of_batch.items()}

        parts = shared(losses, -(-len(clips) // size))
        return {
            k: float(np.mean(np.concatenate([p[k] for p in parts]), dtype=np.float64))
            for k in parts[0]
        }

    return evaluate


class Pretraining(Task):
    """Trains a video model on clips (B, T, D).

    Raises:
        ValueError: `config.recipe.batch_reduction` is unknown.
    """

    def __init__(self, config: ConfigDict, model: VideoModel, source: Source):
        fields.check_reduction(config)
        self.config = config
        self.model = model
        self.source = source
        self.network = model.network
        self.unit = outputs.frame_units(model.decoder_outputs)
        self.reduction = config.recipe.batch_reduction
        self._frame_losses = _compiled_losses(model)
        self._evaluate = evaluator(model, config)
        self._validation = None

    def prepare(self, log):
        self._validation = self.source.evaluation("validation", self.config.eval.validation_clips)
        if not visualize.drawable(self.source.frame_shape):
            log(f"frames of shape {self.source.frame_shape} are no pictures: no samples are drawn")

    def write(self, workdir):
        workdir.write_mean_frame(self.source.mean_frame)

    def train(self, start, share):
        return self.source.train(self.config.recipe.batch_size, start, share)

    def losses(self, batch):
        """Returns the sum over decoders, frames and pixels; over the batch, the mean or the sum."""
        data = self.config.data
        past, future = split(batch, data.frames_in, data.frames_out)
        targets = decoder_targets(past, future)
        x = self.network({"past": past, "future": future}, training=True)
        frame = self._frame_losses(targets, x)
        total = tf.add_n([tf.reduce_sum(loss) for loss in frame.values()])
        if self.reduction == "mean":
            total /= tf.cast(tf.shape(batch)[0], total.dtype)
        return total, {f"{mode(self.model, k)}/{k}": tf.reduce_mean(v) for k, v in frame.items()}

    def validate(self, shared):
        return self._evaluate(self._validation, shared)

    def score(self, figures):
        return figures[f"free_running/{score_name(self.model)}"]

    def test(self):
        """Returns the mean losses per frame of the test clips, and the floors.

        Returns:
            {"clips": N, "scores": {"free_running/future": ..}, "floors": {"future":
            {"mean_frame": .., "copy_last": .., "entropy": ..}, ..}}.
        """
        config, source = self.config, self.source
        clips = source.evaluation("test", config.eval.test_clips)
        past, future = split(clips, config.data.frames_in, config.data.frames_out)
        targets = {"reconstruction": past, "future": future}
        return {
            "clips": len(clips),
            "scores": self._evaluate(clips),
            "floors": {
                name: output.floors(past, targets[name], source.mean_frame)
                for name, output in self.model.decoder_outputs.items()
            },
        }

    def sample(self, workdir, board, step):
        """Draws strips and animations of four clips, evenly spaced over the validation data."""
        shape, data = self.source.frame_shape, self.config.data
        if not visualize.drawable(shape):
            return
        clips = self._validation
        chosen = clips[evenly_spread(4, len(clips))]
        past, future = split(chosen, data.frames_in, data.frames_out)
        out = self.model.inference({"past": past, "clock": future[:, :, 0]})
        for i in range(len(past)):
            frames = {
                "past": past[i].reshape(-1, *shape),
                "future": future[i].reshape(-1, *shape),
                "reconstruction": None,
                "prediction": None,
            }
            if "reconstruction" in out:
                frames["reconstruction"] = out["reconstruction"][i].numpy().reshape(-1, *shape)
            if "future" in out:
                frames["prediction"] = out["future"][i].numpy().reshape(-1, *shape)
            stem = workdir.samples / f"step-{step:08d}-{i}"
            visualize.sample_figure(**frames, path=stem.with_suffix(".png"))
            gif = visualize.sample_gif(**frames, path=stem.with_suffix(".gif"))
            board.animation(step, f"samples/{i}", gif)


def table(config: ConfigDict, results: dict, expect: ConfigDict | None = None) -> str:
    """Returns a table of the results, the floors and the expected figures of `config.expect`."""
    names = list(results["floors"])
    unit = outputs.frame_units(video_models.decoder_outputs(config.model))
    head = f"test set, {results['clips']:,} clips, {unit}"
    lines = [f"{head:<44}" + "".join(f"{name:>16}" for name in names)]

    def row(label, values):
        lines.append(f"{label:<44}" + "".join(f"{v:16.1f}" if v else f"{'-':>16}" for v in values))

    labels = {"free_running": "this run", "teacher_forced": "this run, teacher-forced"}
    for how, label in labels.items():
        values = [results["scores"].get(f"{how}/{name}") for name in names]
        if any(values):
            row(f"{label} (step {results['step']})", values)
    if expect:
        row(f"expected: {expect.source}", [expect.get(name) for name in names])
    for floor, label in outputs.FLOORS.items():
        # Finished runs of earlier versions have no "entropy".
        values = [results["floors"][name].get(floor) for name in names]
        if any(values):  # the squared loss has an entropy of 0
            row(label, values)
    return "\n".join(lines + overlap.notes(results.get("seen"), None, "sequences"))
