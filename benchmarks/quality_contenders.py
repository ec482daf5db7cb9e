"""The Keras contenders of `time_to_quality`: this package, and stock LSTMs with `fit` and Adam.

Both train on the package's stream of clips, which `tf.data` makes beside the step, in float32 or
with matrix products in bfloat16.
"""

import math
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks._common import Size
from benchmarks._quality import Run
from benchmarks.contenders import stock_model
from unsup_video.configs import quickstart
from unsup_video.data import digits, moving_mnist, sources
from unsup_video.models.outputs import OUTPUTS
from unsup_video.training import experiment
from unsup_video.training.tasks import pretraining
from unsup_video.training.trainer import Trainer
from unsup_video.utils import files

_CLIPS = 100  # per call of `predict`
_ROUND = 12  # steps of a round
_LONG = 100_000  # steps of the schedule while the time of a step is measured


def config_of(size: Size, run: Run, digits_dir: str):
    """Returns the config of the quickstart with another size, seed, length and digits."""
    config = quickstart.get_config()
    config.seed = run.seed
    config.model.units, config.model.layers = size.units, size.layers
    config.recipe.batch_size = size.batch
    config.train.steps = run.steps
    config.data.frames_in = config.data.frames_out = size.frames
    config.data.frame_size = math.isqrt(size.frame_dim)
    config.data.digits_dir = digits_dir
    return config


def write_clips(path: Path, size: Size, count: int, digits_dir: str = "") -> None:
    """Writes the validation clips of seed 0 as (count, 2 T, D) uint8 to a .npy file."""
    source = sources.build(config_of(size, Run("package", 0.0, "recipe", 1, 0), digits_dir))
    with files.atomic_write(path) as temporary:
        np.save(temporary, np.rint(255 * source.evaluation("validation", count)).astype(np.uint8))


def write_stream(path: Path, size: Size, run: Run, digits_dir: str = "") -> None:
    """Writes the training clips of a run before they are drawn, and the digits, to a .npz file.

    The arrays are `images`, (N, 28, 28) uint8, and `which`, `start` and `velocity` of
    `moving_mnist.draw`, with a row for every clip in the order of the package's stream.
    """
    config = config_of(size, run, digits_dir)
    images = digits.load_digits("train", digits_dir or None).images
    drawn = moving_mnist.draw(
        sources.generator(config),
        len(images),
        moving_mnist.stream_seed(run.seed, "train"),
        tf.range(run.steps * size.batch, dtype=tf.int64),
    )
    arrays = dict(zip(("which", "start", "velocity"), (x.numpy() for x in drawn), strict=True))
    with files.atomic_write(path) as temporary:
        np.savez(temporary, images=images, **arrays)


class _Contender:
    """The parts that all share: the stream of clips, and the prediction of a Keras model."""

    precision = "float32"

    def __init__(self, size: Size, run: Run, digits_dir: str = ""):
        keras.utils.set_random_seed(run.seed)
        self.size, self.run = size, run
        self.config = config_of(size, run, digits_dir)
        self.config.precision = self.precision
        self.source = sources.build(self.config)
        self._build()
        self.info = {
            "parameters": self._network.count_params(),
            "version": f"Keras {keras.version()}",
        }

    def predict(self, past: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(past), _CLIPS):
            x = tf.constant(past[start : start + _CLIPS])
            parts.append(tf.cast(self._future(x), tf.float32).numpy())
        return np.concatenate(parts)


class Package(_Contender):
    """The quickstart's model and recipe, with the loop of the package's own training."""

    def _build(self):
        tf.config.experimental.enable_op_determinism()  # as `train.pretrain` does
        self.model = experiment.build_model(
            self.config, self.source.frame_shape, self.source.mean_frame
        )
        self._network = self.model.network
        self.trainer = Trainer(
            self.config, pretraining.Pretraining(self.config, self.model, self.source)
        )
        self._batches = self.trainer.batches()

    def train(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            self.trainer.train_step(next(self._batches))
        self.trainer.read()
        return time.perf_counter() - start

    def _future(self, past):
        return self.model.free_running({"past": past, "clock": past[:, :, 0]})["future"]


class PackageBfloat16(Package):
    """`Package` with matrix products in bfloat16."""

    precision = "bfloat16"


class StockLstm(_Contender):
    """The composite of `keras.layers.LSTM`, `fit`, and Adam, with Keras' defaults otherwise."""

    jit_compile: str | bool = "auto"  # Keras' default, which compiles the step with XLA
    policy = "float32"

    def _build(self):
        keras.config.set_dtype_policy(self.policy)
        self._network = stock_model(self.size)
        rate, self._step = self.run.rate, 0
        if self.run.schedule == "linear":
            rate = keras.optimizers.schedules.PolynomialDecay(rate, self.run.steps, 0.0)
        frame_losses = OUTPUTS["logistic"].frame_losses
        self._network.compile(
            keras.optimizers.Adam(rate),
            {
                name: lambda targets, x: ops.sum(frame_losses(targets, x), axis=-1)
                for name in ("reconstruction", "future")
            },
            jit_compile=self.jit_compile,
        )

    def train(self, steps: int) -> float:
        def sides(clips):
            past, future = pretraining.split(clips, self.size.frames, self.size.frames)
            inputs = {"past": past, "future": future}
            return inputs, pretraining.decoder_targets(past, future)

        clips = self.source.train(self.size.batch, self._step * self.size.batch).map(sides)
        self.clock = _Clock()
        self._network.fit(
            clips, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[self.clock]
        )
        self._step += steps
        return self.clock.seconds

    def _future(self, past):
        # The decoders read zeros; they use only the number of the future frames.
        return self._network({"past": past, "future": tf.zeros_like(past)})["future"]


class StockLstmWithoutXla(StockLstm):
    """`StockLstm`, whose operations TensorFlow executes one by one."""

    jit_compile = False


class StockLstmBfloat16(StockLstm):
    """`StockLstm` under Keras' policy `mixed_bfloat16`."""

    policy = "mixed_bfloat16"


class StockLstmBfloat16WithoutXla(StockLstmWithoutXla):
    """`StockLstmWithoutXla` under Keras' policy `mixed_bfloat16`."""

    policy = "mixed_bfloat16"


class _Clock(keras.callbacks.Callback):
    """Measures an epoch without what `fit` does before and after it.

    Attributes:
        seconds: of the epoch. later_steps: of its steps but the first, for which `fit` also starts
            the pipeline of clips.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._start, self._first = time.perf_counter(), None

    def on_train_batch_end(self, batch, logs=None):
        if self._first is None:
            self._first = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        end = time.perf_counter()
        self.seconds, self.later_steps = end - self._start, end - self._first


def _package_rounds(contender):
    def build(size):
        trained = contender(size, Run("", 0.0, "recipe", _LONG, 0))
        return lambda: trained.train(_ROUND) / _ROUND, trained.info

    return build


def _stock_rounds(contender):
    def build(size):
        trained = contender(size, Run("", 1e-3, "linear", _LONG, 0))

        def step():
            trained.train(_ROUND + 1)
            return trained.clock.later_steps / _ROUND

        return step, trained.info

    return build


TRAINED = {
    "package": Package,
    "package_bfloat16": PackageBfloat16,
    "keras": StockLstm,
    "keras_bfloat16": StockLstmBfloat16,
}
# For `_workers`, which measures the seconds per step.
CONTENDERS = {
    "package": _package_rounds(Package),
    "package_bfloat16": _package_rounds(PackageBfloat16),
    "keras": _stock_rounds(StockLstm),
    "keras without XLA": _stock_rounds(StockLstmWithoutXla),
    "keras_bfloat16": _stock_rounds(StockLstmBfloat16),
    "keras_bfloat16 without XLA": _stock_rounds(StockLstmBfloat16WithoutXla),
}
