"""Embeds your own clips: the state of a trained encoder, as a table for search and clustering.

    python -m eval.embed --workdir=runs/mine --records=data/mine --out=embeddings.npz
    python -m eval.embed --model=saved_models/moving_mnist --input=my_videos --out=e.parquet
    python -m eval.embed --workdir=runs/mine --records=data/mine --neighbours=5 --out=embeddings.npz

--input is a video, a GIF, a folder of images, a .npy or .npz file, or a folder of all these, as for
eval.predict; --records is a data set of data_prep's, also of percepts. Without both, the command
generates clips from handwritten digits that come with a dependency, for models of Moving MNIST.

The encoder reads windows of as many frames as in training, and a row of the table is the mean over
a video's windows, or, with --per=window, one of them. With the default --states and --layers it is
the answer of the signature `encode` of an export, side by side: h and c of every layer.

A sequence that cannot be embedded is named with the reason at the end, and the exit status is 1.
The same command resumes one that was interrupted. docs/embeddings.md has the columns and examples.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from pathlib import Path

from absl import flags

from eval import common
from unsup_video.evaluation import embedding_inputs, embeddings, neighbours, own_clips
from unsup_video.utils import cli, files

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Read this video, GIF, .npy or .npz file, folder of images, or folder of all these.",
)
_RECORDS = flags.DEFINE_string("records", None, "Read this data set of data_prep's.")
_CLIPS = flags.DEFINE_integer(
    "clips",
    None,
    "Maximum number of sequences, the first ones; default: all, or 100 generated ones.",
    1,
)
_FPS = flags.DEFINE_float(
    "fps", None, "Resample videos and GIFs to this frame rate; default: as in training."
)
_RANGE = cli.define_range()
_STATES = flags.DEFINE_list(
    "states", None, "States of a layer, such as h or c, separated by commas; default: all."
)
_LAYERS = flags.DEFINE_enum("layers", "all", embeddings.LAYERS, "Layers of the encoder.")
_PER = flags.DEFINE_enum(
    "per", "video", embeddings.PER, "One row per video, the mean over its windows, or per window."
)
_FRAMES = flags.DEFINE_integer(
    "frames", None, "Number of frames of a window; default: as in training.", 1
)
_STRIDE = flags.DEFINE_integer(
    "stride", None, "Frames from one window to the next; default: those of a window.", 1
)
_NEIGHBOURS = flags.DEFINE_integer(
    "neighbours",
    None,
    "Also draw this many nearest neighbours of 8 rows, into NAME_neighbours.png beside --out.",
    1,
    20,
)
_OUT = flags.DEFINE_multi_string(
    "out", ["embeddings.npz"], "Write FILE.npz or FILE.parquet; repeat the flag for both."
)


def main(argv):
    cli.check_arguments(argv)
    for path in _OUT.value:
        embeddings.check_out(path)
    out = Path(_OUT.value[0])
    picture = out.with_name(f"{out.stem}_neighbours.png")
    if _NEIGHBOURS.present:
        files.check_place(picture, (".png",))
    if common.recompute():
        raise ValueError("--recompute has no meaning here: nothing is stored")
    model = common.model()
    sequences = _sequences(model)
    parts = embeddings.columns(model, _STATES.value, _LAYERS.value)
    settings = embeddings.Settings(
        None if _STATES.value is None else tuple(_STATES.value),
        _LAYERS.value,
        _FRAMES.value,
        _STRIDE.value,
        _PER.value,
    )
    working = out.with_name(f".parts-{out.name}")
    with embeddings.computed(model, sequences, settings, working, print) as rows:
        print(
            f"{model.name}, step {model.step:,}: {rows.count:,} rows of {rows.dim} numbers, "
            + ", ".join(f"{name} {part.start}:{part.stop}" for name, part in parts.items())
        )
        written = list(_OUT.value)
        for path in written:
            embeddings.write(rows, path)
        if _NEIGHBOURS.present:
            hits = neighbours.nearest(rows, _NEIGHBOURS.value)
            if neighbours.drawable(rows):
                neighbours.draw(rows, hits, picture)
                written.append(picture)
            else:
                print(
                    f"frames of shape {rows.sequences.frame_shape} are no pictures; the nearest "
                    "neighbours by name, with the cosine:",
                    *neighbours.lines(rows, hits),
                    sep="\n  ",
                )
    for path in written:
        print(f"written: {path}")
    if rows.problems:
        print(
            f"NOT embedded, {len(rows.problems):,} of {len(sequences.entries):,}:",
            *(f"{name}: {reason}" for name, reason in rows.problems),
            sep="\n  ",
        )
    return int(bool(rows.problems))


def _sequences(model):
    """Returns the sequences that the flags name."""
    if _RECORDS.value is not None and _INPUT.value is not None:
        raise ValueError("give either --input or --records, not both")
    for flag in (_INPUT, _RECORDS):
        if flag.value == "":  # an empty path would mean the current folder
            raise ValueError(f"--{flag.name} is empty: a file or a folder is expected")
    takes_pictures = _INPUT.value is not None and len(model.frame_shape) > 1
    for flag in (_FPS, _RANGE):
        if flag.present and not takes_pictures:
            raise ValueError(f"--{flag.name} goes with --input of pictures")
    if _INPUT.value is not None or _RECORDS.value is not None:
        common.refuse("is for generated clips, without --input and --records", "digits_dir")
    if _RECORDS.value is not None:
        return embedding_inputs.Records(_RECORDS.value, _CLIPS.value)
    if takes_pictures:
        return embedding_inputs.Files(
            _INPUT.value,
            model.frame_shape,
            _FPS.value,
            own_clips.trained_fps(model),
            cli.value_range(_RANGE),
            _CLIPS.value,
            print,
        )
    if _INPUT.value is not None:
        return embedding_inputs.of_array(_INPUT.value, model.frame_shape[0], _CLIPS.value)
    clips, notes = embedding_inputs.generated(model, _CLIPS.value or 100)
    print(f"{len(clips.entries)} generated clips of handwritten digits", *notes, sep="\n")
    return clips


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
