"""Sends a video, images or an array to a TensorFlow Serving server, and saves the answer.

    python -m unsup_video.client --model=quickstart --input=video.mp4 --steps=20 --out=future.gif
    python -m unsup_video.client --model=quickstart --input=clips.npy --signature=encode --out=h.npz
    python -m unsup_video.client --model=quickstart --status

It asks the server for the inputs of the model, then crops and resizes frames to the model's shape,
makes them grey if the model has no colours, and prints these changes. --input takes the same files
as `eval.predict`. With `--requests` it measures the time of answers. The exit status is 1 after an
error, and if no version is AVAILABLE with `--status`.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's messages at start-up

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import flags

from unsup_video.serving import client, remote
from unsup_video.utils import cli
from unsup_video.video import inputs

_SERVER = flags.DEFINE_string(
    "server", None, "Server, HOST:PORT; default: localhost:8500, with --rest localhost:8501."
)
_REST = flags.DEFINE_bool("rest", False, "Use REST instead of gRPC.")
_MODEL = flags.DEFINE_string("model", None, "Name of the model on the server.")
_VERSION = flags.DEFINE_integer("version", None, "Version of the model; default: the newest.", 0)
_TIMEOUT = flags.DEFINE_float("timeout", 60.0, "Seconds to wait for an answer.", 0.001)
_STATUS = flags.DEFINE_bool("status", False, "Only print the versions and signatures.")
_INPUT = flags.DEFINE_string(
    "input", None, "Video, GIF, .npy or .npz file, folder of images, or folder of all of these."
)
_SIGNATURE = flags.DEFINE_string(
    "signature", client.DEFAULT_SIGNATURE, "Signature of the model to call."
)
_FRAMES = flags.DEFINE_integer("frames", 10, "Number of frames to send.", 1)
_STEPS = flags.DEFINE_integer("steps", 20, "Number of frames to predict.", 1)
_FPS = flags.DEFINE_float(
    "fps", None, "Resample videos and GIFs to this number of frames per second."
)
_START = flags.DEFINE_float("start", 0.0, "Time in a video or GIF at which to start, in seconds.")
_RANGE = cli.define_range()
_OUT = flags.DEFINE_multi_string(
    "out", [], "Write frames to FILE.gif, or all outputs to FILE.npz; can be given twice."
)
_REQUESTS = flags.DEFINE_integer(
    "requests", 1, "Send this number of requests, and print how long they take.", 1
)
_PARALLEL = flags.DEFINE_integer("parallel", 1, "Number of requests to send at the same time.", 1)


def main(argv):
    cli.check_arguments(argv)
    if not _MODEL.value:
        raise ValueError("--model is missing, such as --model=quickstart")
    if not (_STATUS.value or _INPUT.value):
        raise ValueError("--input is missing, such as --input=video.mp4")
    for path in _OUT.value:
        client.check_out(path)
    kind = remote.Rest if _REST.value else remote.Grpc
    try:
        model = kind(
            _SERVER.value or f"localhost:{kind.port}", _MODEL.value, _VERSION.value, _TIMEOUT.value
        )
    except ModuleNotFoundError as error:
        raise ValueError(
            f"gRPC needs {error.name}: pip install 'unsup_video[serving]', or use --rest"
        ) from None
    if _STATUS.value:
        _refuse("--status", _INPUT, _OUT, _REQUESTS, _PARALLEL)
        print_status(model)
        return 0
    if _PARALLEL.present and not _REQUESTS.present:
        raise ValueError("--parallel needs --requests: how many in all")

    definition = model.signature(_SIGNATURE.value)
    if _STEPS.present and "steps" not in definition.inputs:
        raise ValueError(
            f"--steps does not go with --signature={_SIGNATURE.value}, which does not ask how "
            "many frames to predict"
        )
    shape = client.frame_shape(definition)
    for path in _OUT.value:
        client.check_out(path, shape, definition.outputs)
    count = (
        _FRAMES.value + _STEPS.value
    )  # the frames after those sent are shown beside the prediction
    read = inputs.clips(
        _INPUT.value, shape, count, _FPS.value, _START.value, cli.value_range(_RANGE)
    )
    for clip in read:
        if clip.changed:
            print(f"{clip.name}: {clip.changed}")
    clips = client.stacked(read)
    sent, after = clips[:, : _FRAMES.value], clips[:, _FRAMES.value :]
    asked = client.request(model, _SIGNATURE.value, sent, _STEPS.value)
    outputs = asked.send(model)
    print(
        f"{asked.signature} of {model.name}, version {_version(model, outputs)}: "
        f"{sent.shape[1]} frames of {len(sent)} clips sent"
    )
    print(*client.describe(outputs), sep="\n")
    for path in _OUT.value:
        client.write(path, outputs, sent, after)
        print(f"written: {path}")
    if _REQUESTS.value > 1:
        print(_measure(model, asked, _REQUESTS.value, _PARALLEL.value))
    model.close()
    return 0


def _refuse(beside, *others):
    for flag in others:
        if flag.present:
            raise ValueError(f"--{flag.name} does not go with {beside}")


def _measure(model, asked, requests, parallel):
    """Sends a request repeatedly, `parallel` at a time; returns a line about the times."""

    def timed(_):
        begin = time.perf_counter()
        asked.send(model)
        return time.perf_counter() - begin

    begin = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        times = np.array(list(pool.map(timed, range(requests)))) * 1000
    rate = requests * len(asked.clips) / (time.perf_counter() - begin)
    middle, late = np.percentile(times, [50, 95])
    return (
        f"{requests} requests, {parallel} at a time: median {middle:.1f} ms, 95% within "
        f"{late:.1f} ms, {rate:.1f} clips/s"
    )


def _version(model, outputs):
    if outputs.version is None:
        return f"{model.answering} at first contact (REST does not say which answered)"
    return outputs.version


def print_status(model: remote.Grpc | remote.Rest) -> None:
    """Prints versions and signatures. Raises ValueError if no version is AVAILABLE."""
    versions = model.versions()
    for version in versions:
        print(f"{model.name} version {version.number}: {version.state} {version.error}".strip())
    if all(version.state != "AVAILABLE" for version in versions):
        raise ValueError(f"{model} is not available")
    print(f"version {model.answering} answers; signatures: {', '.join(sorted(model.signatures))}")


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
