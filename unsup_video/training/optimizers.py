"""The optimisers and learning rate schedules that the recipes name."""

import math
import re

import keras
from keras import ops
from ml_collections import ConfigDict

# The path of the kernel with which a conditional decoder reads its previous frame.
_READS_PREVIOUS_FRAME = re.compile(r"_decoder/\w+_1/kernel$")

# `recipe.schedule` -> the fields of the recipe that it reads.
_SCHEDULES = {
    "staircase": ("decay_steps", "decay_rate"),
    "warmup_linear": ("warmup_fraction",),
    "piecewise": ("decay_rate", "boundaries"),  # x decay_rate after each of `boundaries`
}


def learning_rate(recipe: ConfigDict, total_steps: int):
    """Returns the recipe's schedule, a Keras `LearningRateSchedule`: step -> learning rate.

    Raises:
        ValueError: an unknown `recipe.schedule`, or one whose fields the recipe lacks.
    """
    schedules, rate = keras.optimizers.schedules, recipe.learning_rate
    if recipe.schedule not in _SCHEDULES:
        raise ValueError(
            f"unknown recipe.schedule {recipe.schedule!r}: one of {', '.join(_SCHEDULES)}"
        )
    _check_fields(recipe, "schedule", _SCHEDULES[recipe.schedule])
    if recipe.schedule == "staircase":
        return schedules.ExponentialDecay(
            rate, recipe.decay_steps, recipe.decay_rate, staircase=True
        )
    if recipe.schedule == "warmup_linear":
        return WarmupLinearDecay(rate, total_steps, recipe.warmup_fraction)
    # Keras changes the rate only after a boundary, its steps count from 0, and it needs at least
    # one boundary.
    boundaries = [b - 1 for b in recipe.boundaries] or [total_steps]
    rates = [rate * recipe.decay_rate**k for k in range(len(boundaries) + 1)]
    return schedules.PiecewiseConstantDecay(boundaries, rates)


def _check_fields(recipe, choice, names):
    """Raises ValueError for fields of a schedule or an optimizer that the recipe lacks."""
    if missing := [name for name in names if name not in recipe]:
        raise ValueError(
            f"recipe.{choice}={recipe[choice]} needs {', '.join(f'recipe.{n}' for n in missing)}, "
            f"which recipe {recipe.name!r} does not have: use a recipe that has them, or a config "
            "file of your own"
        )


def optimizer(recipe: ConfigDict, rate) -> keras.optimizers.Optimizer:
    """Returns the recipe's optimizer from `OPTIMIZERS`, adapted to the training loop.

    It multiplies the learning rate of each variable by its `rate_factor`, and expects gradients
    that are already reduced over all devices.

    Args:
        rate: a learning rate or a schedule.

    Raises:
        ValueError: an unknown `recipe.optimizer`, or one whose fields the recipe lacks.
    """
    if recipe.optimizer not in OPTIMIZERS:
        raise ValueError(
            f"unknown recipe.optimizer {recipe.optimizer!r}: one of {', '.join(OPTIMIZERS)}"
        )
    _check_fields(recipe, "optimizer", _FIELDS.get(recipe.optimizer, ()))
    return _adapted(OPTIMIZERS[recipe.optimizer](recipe, rate), lambda v: rate_factor(recipe, v))


def rate_factor(recipe: ConfigDict, variable: keras.Variable) -> float:
    """Returns the factor by which the learning rate is multiplied for one variable.

    `recipe.encoder_factor` multiplies the learning rate of the encoder's weights, and
    `recipe.conditional_factor` that of the kernels with which conditional decoders read their
    previous frame. With `recipe.fan_in` the learning rate is meant for kernels with that many
    inputs, and a kernel with n inputs has fan_in / n times that rate; the kernels that write
    frames, those of a `Decoder`, have `recipe.output_factor` times that. Biases and peepholes have
    the learning rate itself.

    Adam moves every weight by about the learning rate, whatever its gradient, so that the sum over
    the n inputs of a kernel moves n times as far. With the division, one rate suits kernels that
    read 4096 pixels and those that read a few hundred units, and models of every width (the rule
    for Adam of Yang et al. 2022, arXiv 2203.03466).
    """
    factor = 1.0
    if variable.path.startswith("encoder_"):
        factor = recipe.get("encoder_factor", factor)  # only recipes of finetuning have it
    if _READS_PREVIOUS_FRAME.search(variable.path):
        factor *= recipe.get("conditional_factor", 1.0)  # recipes of users need not have it
    if "fan_in" not in recipe or not variable.path.endswith("kernel"):
        return factor
    if variable.path.endswith("_decoder/kernel"):
        factor *= recipe.output_factor
    return factor * recipe.fan_in / math.prod(variable.shape[:-1])


def _adapted(optimizer, factor):
    """Makes any Keras optimizer multiply the learning rate of each variable by `factor(variable)`,
    and take gradients that are already reduced over all devices.

    Keras has no public switch for either: it would add up the gradients over the devices itself,
    too late to compute the norm of the whole batch's gradient first.
    """
    build, update_step, factors = optimizer.build, optimizer.update_step, []

    def build_with_factors(variables):
        build(variables)
        factors[:] = [factor(v) for v in variables]

    def update_step_with_factor(gradient, variable, learning_rate):
        index = optimizer._get_variable_index(variable)
        update_step(gradient, variable, factors[index] * learning_rate)

    optimizer.build = build_with_factors
    optimizer.update_step = update_step_with_factor
    optimizer._all_reduce_sum_gradients = list  # the identity: they are reduced already
    return optimizer


@keras.saving.register_keras_serializable("unsup_video")
class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly to `peak` over the first steps, then falls linearly to zero.

    With w warm-up steps it is peak / w at step 0, so that the first update is not zero, `peak` at
    step w - 1, and zero at step `total_steps`, the first one after the run.

    Args:
        peak: the highest rate. total_steps: the number of steps of the run.
        warmup_fraction: w as a fraction of the run; w is at least 1.
    """

    def __init__(self, peak, total_steps, warmup_fraction):
        super().__init__()
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_fraction = warmup_fraction

    def __call__(self, step):
        warmup = min(max(self.warmup_fraction * self.total_steps, 1.0), self.total_steps)
        step = ops.cast(step, "float32")
        rising = (step + 1) / warmup
        falling = (self.total_steps - step) / (self.total_steps - warmup + 1)
        return self.peak * ops.clip(ops.minimum(rising, falling), 0.0, 1.0)

    def get_config(self):
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_fraction": self.warmup_fraction,
        }


@keras.saving.register_keras_serializable("unsup_video")
class ClippedMomentum(keras.optimizers.Optimizer):
    """The update rule of the authors' code, elementwise, for a weight w with gradient g:

        g <- g + l2 w                                    (not for biases)
        r <- sqrt(rms_decay r^2 + (1 - rms_decay) g^2),  g <- g / (r + 1e-8)    (r starts at 1)
        s <- clip(momentum s - learning_rate g, -step_clip, step_clip)
        w <- w + s

    The clip bounds the step after momentum, so that no weight moves further than `step_clip` in
    one step. `rms_decay=0` leaves out the second line. The authors' code has no 1e-8, so that a
    weight without gradient ends in 0 / 0 there.
    """

    def __init__(
        self, learning_rate=1e-3, momentum=0.9, rms_decay=0.95, step_clip=1e-3, l2=1e-4, **kwargs
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum
        self.rms_decay = rms_decay
        self.step_clip = step_clip
        self.l2 = l2

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.decayed = [not v.path.endswith("bias") for v in variables]
        self.steps = self.add_optimizer_variables(variables, "step")
        if self.rms_decay:
            self.rms = self.add_optimizer_variables(variables, "rms", initializer="ones")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        if self.decayed[index]:
            gradient = gradient + self.l2 * variable
        if self.rms_decay:
            mean_square = self.rms_decay * ops.square(self.rms[index]) + (
                1 - self.rms_decay
            ) * ops.square(gradient)
            rms = ops.sqrt(mean_square)
            self.assign(self.rms[index], rms)
            gradient = gradient / (rms + 1e-8)
        step = self.momentum * self.steps[index] - learning_rate * gradient
        step = ops.clip(step, -self.step_clip, self.step_clip)
        self.assign(self.steps[index], step)
        self.assign_add(variable, step)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "rms_decay": self.rms_decay,
            "step_clip": self.step_clip,
            "l2": self.l2,
        }


def _adam(recipe, rate):
    return keras.optimizers.Adam(rate, beta_1=recipe.beta_1, beta_2=recipe.beta_2, epsilon=1e-8)


def _clipped_momentum(recipe, rate):
    return ClippedMomentum(rate, recipe.momentum, recipe.rms_decay, recipe.step_clip, recipe.l2)


# `recipe.optimizer` -> a function that makes the Keras optimizer from the recipe and a learning
# rate (a number or a schedule).
OPTIMIZERS = {"adam": _adam, "clipped_momentum": _clipped_momentum}
# The fields of the recipe that they read.
_FIELDS = {
    "adam": ("beta_1", "beta_2"),
    "clipped_momentum": ("momentum", "rms_decay", "step_clip", "l2"),
}
