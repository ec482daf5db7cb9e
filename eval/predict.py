"""Predicts the future of your own clips, without a server and without records.

    python -m eval.predict --model=saved_models/moving_mnist --out=future.gif
    python -m eval.predict --workdir=runs/mine --input=clip.mp4 --steps=15 --out=future.gif
    python -m eval.predict --workdir=runs/mine --input=my_images --out=future.png --out=future.npz

--input is a video, a GIF, a folder of images, a .npy or .npz file, or a folder of all these, as for
data_prep.frames. The model reads the first frames, as many as in training, reconstructs them, and
predicts --steps more. The command converts input that does not fit, and prints how: it cuts frames
to the model's proportions around their centre and resizes them, makes colours grey, and resamples
videos to the frame rate of the training data. Too few frames are an error.

Prints the loss on the frames that the file has, and the floors to compare with. Without --input the
command generates clips from handwritten digits that come with a dependency, for models of Moving
MNIST.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import numpy as np
from absl import flags

from eval import common
from unsup_video.evaluation import own_clips
from unsup_video.models.outputs import FLOORS
from unsup_video.utils import cli
from unsup_video.video import inputs

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Read this video, GIF, .npy or .npz file, folder of images, or folder of all these.",
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Number of frames to predict; default: as in training.", 1
)
_CLIPS = flags.DEFINE_integer(
    "clips", 4, "Maximum number of sequences; the first ones are used.", 1
)
_FPS = flags.DEFINE_float(
    "fps", None, "Resample a video or GIF to this frame rate; default: as in training."
)
_START = flags.DEFINE_float("start", 0.0, "Start at this time of a video or GIF, in seconds.", 0.0)
_RANGE = cli.define_range()
_OUT = flags.DEFINE_multi_string(
    "out",
    ["future.gif"],
    "Write FILE.gif, an animation; FILE.png, a strip; or FILE.npz, all arrays; repeat the flag for "
    "several.",
)


def main(argv):
    cli.check_arguments(argv)
    for path in _OUT.value:
        own_clips.check_out(path)
    if common.recompute():
        raise ValueError("--recompute has no meaning here: nothing is stored")
    if len(common.paths()) > 1:
        raise ValueError("--workdir and --model: give a single model")
    [model] = common.models()
    for path in _OUT.value:
        own_clips.check_out(path, model.frame_shape)
    predicts = "future" in model.model.outputs
    if _STEPS.present and not predicts:
        raise ValueError(
            f"--steps: {model.path} is an {model.config.model.kind}, which predicts nothing"
        )
    data = model.config.data
    steps = _STEPS.value or data.frames_out
    print(
        f"{model.name}, step {model.step:,}: reads {data.frames_in} frames of "
        f"{'x'.join(map(str, model.frame_shape))}"
        + (f", was trained to predict {data.frames_out}" if predicts else "")
    )
    names, clips = _generated(model, steps) if _INPUT.value is None else _read(model, steps)
    output = own_clips.run(model, names, clips, steps)
    _print_scores(model, output)
    for path in _OUT.value:
        own_clips.write(output, path)
        print(f"written: {path}")
    return 0


def _read(model, steps):
    """Reads --input and returns (names, clips), each clip (frames, *shape) float32."""
    common.refuse("is for generated clips, without --input", "digits_dir")
    if not _INPUT.value:  # an empty path would mean the current folder
        raise ValueError("--input is empty: a file or a folder is expected")
    fps = _FPS.value
    length = model.config.data.frames_in + steps
    clips = inputs.clips(
        _INPUT.value,
        model.frame_shape,
        length,
        fps,
        _START.value,
        cli.value_range(_RANGE),
        _CLIPS.value,
        own_clips.trained_fps(model),
    )
    if len(clips) == _CLIPS.value:
        print(f"at most {_CLIPS.value} sequences are read, the first ones; --clips=N reads N")
    for clip in clips:
        print(f"{clip.name}: {len(clip.frames)} frames{', ' if clip.changed else ''}{clip.changed}")
    scaled = [
        clip.frames / np.float32(255) if clip.frames.dtype == np.uint8 else clip.frames
        for clip in clips
    ]
    return [clip.name for clip in clips], scaled


def _generated(model, steps):
    for flag in (_FPS, _START, _RANGE):
        if flag.present:
            raise ValueError(f"--{flag.name} goes with --input")
    clips, notes = own_clips.generated(model, _CLIPS.value, steps)
    print(f"{len(clips)} generated clips of handwritten digits for testing", *notes, sep="\n")
    return [f"clip {i + 1}" for i in range(len(clips))], clips


def _print_scores(model, output):
    for part, score in output.scores.items():
        unit = model.model.decoder_outputs[part].frame_unit
        print(f"{part}: {score:.1f} {unit}, of {output.scored[part]:,} frames")
        for floor, label in FLOORS.items():
            if floor != "entropy" or output.floors[part][floor]:  # 0 for the squared loss
                print(f"  {output.floors[part][floor]:.1f}: {label}")
    if output.future is not None and "future" not in output.scores:
        print("future: no score, since the input ends where the prediction begins")


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
