"""Trains models with Keras' JAX backend, without TensorFlow, for both `keras_jax` commands."""

import functools
import math

import keras
import numpy as np
from keras import ops

from unsup_video.models import video_models
from unsup_video.training import fields, optimizers

if keras.backend.backend() == "jax":  # some functions here work with other backends, too
    import jax
    from jax import numpy as jnp

# name -> gemm_dtype of the models, jax_default_matmul_precision
PRECISIONS = {
    "float32": ("float32", "highest"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "default"),
}


def matmul_precision(name):
    """Returns a context manager for matrix products of that precision."""
    return jax.default_matmul_precision(PRECISIONS[name][1])


def require(backend: str) -> None:
    """Raises SystemExit if Keras has another backend."""
    if keras.backend.backend() != backend:
        raise SystemExit(f"error: set KERAS_BACKEND={backend}")


def device() -> str:
    return f"device: {jax.devices()[0].device_kind} ({jax.default_backend()})"


class Training:
    """Trains a Keras model by pure functions of its state.

    The state is three lists of arrays: the weights, the variables that are not trained, and the
    optimiser's variables.

    Args:
        network: the model. recipe: a config's, for the optimiser; each step gets its own rate.
        loss: (outputs, targets) -> (mean over the batch, dict of figures to report).

    Raises:
        ValueError: the recipe sums over the batch.
    """

    def __init__(self, network, recipe, loss):
        if recipe.batch_reduction != "mean":
            raise ValueError(f"recipe.batch_reduction is {recipe.batch_reduction!r}, not 'mean'")
        self.network = network
        self.loss = loss
        self.optimizer = optimizers.optimizer(recipe, 1.0)
        self.optimizer.build(network.trainable_variables)
        names = [v.path.split("/")[-1] for v in self.optimizer.variables]
        self._rate = names.index("learning_rate")

    def start(self):
        """Returns copies of the network's state, which a step may overwrite."""
        return (*start_values(self.network), values(self.optimizer.variables))

    def steps(self, batch):
        """Returns a function (state, data, (rows, rates)) -> (state, figures of every step).

        It does one step per row, without Python in between. `batch(data, row)` returns (inputs,
        targets).
        """

        def total(weights, others, inputs, targets):
            outputs, changed = self.network.stateless_call(weights, others, inputs, training=True)
            loss, figures = self.loss(outputs, targets)
            return loss, (figures, changed)

        def step(data, state, x):
            (weights, others, slots), (row, rate) = state, x
            (_, (figures, others)), gradients = jax.value_and_grad(total, has_aux=True)(
                weights, others, *batch(data, row)
            )
            slots = [*slots]
            slots[self._rate] = jnp.asarray(rate, slots[self._rate].dtype)
            weights, slots = self.optimizer.stateless_apply(slots, gradients, weights)
            return (weights, others, slots), figures

        return lambda state, data, xs: jax.lax.scan(functools.partial(step, data), state, xs)


def values(variables):
    return [jnp.array(v.value) for v in variables]


def start_values(network):
    return values(network.trainable_variables), values(network.non_trainable_variables)


def call(model, network, weights, others, inputs):
    """Calls `model`, which shares its layers with `network`, with the given state of `network`."""
    known = dict(zip([v.path for v in network.trainable_variables], weights, strict=True))
    known |= dict(zip([v.path for v in network.non_trainable_variables], others, strict=True))
    outputs, _ = model.stateless_call(
        [known[v.path] for v in model.trainable_variables],
        [known[v.path] for v in model.non_trainable_variables],
        inputs,
        training=False,
    )
    return outputs


def rates(recipe, steps):
    """Returns the learning rates, (steps,), as data, so that training compiles once."""
    return np.asarray(optimizers.learning_rate(recipe, steps)(np.arange(steps)))


def build(config, frame_shape, seed, precision, mean_frame=None, spread=1.0):
    """Builds the video model of a config with random weights, like `experiment.build_model`."""
    keras.utils.set_random_seed(seed)
    model = video_models.build(
        **fields.architecture(config.model),
        frame_dim=math.prod(frame_shape),
        gemm_dtype=PRECISIONS[precision][0],
        conditional_input=config.recipe.conditional_input,
        initialization=video_models.Initialization(**config.recipe.init),
    )
    if model.frame_scale is not None:
        model.frame_scale.scale.assign(spread)
    if len(frame_shape) > 1:
        model.blur_pixel_kernels(frame_shape, config.recipe.pixel_blur)
    if config.recipe.conditional_zero:
        model.zero_conditional_kernels()
    if mean_frame is not None and config.recipe.mean_frame_bias:
        model.start_at(np.asarray(mean_frame), spread if model.frame_scale else 1.0)
    return model


def sides(clips, frames_in):
    """Returns (inputs, targets) of `VideoModel.training` for clips (B, T, D)."""
    past, future = clips[:, :frames_in], clips[:, frames_in:]
    return {"past": past, "future": future}, {"reconstruction": past[:, ::-1], "future": future}


def with_clock(inputs):
    """Returns inputs that contain only the number of future frames, not the frames."""
    return {"past": inputs["past"], "clock": inputs["future"][:, :, 0]}


def video_loss(model):
    def loss(outputs, targets):
        frames = model.frame_losses(targets, outputs)
        total = sum(ops.sum(frame) / frame.shape[0] for frame in frames.values())
        return total, {name: ops.mean(frame) for name, frame in frames.items()}

    return loss


def free_running(model, frames_in, to_frames, batch=100):
    """Returns a function (weights, others, clips (N, T, D)) -> {name: mean loss per frame}.

    The model runs freely. `to_frames` converts stored values to frames.
    """

    @jax.jit
    def of_batch(weights, others, clips):
        inputs, targets = sides(to_frames(clips), frames_in)
        outputs = call(model.free_running, model.network, weights, others, with_clock(inputs))
        return model.frame_losses(targets, outputs)

    def evaluate(weights, others, clips):
        parts = [
            of_batch(weights, others, clips[k : k + batch]) for k in range(0, len(clips), batch)
        ]
        return {
            name: float(np.concatenate([part[name] for part in parts]).mean(dtype=np.float64))
            for name in model.outputs
        }

    return evaluate
