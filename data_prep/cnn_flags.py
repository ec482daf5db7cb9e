"""The flags on the CNN of percepts, of every command that makes percepts of videos."""

from collections.abc import Callable

from absl import flags

from unsup_video.utils import cli


def define(weights: str = "weights") -> Callable[[], dict]:
    """Defines them.

    Args:
        weights: name of the flag on the CNN's weights, where a command has another --weights.

    Returns:
        a function that gives the arguments of `percepts.job`, without those of flags that are left
        out. It raises ValueError for what is no number, or no size.
    """
    text, numbers = flags.DEFINE_string, flags.DEFINE_list
    cnn = text("cnn", None, "A name in keras.applications, default VGG16, or a .keras file.")
    weights_of = text(weights, None, "Of a CNN by name: imagenet (the default), or a file.")
    layer = text(
        "layer",
        None,
        "Which layer's output, also of a model inside of the CNN; (H, W, D) is "
        "averaged over H and W. Default: fc1 (fc6) of VGG, the last global pooling of others.",
    )
    size = text("size", None, "HxW of the CNN's input; default: its own, or 224x224.")
    resize = text(
        "resize",
        None,
        "HxW that a frame is stretched to; its centre is the input. Default: "
        "240x320 for 224x224, in proportion for others.",
    )
    mean = numbers("mean", None, "A number, or three: the CNN gets (pixel - mean) / std.")
    std = numbers("std", None, "A number, or three; default: the CNN's own preprocessing.")
    bgr = flags.DEFINE_bool("bgr", None, "The CNN gets blue, green, red; with --mean and --std.")
    fps = flags.DEFINE_float(
        "fps", None, "Frames a second to resample to; default: the video's own."
    )

    def given():
        found = {
            "cnn": cnn.value,
            "weights": weights_of.value,
            "layer": layer.value,
            "size": cli.pixels(size),
            "resize": cli.pixels(resize),
            "mean": _numbers(mean),
            "std": _numbers(std),
            "bgr": bgr.value,
            "fps": fps.value,
        }
        return {key: value for key, value in found.items() if value is not None}

    return given


def _numbers(flag):
    if flag.value is None:
        return None
    try:
        return tuple(float(number) for number in flag.value)
    except ValueError:
        raise ValueError(f"--{flag.name}: numbers expected, got {','.join(flag.value)!r}") from None
