"""Measures free-running prediction, in milliseconds per frame, and compares with the machine:
`python -m benchmarks.inference [--out=FILE.md]`.

The model is the future predictor whose decoder reads its own previous frame. It predicts a short
and a long horizon; the difference is the time of the frames between, without the encoder. The floor
is the longer of the times to read every weight once from memory and to compute every product, at
the rates that this machine reaches in this run.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import statistics

import keras
import tensorflow as tf

from benchmarks import _common
from unsup_video.models import video_models
from unsup_video.models.cells import project
from unsup_video.training import precision


def predictors(model: video_models.VideoModel) -> dict:
    """Returns ways to predict: {name: function (past, clock)}, one frame per step of the clock."""
    decoder = model.decoder_layers["future"]
    (cell,) = decoder.cells
    encode = tf.function(lambda past: model.encoder(past), autograph=False)

    def whole(past, clock):
        return model.inference({"past": past, "clock": clock})["future"]

    @tf.function(autograph=False)
    def one_step(frame, h, c):
        h, c = cell.step(frame, (h, c))
        pre_activation = project(h, decoder.kernel, decoder.bias, cell.gemm_dtype)
        return decoder.activate(pre_activation), h, c

    def python_loop(past, clock):
        h, c = encode(past)
        frame, frames = tf.zeros_like(past[:, 0]), []
        for _ in range(clock.shape[1]):
            frame, h, c = one_step(frame, h, c)
            frames.append(frame)
        return tf.stack(frames, axis=1)

    return {
        "`inference` in a `tf.function`": tf.function(whole, autograph=False),
        "the same under XLA": tf.function(whole, autograph=False, jit_compile=True),
        "Python loop over a compiled step": python_loop,
    }


def ms_per_frame(predict, past, horizons) -> float:
    """Returns milliseconds per frame from the difference of two horizons, both already compiled."""
    short, long = (
        _common.timed(lambda: predict(past, tf.zeros((len(past), horizon))).numpy())
        for horizon in horizons
    )
    return 1e3 * (long - short) / (horizons[1] - horizons[0])


def main():
    parser = _common.flags(__doc__)
    parser.add_argument("--frame_dim", type=int, default=64 * 64, help="pixels of a frame")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="batch sizes")
    parser.add_argument(
        "--horizons", type=int, nargs=2, default=[10, 40], help="frames to predict, short and long"
    )
    args = parser.parse_args()
    short, long = args.horizons
    if not 1 <= short < long:
        parser.error("--horizons: give a short one, then a longer one")

    dtypes = ["float32"] + ["bfloat16"] * (precision.gemm_dtype("auto") == "bfloat16")
    weights = 4 * args.units * (args.frame_dim + args.units) + args.units * args.frame_dim
    bandwidth = _common.read_bandwidth()
    rates = {
        dtype: _common.gemm_rate(4 * args.units, args.frame_dim, 1000, dtype) for dtype in dtypes
    }

    contenders = {}
    for dtype in dtypes:
        model = video_models.build(
            "future_predictor",
            args.frame_dim,
            args.units,
            conditional_future=True,
            gemm_dtype=dtype,
        )
        for batch in args.batches:
            past = tf.constant(keras.random.uniform((batch, 10, args.frame_dim)))
            for name, predict in predictors(model).items():
                ms_per_frame(predict, past, args.horizons)  # compiles
                contenders[batch, dtype, name] = lambda predict=predict, past=past: ms_per_frame(
                    predict, past, args.horizons
                )
    times = _common.interleave(contenders, args.rounds)

    rows = []
    for (batch, dtype, name), milliseconds in times.items():
        reading = weights * tf.as_dtype(dtype).size / bandwidth
        floor = 1e3 * max(reading, 2 * batch * weights / rates[dtype])
        share = floor / statistics.median(milliseconds)
        figures = _common.spread(milliseconds), f"{floor:.3g}", f"{share:.0%}"
        rows.append([batch, dtype, name, *figures])
    columns = [
        "batch",
        "products",
        "how",
        "ms/frame: median (range)",
        "floor, ms",
        "of the floor's speed",
    ]
    parts = [
        f"1 x {args.units} units, conditional future predictor, {args.frame_dim} pixels: "
        f"{weights / 1e6:.1f} million weights read, {2 * weights / 1e9:.3g} GFLOP per frame and "
        "sequence.",
        _common.table(columns, sorted(rows, key=lambda row: row[:2])),
        f"Floor: {bandwidth / 1e9:.1f} GB/s from memory; "
        + ", ".join(f"{rate / 1e9:.1f} GFLOP/s in {dtype}" for dtype, rate in rates.items())
        + ".",
    ]
    _common.report("Free-running prediction", parts, args.out)


if __name__ == "__main__":
    main()
