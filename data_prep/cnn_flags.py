"""Flags for the CNN that makes percepts, shared by all commands that have one make them."""

from collections.abc import Callable

from absl import flags

from unsup_video.utils import cli

DETAILS = ("layer", "size", "resize", "mean", "std", "bgr")  # besides the CNN and its weights


def define(weights: str = "weights", of_videos: bool = True) -> Callable[[], dict]:
    """Defines the flags.

    Args:
        weights: name of the flag for the CNN's weights, if a command has another --weights.
        of_videos: the CNN reads videos, by default VGG16; otherwise there is no --fps, and --cnn
            may be missing.

    Returns:
        A function that returns the arguments of `percepts.job` that were given as flags. It raises
        ValueError for a bad number or size.
    """
    text, numbers = flags.DEFINE_string, flags.DEFINE_list
    default = "; default: VGG16." if of_videos else "."
    cnn = text("cnn", None, f"Name in keras.applications, or a .keras file{default}")
    weights_of = text(
        weights, None, "Weights of a CNN given by name: a file, or imagenet (the default)."
    )
    layer = text(
        "layer",
        None,
        "Layer whose output is stored, which may be inside a nested model; (H, W, D) is averaged "
        "over H and W. Default: fc1 (fc6) of VGG, the last global pooling of other CNNs.",
    )
    size = text("size", None, "HxW of the CNN's input; default: its own size, or 224x224.")
    resize = text(
        "resize",
        None,
        "HxW to stretch frames to; the centre is the input. Default: 240x320 for an input of "
        "224x224, in proportion for other sizes.",
    )
    mean = numbers(
        "mean",
        None,
        "One number, or three, in the order of the CNN's channels: red, green, blue, or the other "
        "way round with --bgr. The CNN gets (pixel - mean) / std.",
    )
    std = numbers("std", None, "One number, or three; default: the CNN's own preprocessing.")
    bgr = flags.DEFINE_bool(
        "bgr", None, "Orders the channels blue, green, red; goes with --mean and --std."
    )
    if of_videos:
        fps = flags.DEFINE_float(
            "fps", None, "Frames per second to resample to; default: the video's own rate."
        )

    def arguments():
        values = {
            "cnn": cnn.value,
            "weights": weights_of.value,
            "layer": layer.value,
            "size": cli.height_and_width(size),
            "resize": cli.height_and_width(resize),
            "mean": cli.numbers(mean, float),
            "std": cli.numbers(std, float),
            "bgr": bgr.value,
            "fps": fps.value if of_videos else None,
        }
        return {key: value for key, value in values.items() if value is not None}

    return arguments


def given() -> list[flags.Flag]:
    """Returns the flags of `define` that are on the command line."""
    return [flag for flag in flags.FLAGS.get_key_flags_for_module(__name__) if flag.present]
