"""The model card of an export, as JSON and as Markdown."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

import unsup_video
from unsup_video.configs import NO_INIT
from unsup_video.models.video_models import CONDITIONAL_INPUTS, KINDS
from unsup_video.serving import signatures
from unsup_video.training.trained import TrainedModel, export_name


def build(
    trained: TrainedModel,
    functions: Mapping[str, tf.types.experimental.ConcreteFunction],
    gemm_dtype: str,
    quantization: dict,
    version: Path,
) -> dict:
    """Builds the card, in JSON values.

    Args:
        functions: the signatures. gemm_dtype: the dtype of their matrix products.
        quantization: {"kernel_dtype": ..}, and its measured effect if it is not float32.
        version: the folder NAME/VERSION of the export.
    """
    config = trained.config
    run = json.loads((trained.origin / "run.json").read_text(encoding="utf-8"))
    results = trained.origin / "results.json"
    results = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    return {
        "schema_version": 1,
        "name": export_name(version),
        "version": int(version.name),
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "unsup_video": unsup_video.__version__,
        "config": config.name,
        "recipe": config.recipe.name,
        "model": config.model.to_dict(),
        **trained.conditional_input,
        "parameters": trained.model.network.count_params(),
        "gemm_dtype": gemm_dtype,
        **quantization,
        "step": trained.step,
        "sha256": trained.sha256,
        "data": run["data"],
        "frame_shape": list(trained.frame_shape),
        **_purpose(trained),
        "results": results if results.get("step") == trained.step else {},
        "signatures": {name: _describe(function) for name, function in functions.items()},
    }


def _purpose(trained):
    """Returns the items of the card about the purpose of the model."""
    data = trained.config.data
    if trained.task == "finetuning":
        return {"classes": list(trained.classes), "frames": data.frames, "stride": data.stride}
    return {
        "frames_in": data.frames_in,
        "frames_out": data.frames_out,
        "max_steps": signatures.MAX_STEPS,
    }


def _describe(function):
    def described(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }

    inputs = tf.nest.flatten(function.structured_input_signature)
    return {
        "inputs": described({spec.name: spec for spec in inputs}),
        "outputs": described(function.structured_outputs),
    }


def text(card: dict) -> str:
    """Returns the card as Markdown."""
    what, training, figures, limits, note = (_of_classifier if "classes" in card else _of_video)(
        card
    )

    def tensors(specs):
        sizes = {
            name: ", ".join("?" if n is None else str(n) for n in spec["shape"])
            for name, spec in specs.items()
        }
        return ", ".join(f"{name} {specs[name]['dtype']} ({size})" for name, size in sizes.items())

    lines = [
        f"# {card['name']}, version {card['version']}",
        "",
        f"{what} ({card['parameters']:,} parameters) for videos with frames of "
        f"{' x '.join(map(str, card['frame_shape']))}, after "
        "[arXiv 1502.04681](https://arxiv.org/abs/1502.04681). "
        f"Exported by unsup_video {card['unsup_video']} on {card['exported'][:10]}.",
        "",
        f"- **Training**: config {card['config']}, recipe {card['recipe']}, weights of step "
        f"{card['step']:,} (sha256 {card['sha256']}), {training}.",
        f"- **Data**: {card['data']['kind']}: {card['data']['source']}.",
        *figures,
        f"- **Limits**: intended only for videos like its training data. {limits}",
        *_storage(card),
        f"- **Arithmetic**: matrix products in {card['gemm_dtype']}, all else in float32.",
        "- **Check the files**: `sha256sum -c assets.extra/sha256sums.txt`.",
        "",
        "| signature | inputs | outputs |",
        "|---|---|---|",
        *(
            f"| `{name}` | {tensors(signature['inputs'])} | {tensors(signature['outputs'])} |"
            for name, signature in card["signatures"].items()
        ),
        "",
        note,
    ]
    return "\n".join(lines).rstrip() + "\n"


def _storage(card):
    if card["kernel_dtype"] == "float32":
        return ["- **Storage**: all weights in float32."]
    output = card["output_error"]
    figures = " The figures above were measured with float32 weights." if card["results"] else ""
    return [
        f"- **Storage**: kernels in {card['kernel_dtype']}, all other weights in float32. That "
        f"changes a weight by at most {card['kernel_error']:.2g}, and {output['of']} for "
        f"{output['clips']} by {output['mean']:.2g} on average and at most "
        f"{output['largest']:.2g}.{figures}"
    ]


_NAMES = {
    "autoencoder": "An autoencoder",
    "future_predictor": "A future predictor",
    "composite": "A composite",
}


def _of_video(card):
    model, results = card["model"], card["results"]
    how = card.get("conditional_input")
    init = model.get("init", NO_INIT)
    start = "" if init == NO_INIT else f"; it started from the weights of {init}"
    conditional = f" with conditional decoders, {CONDITIONAL_INPUTS[how]}," if how else ""
    decoders = KINDS[model["kind"]]
    read = f"to read {card['frames_in']} frames and "
    if "future" in decoders:
        task = read + f"predict {card['frames_out']}"
        limits = (
            f"It predicts at most {card['max_steps']:,} frames at once; training covered the first "
            f"{card['frames_out']} only."
        )
    else:
        task = read + "reconstruct them"
        limits = f"Training covered clips of {card['frames_in']} frames only."
    order = "A reconstruction is in reversed order: it starts with the last frame read."
    figures = [
        f"- **Test loss per frame, {name}**: {value:.1f}, over {results['clips']:,} clips."
        for name, value in results.get("scores", {}).items()
    ]
    return (
        f"{_NAMES[model['kind']]} of {model['layers']} x {model['units']} "
        f"{model['cell'].upper()} units{conditional}",
        f"{task}{start}",
        figures,
        limits,
        order if "reconstruction" in decoders else "",
    )


_BASELINES = {
    "single_frame": "A regression on each frame by itself",
    "mean_frame": "A regression on the mean of the frames",
}


def _of_classifier(card):
    model, results = card["model"], card["results"]
    read = "A regression on the state" if model["kind"] == "state" else "A classifier of actions"
    what = _BASELINES.get(
        model["kind"],
        f"{read} of {model['layers']} x {model['units']} {model['cell'].upper()} units",
    )
    start = "random weights" if model["init"] == NO_INIT else f"the encoder {model['init']}"
    encoder = "" if model["kind"] in _BASELINES else f", from {start}"
    names = {"video_accuracy": "accuracy of videos", "window_accuracy": "accuracy of windows"}
    figures = [
        f"- **Test {name}**: {results['scores'][key]:.1f} %, over {results['videos']:,} videos."
        for key, name in names.items()
        if results
    ]
    return (
        what,
        f"on windows of {card['frames']} frames{encoder}",
        [f"- **Classes**: {len(card['classes'])}: {', '.join(card['classes'])}.", *figures],
        "It names one of its classes for every video, also for videos of other classes.",
        f"The probabilities of a video are the mean over its blocks of {card['frames']} frames, "
        f"one every {card['stride']} frames, as in the evaluations.",
    )
