"""The one training loop."""

import signal
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video import losses, visualize
from unsup_video.data.sources import Source
from unsup_video.models import VideoModel
from unsup_video.training import checkpoints, recipes
from unsup_video.training.summaries import TensorBoard
from unsup_video.training.workdir import Workdir

# Fused by XLA: a third less time than op by op (losses), and than Keras' Adam op by op.
_frame_losses = tf.function(losses.frame_losses, jit_compile=True, autograph=False)


class NonFiniteLoss(ValueError):
    """The loss or its gradient became infinite or NaN; the last checkpoint is still good."""


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved."""


def score_name(model: VideoModel) -> str:
    """The decoder whose free-running loss ranks checkpoints."""
    return "future" if "future" in model.outputs else "reconstruction"


def mode(model: VideoModel, name: str) -> str:
    """How decoder `name` runs inside `model.training`; scores of the two never mix."""
    return "teacher_forced" if name in model.conditional else "free_running"


def decoder_targets(past, future) -> dict:
    """What each decoder should give: the past REVERSED, and the future."""
    return {"reconstruction": past[:, ::-1], "future": future}


def split(clips, frames_in: int, frames_out: int):
    """(B, T, D) clips -> the frames to read and the frames to predict."""
    return clips[:, :frames_in], clips[:, frames_in : frames_in + frames_out]


def evaluator(model: VideoModel, config: ConfigDict) -> Callable[[np.ndarray], dict[str, float]]:
    """A function: clips (N, T, D) -> mean loss a frame, {"free_running/future": .., ..}.

    Decoders that read their previous frame are also scored teacher-forced, under that name. The
    figures do not depend on the batch size of the evaluation.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def batch_losses(past, future):
        targets = decoder_targets(past, future)
        x = model.free_running({"past": past, "clock": future[:, :, 0]})
        results = {f"free_running/{k}": _frame_losses(model.output, targets[k], x[k]) for k in x}
        if model.conditional:
            x = model.training({"past": past, "future": future})
            for k in model.conditional:
                results[f"teacher_forced/{k}"] = _frame_losses(model.output, targets[k], x[k])
        return results

    def evaluate(clips):
        parts = []
        for start in range(0, len(clips), config.eval.batch_size):
            batch = clips[start : start + config.eval.batch_size]
            past, future = split(batch, config.data.frames_in, config.data.frames_out)
            parts.append(batch_losses(tf.constant(past), tf.constant(future)))
        return {
            k: float(np.mean(np.concatenate([p[k].numpy() for p in parts]), dtype=np.float64))
            for k in parts[0]
        }

    return evaluate


class Trainer:
    """A model with its optimiser, its place in the run, and everything a checkpoint holds."""

    def __init__(self, config: ConfigDict, model: VideoModel):
        if config.recipe.batch_reduction not in ("mean", "sum"):
            raise ValueError(
                f"unknown recipe.batch_reduction {config.recipe.batch_reduction!r}: mean or sum"
            )
        self.config = config
        self.model = model
        self.schedule = recipes.learning_rate(config.recipe, config.train.steps)
        self.optimizer = recipes.optimizer(config.recipe, config.train.steps)
        self.optimizer.build(model.training.trainable_variables)
        self.step = 0
        self.elapsed_s = 0.0
        self.sums: dict[str, float] = {}  # of the steps since the last log line
        self.count = 0
        self.best: dict | None = None  # {"step": .., "score": ..}
        self.stale = 0  # evaluations since the best one
        self._train_step = tf.function(self._step, autograph=False)
        self._apply = tf.function(self._apply_gradients, jit_compile=True, autograph=False)

    def _step(self, clips):
        data, model = self.config.data, self.model
        past, future = split(clips, data.frames_in, data.frames_out)
        targets = decoder_targets(past, future)
        variables = model.training.trainable_variables
        with tf.GradientTape() as tape:
            x = model.training({"past": past, "future": future}, training=True)
            frame = {k: _frame_losses(model.output, targets[k], x[k]) for k in model.outputs}
            # Summed over frames and pixels, and over the batch or its mean.
            total = tf.add_n([tf.reduce_sum(loss) for loss in frame.values()])
            if self.config.recipe.batch_reduction == "mean":
                total /= tf.cast(tf.shape(clips)[0], total.dtype)
        gradients = tape.gradient(total, [v.value for v in variables])
        results = {f"{mode(model, k)}/{k}": tf.reduce_mean(loss) for k, loss in frame.items()}
        results["gradient_norm"] = tf.linalg.global_norm(gradients)
        self._apply(gradients)
        return results

    def _apply_gradients(self, gradients):
        self.optimizer.apply(gradients, self.model.training.trainable_variables)

    def train_step(self, clips) -> None:
        """One update from `clips` (B, T, D).

        Raises:
            NonFiniteLoss: naming the step.
        """
        results = {k: float(v) for k, v in self._train_step(clips).items()}
        self.step += 1
        if not np.isfinite(list(results.values())).all():
            raise NonFiniteLoss(
                f"step {self.step}: {', '.join(f'{k} {v:.4g}' for k, v in results.items())}"
            )
        for k, v in results.items():
            self.sums[k] = self.sums.get(k, 0.0) + v
        self.count += 1

    def interval_means(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        means = {k: v / self.count for k, v in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def weights(self) -> dict[str, np.ndarray]:
        """The model's weights as a checkpoint holds them.

        Raises:
            NonFiniteLoss: naming the step and the first weight that is not finite.
        """
        return self._finite(weights(self.model))

    def _slots(self):
        return {f"optimizer/{i:03d}/{v.name}": v for i, v in enumerate(self.optimizer.variables)}

    def _finite(self, variables):
        arrays = {name: v.numpy() for name, v in variables.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise NonFiniteLoss(f"step {self.step}: {name} is not finite after the update")
        return arrays

    def save(self, workdir: Workdir) -> None:
        arrays = self._finite({**weights(self.model), **self._slots()})
        meta = {k: getattr(self, k) for k in ("elapsed_s", "sums", "count", "best", "stale")}
        checkpoints.save(workdir.checkpoints, self.step, arrays, meta)

    def restore(self, path) -> None:
        """Takes everything from a checkpoint.

        Raises:
            ValueError: the checkpoint is of another architecture or optimiser.
        """
        step, arrays, meta = checkpoints.restore(path)
        _assign({**weights(self.model), **self._slots()}, arrays, path)
        self.step = step
        for k, v in meta.items():
            setattr(self, k, v)


def load_weights(model: VideoModel, arrays: dict[str, np.ndarray], path) -> None:
    """Copies a checkpoint's weights into `model`.

    Raises:
        ValueError: a weight is missing, left over, or has another shape; all are named.
    """
    _assign(weights(model), {k: a for k, a in arrays.items() if k.startswith("model/")}, path)


def weights(model: VideoModel) -> dict[str, tf.Variable]:
    """The weights of a model under the names that a checkpoint has for them."""
    return {f"model/{v.path}": v for v in model.training.weights}


def _assign(variables, stored, path):
    problems = [f"{k}: missing in the checkpoint" for k in variables.keys() - stored.keys()]
    problems += [f"{k}: not in this model" for k in stored.keys() - variables.keys()]
    problems += [
        f"{k}: {stored[k].shape} in the checkpoint, {tuple(variables[k].shape)} in this model"
        for k in variables.keys() & stored.keys() if stored[k].shape != tuple(variables[k].shape)
    ]
    if problems:
        raise ValueError(
            f"{path} is a checkpoint of another architecture:\n  " + "\n  ".join(sorted(problems))
        )
    for k, v in variables.items():
        v.assign(stored[k])


def _sample(model, clips, config, shape, workdir, board, step):
    """Strips and animations of four clips, from all over the validation data."""
    count = min(4, len(clips))
    chosen = clips[np.arange(count) * len(clips) // count]
    past, future = split(chosen, config.data.frames_in, config.data.frames_out)
    out = model.inference({"past": past, "clock": future[:, :, 0]})
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


def _record(workdir, board, trainer, split_name, values):
    board.scalars(trainer.step, {f"{split_name}/{k}": v for k, v in values.items()})
    workdir.append_metrics(
        {"step": trainer.step, "split": split_name, "elapsed_s": trainer.elapsed_s, **values}
    )


def _keep_best(trainer, scores, workdir):
    score = scores[f"free_running/{score_name(trainer.model)}"]
    if trainer.best is not None and score >= trainer.best["score"]:
        trainer.stale += 1
        return
    trainer.best, trainer.stale = {"step": trainer.step, "score": score}, 0
    checkpoints.save_best(workdir.checkpoints, trainer.step, trainer.weights(), {"scores": scores})


def _stale(trainer) -> bool:
    """Whether the early stop, if there is one, applies."""
    patience = trainer.config.train.early_stop_evaluations
    return bool(patience) and trainer.stale >= patience


def _non_finite_text(error, workdir) -> str:
    good = checkpoints.latest(workdir.checkpoints)
    return (
        f"training stopped, the loss is not finite any more at {error}. "
        + (f"The last good checkpoint is {good}. " if good else "There is no checkpoint yet. ")
        + "Start anew (--overwrite) with a lower --config.recipe.learning_rate."
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _progress(trainer, means, config, examples_per_s) -> str:
    unit = "nats/frame" if trainer.model.output == "logistic" else "per frame"
    scores = "  ".join(f"{k} {means[k]:.1f}" for k in means if "/" in k)
    step, steps = trainer.step, config.train.steps
    eta = (steps - step) * config.recipe.batch_size / examples_per_s
    return (
        f"step {step}/{steps} ({100 * step / steps:.1f}%)  {examples_per_s:.0f} examples/s  "
        f"ETA {_clock(eta)}  {scores} {unit}  |g| {means['gradient_norm']:.3g}"
    )


def run(
    trainer: Trainer,
    source: Source,
    workdir: Workdir,
    info: dict,
    log: Callable[[str], None] = print,
) -> None:
    """Trains to `config.train.steps`, from the newest valid checkpoint where there is one.

    Writes run.json with `info` (see `Workdir.write_run_info`) and the checkpoint it starts from.

    The state after step k is a function of the config alone, whenever and however often the run
    was interrupted (with `config.train.deterministic`, and on one kind of machine).

    Raises:
        NonFiniteLoss: nothing of the bad step is saved.
        CheckpointError: every checkpoint is damaged.
        Interrupted: after SIGTERM or SIGINT; the state is saved.
    """
    config, model = trainer.config, trainer.model
    newest = checkpoints.latest(workdir.checkpoints)
    if newest is not None:
        trainer.restore(newest)
        log(f"resumed from {newest}")
    workdir.write_run_info({**info, "resumed_from": newest and newest.name})
    workdir.write_mean_frame(source.mean_frame)
    checkpoints.discard_after(workdir.checkpoints, trainer.step)
    workdir.truncate_metrics(trainer.step)
    validation = source.evaluation("validation", config.eval.validation_clips)
    evaluate = evaluator(model, config)
    batch_size, steps = config.recipe.batch_size, config.train.steps
    if not visualize.drawable(source.frame_shape):
        log(f"frames of shape {source.frame_shape} are no pictures: no samples are drawn")

    stop_signals = []

    def stop(number, frame):
        if stop_signals:  # asked twice: at once
            raise KeyboardInterrupt
        stop_signals.append(number)
        log("stopping: saving after this step ...")

    handlers = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    board = TensorBoard(workdir.tb)
    try:
        clips = iter(source.train(batch_size, start=trainer.step * batch_size))
        first = trainer.step + 1
        since = None  # (time, step) from which the speed is measured
        while trainer.step < steps and not _stale(trainer):
            started = time.perf_counter()
            if trainer.step + 1 == first:
                log("compiling the training step, which takes some seconds ...")
            trainer.train_step(next(clips))
            step = trainer.step
            if step == first:
                log(f"compiled and ran step {step} in {time.perf_counter() - started:.0f} s")
            else:
                trainer.elapsed_s += time.perf_counter() - started
            since = since or (time.perf_counter(), step)

            if step % config.train.log_every == 0 or step == steps:
                means = trainer.interval_means()
                rate = float(trainer.schedule(step - 1))  # the optimiser counts from 0
                _record(workdir, board, trainer, "train", {**means, "learning_rate": rate})
                if step > since[1]:
                    seconds = time.perf_counter() - since[0]
                    speed = (step - since[1]) * batch_size / seconds
                    log(_progress(trainer, means, config, speed))
                since = (time.perf_counter(), step)
            if step % config.train.eval_every == 0 or step == steps:
                scores = evaluate(validation)
                _record(workdir, board, trainer, "validation", scores)
                _keep_best(trainer, scores, workdir)
                if visualize.drawable(source.frame_shape):
                    _sample(model, validation, config, source.frame_shape, workdir, board, step)
                log("  validation: " + "  ".join(f"{k} {v:.1f}" for k, v in scores.items()))
                since = (time.perf_counter(), step)
            last = step == steps or _stale(trainer)
            if step % config.train.checkpoint_every == 0 or last or stop_signals:
                trainer.save(workdir)
                since = (time.perf_counter(), step)
            if stop_signals and not last:
                raise Interrupted(
                    f"{signal.Signals(stop_signals[0]).name}: saved step {step} of {steps}; "
                    "the same command goes on from there"
                )
        if _stale(trainer):
            log(f"stopped early at step {trainer.step}: {trainer.stale} evaluations without a "
                f"better one than that of step {trainer.best['step']}")
    except NonFiniteLoss as error:
        raise NonFiniteLoss(_non_finite_text(error, workdir)) from None
    finally:
        board.close()
        for s, handler in handlers.items():
            signal.signal(s, handler)
