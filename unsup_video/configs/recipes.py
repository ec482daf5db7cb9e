"""Training recipes: the initial weights and the optimiser's settings.

`toronto` and `github` follow the two releases of the authors' code; `modern` is ours.
`unsup_video/training/optimizers.py` has the optimisers and schedules that they name.
"""

from ml_collections import ConfigDict


def toronto() -> ConfigDict:
    """The 2015 release: RMSProp, then momentum, then clipping of the step itself."""
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
            init=dict(kernel=0.01, peepholes=0.1, forget_bias=5.0),
        )
    )


def github() -> ConfigDict:
    """The 2016 release: `toronto` without RMSProp, and with gradients summed over the batch."""
    recipe = toronto()
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


def modern() -> ConfigDict:
    """The recipe that reached the lowest future cross entropy soonest (docs/recipes.md)."""
    return ConfigDict(
        dict(
            name="modern",
            optimizer="adam",
            learning_rate=8e-3,  # for a kernel with `fan_in` inputs; see FanInAdam
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
            init=dict(kernel=0.0, peepholes=0.0, forget_bias=1.0),
        )
    )


RECIPES = {"modern": modern, "toronto": toronto, "github": github}


def get(name: str) -> ConfigDict:
    """Returns a new, editable config of the recipe with that name.

    Raises:
        ValueError: there is no such recipe; the message lists the names.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: one of {', '.join(RECIPES)}")
    return RECIPES[name]()
