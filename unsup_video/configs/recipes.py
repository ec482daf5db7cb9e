"""Training recipes: the initial weights and the optimiser's settings.

`toronto` and `github` follow the two releases of the authors' code, `modern` is ours.
`unsup_video/training/optimizers.py` has the optimisers and schedules that they name. A recipe is a
function of what is trained on, one of `USES`, and says itself which learning rate that needs.
"""

from ml_collections import ConfigDict

# What is trained on: Moving MNIST; whole frames of one's own; natural videos, as patches or
# percepts; labels, by a classifier.
USES = ("digits", "frames", "natural", "labels")


def toronto(use: str = "digits") -> ConfigDict:
    """The 2015 release: RMSProp, then momentum, then a clip of the step itself."""
    return ConfigDict(
        dict(
            name="toronto",
            optimizer="clipped_momentum",
            learning_rate=1e-3,
            schedule="staircase",  # x decay_rate every decay_steps steps
            decay_rate=0.9,
            decay_steps=10_000,
            momentum=0.9,
            rms_decay=0.95,  # the release's default; 0 switches RMSProp off
            step_clip=1e-3,  # bound on every element of the step, after momentum
            l2=1e-4,
            batch_reduction="mean",
            batch_size=128,
            mean_frame_bias=False,
            pixel_blur=0.0,
            conditional_input="truth",
            conditional_factor=1.0,
            conditional_zero=False,
            init=dict(kernel=0.01, peepholes=0.1, forget_bias=5.0),
        )
    )


def github(use: str = "digits") -> ConfigDict:
    """The 2016 release: as `toronto`, without RMSProp and summed over the batch."""
    recipe = toronto(use)
    recipe.update(
        name="github",
        learning_rate=1e-4,
        rms_decay=0.0,
        step_clip=1e-4,
        batch_reduction="sum",
        batch_size=80,
        init=dict(kernel=0.01, peepholes=0.1, forget_bias=0.0),
    )
    return recipe


def modern(use: str = "digits") -> ConfigDict:
    """Reaches the lowest future cross entropy soonest of what was tried (docs/recipes.md).

    Pixels of natural pictures are hardly ever 0, as most of a digit's are, so that a step of the
    input weights moves the units further. With the 8e-3 for digits the loss rises to three times
    that of the mean frame before it falls (docs/results/patches.md).
    """
    return ConfigDict(
        dict(
            name="modern",
            optimizer="adam",
            # Of a kernel of `fan_in` inputs, see `optimizers.rate_factor`.
            learning_rate={"digits": 8e-3, "frames": 4e-3, "natural": 1e-3, "labels": 3e-4}[use],
            fan_in=512,
            output_factor=2.0,
            schedule="warmup_linear",  # warm-up, then linear decay to zero at the last step
            warmup_fraction=0.03,
            beta_1=0.9,
            beta_2=0.95,
            batch_reduction="mean",
            batch_size=64,
            mean_frame_bias=True,  # the output bias starts at the data's mean frame
            # Initial kernels that read or write pixels are blurred by a Gaussian with this standard
            # deviation.
            pixel_blur=2.0,
            # The previous frame that conditional decoders read in training: the true one (teacher
            # forcing), or their own, as after training.
            conditional_input="own",
            # The kernels with which they read it: a factor of the learning rate, and whether they
            # start at 0, so that the decoder starts as an unconditional one.
            conditional_factor=0.25,
            conditional_zero=True,
            init=dict(kernel=0.0, peepholes=0.0, forget_bias=1.0),
        )
    )


RECIPES = {"modern": modern, "toronto": toronto, "github": github}


def get(name: str, use: str = "digits") -> ConfigDict:
    """The recipe of that name for `use`, one of `USES`, as a fresh, editable config.

    Raises:
        ValueError: there is no such recipe, or no such use; the message lists the names.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: one of {', '.join(RECIPES)}")
    if use not in USES:
        raise ValueError(f"unknown use of a recipe {use!r}: one of {', '.join(USES)}")
    return RECIPES[name](use)
