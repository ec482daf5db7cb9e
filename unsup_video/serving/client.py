"""Requests to a server: the clips to send, the request itself, and its outputs."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unsup_video.pictures import visualize
from unsup_video.serving import remote
from unsup_video.utils import files
from unsup_video.video import inputs

DEFAULT_SIGNATURE = "predict_future"
_FRAMES = ("frames", "frame")  # the inputs for a whole clip, and for one frame at a time
_PICTURES = ("reconstruction", "future", "next_frame")  # outputs that are frames
_SHOWN = 8  # values of an output that are printed

# ---------------------------------------------------------------------- the request


def frame_shape(signature: remote.Signature) -> tuple[int, ...]:
    """Returns the shape of the frames that a signature takes: (H, W), (H, W, C) or (D,).

    Raises ValueError if it takes no frames.
    """
    for name, axes in zip(_FRAMES, (2, 1), strict=True):
        shape = signature.inputs[name].shape[axes:] if name in signature.inputs else ()
        if shape and None not in shape:
            return shape
    raise ValueError(f"the signature takes no frames of a fixed shape, but {signature.inputs}")


def stacked(clips: Sequence[inputs.Clip]) -> np.ndarray:
    """Stacks clips of `inputs.clips` to (B, T, *shape), cut to the length of the shortest.

    The dtype is uint8 if all clips are pixels, otherwise float32.
    """
    length = min(len(clip.frames) for clip in clips)
    frames = [clip.frames[:length] for clip in clips]
    if all(part.dtype == np.uint8 for part in frames):
        return np.stack(frames)
    return np.stack([part if part.dtype == np.float32 else _unit(part) for part in frames])


def _unit(pixels):
    return np.float32(pixels / 255)


# ---------------------------------------------------------------------- the answer


@dataclasses.dataclass(frozen=True)
class Request:
    """Clips for a signature; `request` makes it.

    Attributes:
        signature: the name of the signature. clips: (B, T, *shape), in the signature's dtype.
        steps: the number of frames to predict for every clip, if the signature takes it.
    """

    signature: str
    definition: remote.Signature
    clips: np.ndarray
    steps: int

    def send(self, model: remote.Grpc | remote.Rest) -> remote.Outputs:
        """Sends the request; returns the outputs by name.

        Only the first `steps` predicted frames are kept, since a server that joins requests returns
        as many as the longest of them asked for. A stream uses one version, `model.answering`,
        since its states have no meaning for another. Raises ValueError if the server no longer has
        that version.
        """
        inputs = self.definition.inputs
        if "frame" in inputs:
            return self._stream(model)
        given = {"frames": self.clips}
        if "steps" in inputs:
            given["steps"] = np.full(len(self.clips), self.steps, np.int32)
        outputs = model.predict(self.signature, given)
        if "steps" in inputs and "future" in outputs:
            outputs["future"] = outputs["future"][:, : self.steps]
        return outputs

    def _stream(self, model):
        """Sends one frame at a time with the last states; returns the outputs of the last one."""
        clips, tensors = len(self.clips), self.definition.inputs
        state = {
            name: np.zeros((clips, *tensor.shape[1:]), tensor.dtype)
            for name, tensor in tensors.items()
            if name != "frame"
        }
        model = model.pinned()
        for frame in self.clips.swapaxes(0, 1):
            outputs = model.predict(self.signature, {"frame": frame, **state})
            state = {name: outputs[name] for name in state}
        return outputs


def request(
    model: remote.Grpc | remote.Rest, signature: str, clips: np.ndarray, steps: int
) -> Request:
    """Makes a request.

    uint8 pixels go to the `_uint8` form of the signature if the model has one, otherwise they are
    converted to numbers in [0, 1].

    Raises ValueError: there is no such signature, or it does not take these clips.
    """
    if clips.dtype == np.uint8 and f"{signature}_uint8" in model.signatures:
        signature += "_uint8"
    definition = model.signature(signature)
    known = [{"frames"}, {"frames", "steps"}]
    states = definition.inputs.keys() & definition.outputs.keys()
    if set(definition.inputs) not in (*known, {"frame", *states}):
        raise ValueError(
            f"{signature} takes {', '.join(definition.inputs)}: more than this client can send"
        )
    dtype = next(definition.inputs[name].dtype for name in _FRAMES if name in definition.inputs)
    if clips.dtype.name != dtype:
        if dtype != "float32" or clips.ndim == 3:
            raise ValueError(f"{signature} takes {dtype}, not {clips.dtype}")
        clips = _unit(clips)
    return Request(signature, definition, clips, steps)


def describe(outputs: dict[str, np.ndarray]) -> list[str]:
    """Returns a line for each output, and one for each clip with its most probable classes."""
    lines = []
    for name, value in sorted(outputs.items()):
        if value.dtype == object or value.size <= _SHOWN:
            shown = ", ".join(map(_text, value.flat[:_SHOWN]))
            shown += ", .." if value.size > _SHOWN else ""
        else:
            shown = f"from {value.min():.4g} to {value.max():.4g}, mean {value.mean():.4g}"
        kind = "string" if value.dtype == object else value.dtype
        lines.append(f"  {name} {kind} {value.shape}: {shown}")
    if {"classes", "probabilities"} <= outputs.keys():
        probabilities = outputs["probabilities"]
        classes = np.broadcast_to(outputs["classes"], probabilities.shape)
        for clip, (p, names) in enumerate(zip(probabilities, classes, strict=True), 1):
            best = np.argsort(-p, kind="stable")[:5]
            probable = ", ".join(f"{_text(names[k])} {p[k]:.3f}" for k in best)
            lines.append(f"  clip {clip}: {probable}")
    return lines


def _text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else f"{value:.4g}"


def check_out(
    path: str | os.PathLike, shape: tuple[int, ...] | None = None, names: Iterable[str] = ()
) -> None:
    """Raises ValueError or OSError if `write` could not write outputs to `path`.

    Args:
        shape: the shape of a frame. names: the names of the outputs. Without them only the path is
            checked.
    """
    files.check_place(path, (".gif", ".npz"))
    if shape is None or _suffix(path) == ".npz":
        return
    if not visualize.drawable(shape) or not set(names) & set(_PICTURES):
        raise ValueError(
            f"{path}: {', '.join(sorted(names))} of frames of shape {shape} make no pictures; "
            "write a .npz file"
        )


def _suffix(path):
    return Path(path).suffix.lower()


def write(
    path: str | os.PathLike, outputs: dict[str, np.ndarray], sent: np.ndarray, after: np.ndarray
) -> None:
    """Writes all outputs (.npz), or the first clip's frames as an animation (.gif).

    Args:
        sent: (B, T, *shape), the frames that the model read. after: (B, S, *shape), the frames that
            really followed, as far as they are known; the animation shows them for comparison.

    Raises:
        ValueError: the extension is another one, or a .gif is asked for outputs that are no
            pictures. OSError: the file cannot be written.
    """
    shape = sent.shape[2:]
    check_out(path, shape, outputs)
    if _suffix(path) == ".npz":
        # A .npz can store strings without pickle only as numpy's bytes.
        arrays = {name: x.astype(bytes) if x.dtype == object else x for name, x in outputs.items()}
        with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        return
    if "next_frame" in outputs:
        outputs = {"future": outputs["next_frame"][:, None]}
    shown = [outputs[name][0] if name in outputs else None for name in ("reconstruction", "future")]
    reconstruction, future = shown
    count = 0 if future is None else len(future)
    truth = np.zeros((count, *shape), sent.dtype)
    known = after[0, :count]
    truth[: len(known)] = known
    visualize.sample_gif(sent[0], truth, reconstruction, future, path)
