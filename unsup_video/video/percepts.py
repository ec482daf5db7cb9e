"""Percepts: what a CNN that was trained on images makes of every frame of a video.

A frame is stretched, its centre is cut out, and the values of one layer of the CNN are stored. In
the paper that is VGG-16's fc6 after its ReLU, `fc1` in Keras, of the central 224x224 of 240x320.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
import socket
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from unsup_video.data import records, storage
from unsup_video.utils import files
from unsup_video.video import decoding, jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video

IMAGENET = "imagenet"
_KERAS = ".keras"
_HDF5 = b"\x89HDF\r\n\x1a\n"  # how such a file begins
_PAPER_LAYERS = {"VGG16": "fc1", "VGG19": "fc1"}  # of networks that do not end with pooling
_GLOBAL_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
_OPEN_SIZE = (224, 224)  # of a CNN that leaves the size open
_TIMEOUT = 20.0  # seconds without an answer, of a download
_MAX_BYTES = 1 << 30  # of a video's percepts: a record holds at most 2 GiB


@dataclasses.dataclass(frozen=True)
class Percepts:
    """The job: (T, D) of every video. `job` makes it, and fills in what is left open.

    Attributes:
        cnn: the name of a function of keras.applications, or the path of a .keras file.
        weights: "imagenet", or the path of a file, for a CNN by name; "" for a .keras file.
        sha256: of the .keras file, or of the weights; "" for "imagenet".
        layer: whose output is taken, "" for the last layer of global pooling; (H, W, D) is
            averaged over H and W. Layers of models inside of the CNN count, and such a model
            itself is a layer.
        size: (H, W) of the CNN's input. resize: (H, W) of which it is the centre.
        mean, std: a pixel of 0 to 255 enters as (pixel - mean) / std, for each channel or for all
            of them; () for the CNN's own `preprocess_input`. bgr: in the order blue, green, red.
        dtype: how it is stored, of `storage.STORAGES`.
        fps: frames a second that the video is resampled to; None for its own.
        batch_size: frames that the CNN sees at once.
    """

    cnn: str
    weights: str
    sha256: str
    layer: str
    size: tuple[int, int]
    resize: tuple[int, int]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False
    dtype: str = "float16"
    fps: float | None = None
    batch_size: int = 32

    kind = "percepts"
    scale = 1.0  # with uint8 every record has its own

    @property
    def settings(self) -> dict:
        """All that the records depend on besides the video."""
        fields = dataclasses.asdict(self)
        names = {key: Path(fields[key]).name for key in ("cnn", "weights") if fields["sha256"]}
        return fields | names | {"keras": keras.__version__}

    @property
    def dim(self) -> int:
        """D."""
        return _loaded(self).get_concrete_function().structured_outputs.shape[1]

    def records(self, video: Video) -> Iterator[records.Record]:
        """The record of a video.

        Raises VideoError: decoding fails, it is too long, or `storage.pack` refuses its values.
        """
        values = self.percepts(video)
        try:
            stored, scale = storage.pack(values, self.dtype)
        except ValueError as error:
            raise VideoError(video.path, f"of its percepts {error}", len(values)) from None
        yield jobs.record(video, stored, scale)

    def percepts(self, video: Video) -> np.ndarray:
        """(T, D) float32. The next batch is decoded while the CNN works on one."""
        try:
            function = _loaded(self)
        except OSError as error:  # the job would take it for the video's
            raise RuntimeError(f"the CNN cannot be loaded: {error}") from error
        batches = self.batches(video)
        found, size = [], 0
        with ThreadPoolExecutor(1) as pool:
            # In this thread's context, so that decoding's notes get to who listens here.
            decode = functools.partial(pool.submit, contextvars.copy_context().run, next, batches)
            coming = decode(None)
            while (batch := coming.result()) is not None:
                coming = decode(None)
                padded = np.zeros((self.batch_size, *batch.shape[1:]), np.uint8)
                padded[: len(batch)] = batch
                found.append(function(padded).numpy()[: len(batch)])
                size += found[-1].nbytes
                if size > _MAX_BYTES:
                    raise VideoError(
                        video.path,
                        f"its percepts take more than {_MAX_BYTES >> 20} MiB: cut it "
                        "into shorter files",
                        sum(map(len, found)),
                    )
        return np.concatenate(found)

    def batches(self, video: Video) -> Iterator[np.ndarray]:
        """What the CNN sees, before its values are scaled: (up to batch_size, H, W, 3) uint8."""
        batch = []
        for frame in decoding.frames(
            video.path, self.fps, start=video.start, seconds=video.seconds
        ):
            frame = decoding.centre_crop(decoding.resize(frame, *self.resize), *self.size)
            batch.append(frame)
            if len(batch) == self.batch_size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)


def job(
    cnn: str = "VGG16",
    weights: str = "",
    layer: str = "",
    size: tuple[int, int] | None = None,
    resize: tuple[int, int] | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    **others,
) -> Percepts:
    """A job whose CNN was loaded once: what is wrong with it is found before the first video.

    Args:
        weights: "" for "imagenet", which Keras downloads unless it has them, for a CNN by name.
        layer: "" for VGG's fc6, the last layer of global pooling of other CNNs.
        size: None for the CNN's own; 224x224 where it has none.
        resize: None for what the paper does with 224x224, 240x320, in proportion.
        mean, std: both or neither. A .keras file needs them: 0 and 1 if it scales its input itself.
        Others of `Percepts`.

    Raises:
        ValueError: a CNN or layer that does not exist, or cannot be used so; a bad argument.
        OSError: a file that cannot be read, or ImageNet weights that cannot be had.
    """
    is_file = is_keras_file(cnn)
    if is_file:
        cnn = str(Path(cnn).absolute())  # workers may be in another folder
        if not Path(cnn).is_file():
            raise FileNotFoundError(f"{cnn} does not exist")
    elif weights not in ("", IMAGENET):
        weights = str(Path(weights).absolute())
    if is_file and weights:
        raise ValueError(f"{cnn} has its weights in it: others are for a CNN by name")
    if bool(mean) != bool(std) or (is_file and not mean):
        raise ValueError(
            f"{cnn}: which values it takes is not known. Give mean and std, it gets (pixel - mean) "
            "/ std of pixels of 0 to 255: mean 0 and std 1 if it scales them itself"
        )
    if others.get("bgr") and not mean:
        raise ValueError(f"bgr goes with mean and std: {cnn} has its own order of the channels")
    if any(len(values) not in (0, 1, 3) for values in (mean, std)) or 0 in std:
        raise ValueError(f"mean and std: one number, or three, std not 0; got {mean} and {std}")
    fps = others.get("fps")
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps must be above 0, got {fps}")
    weights = weights or ("" if is_file else IMAGENET)
    file = cnn if is_file else weights
    sha256 = "" if file == IMAGENET else files.sha256(file)

    model = _model(cnn, weights, sha256)
    layer = layer or _PAPER_LAYERS.get(cnn, "")
    own_size = model.input_shape[1:3]
    size = size or (own_size if None not in own_size else _OPEN_SIZE)
    resize = resize or tuple(
        round(n * whole / 224) for n, whole in zip(size, (240, 320), strict=True)
    )
    if any(n > whole for n, whole in zip(size, resize, strict=True)):
        raise ValueError(f"a frame resized to {resize} has no centre of {size}")
    found = Percepts(cnn, weights, sha256, layer, size, resize, mean, std, **others)
    if found.dtype not in storage.STORAGES:
        raise ValueError(f"unknown storage {found.dtype!r}: {' or '.join(storage.STORAGES)}")
    if found.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {found.batch_size}")
    noise = np.random.default_rng(0).integers(0, 256, (found.batch_size, *size, 3), np.uint8)
    try:
        storage.pack(_loaded(found)(noise).numpy(), found.dtype)
    except ValueError as error:
        raise ValueError(f"{cnn}, layer {layer or 'of the last pooling'}: {error}") from None
    return found


def is_keras_file(cnn: str) -> bool:
    """Whether a CNN is the path of a .keras file, and not a name in keras.applications."""
    return cnn.lower().endswith(_KERAS)


@functools.lru_cache(1)
def _loaded(percepts: Percepts) -> Callable:
    """A function of (batch_size, H, W, 3) uint8 that gives (batch_size, D) float32 tensors."""
    model = _model(percepts.cnn, percepts.weights, percepts.sha256)
    output = _output(percepts.cnn, model, percepts.layer)
    model = keras.Model(model.inputs, output)

    @tf.function(
        input_signature=[tf.TensorSpec((percepts.batch_size, *percepts.size, 3), tf.uint8)]
    )
    def function(frames):
        values = tf.cast(frames, tf.float32)
        if percepts.bgr:
            values = values[..., ::-1]
        if percepts.mean:
            values = (values - percepts.mean) / percepts.std
        else:
            values = _application(percepts.cnn).preprocess_input(values)
        return tf.cast(model(values, training=False), tf.float32)

    return function


@functools.lru_cache(1)
def _model(cnn, weights, sha256):
    """The whole CNN. `sha256` is there for the cache."""
    if not sha256:
        return _downloaded(cnn)
    try:
        if not weights:
            model = _read(cnn)
        else:
            with _for_keras(weights) as path:
                model = getattr(_application(cnn), cnn)(weights=path)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, OSError) as error:
        raise ValueError(f"{weights or cnn} cannot be loaded: {error}") from None
    if not isinstance(model, keras.Model) or not model.built or len(model.inputs) != 1:
        raise ValueError(f"{cnn}: a model with one input expected")
    if len(model.input_shape) != 4 or model.input_shape[3] != 3:
        raise ValueError(f"{cnn}: takes {model.input_shape}, (None, H, W, 3) expected")
    return model


def _read(path):
    """The model of a .keras file."""
    with open(path, "rb") as file:
        head = file.read(len(_HDF5))
    if not head:
        raise ValueError("it is empty")
    if head == _HDF5:
        raise ValueError(
            "it is HDF5, the older format of Keras: rename it to .h5, load it with Keras, and save "
            "the model as a .keras file"
        )
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no .keras file, or it is truncated: not a zip archive")
    with _for_keras(path) as path:
        return keras.saving.load_model(path, compile=False, safe_mode=True)


@contextlib.contextmanager
def _for_keras(path):
    """The file under a name in lower case, by the end of which Keras goes."""
    name = Path(path).name
    if Path(path).suffix.islower():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, name.lower())
        link.symlink_to(path)
        yield str(link)


def _downloaded(cnn):
    application = getattr(_application(cnn), cnn)
    try:
        with _timeout(_TIMEOUT):
            return application(weights=IMAGENET)
    except Exception as error:  # that is what Keras raises
        raise OSError(
            f"the ImageNet weights of {cnn} are not here and cannot be downloaded ({error}). Fetch "
            "that file elsewhere, and give it as the weights, or put it into ~/.keras/models"
        ) from None


@contextlib.contextmanager
def _timeout(seconds):
    """Sockets that are opened meanwhile give up after a while: Keras sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _application(name):
    """The module of keras.applications that has a CNN of that name."""
    modules = [
        module
        for module in vars(keras.applications).values()
        if hasattr(module, "preprocess_input")
    ]
    for module in modules:
        if name[:1].isupper() and hasattr(module, name):
            return module
    known = {key for module in modules for key in vars(module) if key[:1].isupper()}
    raise ValueError(f"no CNN {name!r}: a .keras file, or one of {', '.join(sorted(known))}")


def _output(cnn, model, name):
    """The symbolic output of a layer, (None, D)."""
    # By its place, as the names that Keras gives depend on what was built before.
    chains = list(_chains(model))
    if name:
        found = min((c for c in chains if c[-1].name == name), key=len, default=None)
    else:
        found = next((c for c in reversed(chains) if isinstance(c[-1], _GLOBAL_POOLING)), None)
    if found is None:
        what = f"layer {name!r}" if name else "global pooling: say which layer"
        raise ValueError(f"{cnn} has no {what}. It has {', '.join(c[-1].name for c in chains)}")
    try:
        output = _output_of(model, found)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{cnn}: layer {name} has no output of its own ({error})") from None
    rank = len(getattr(output, "shape", ()))
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D()(output)
    if rank == 2:
        return output
    raise ValueError(f"{cnn}: layer {name} gives {output}, (None, D) or (None, H, W, D) expected")


def _chains(model):
    """The way to each layer: [a layer of the model], or [a model in it, a layer of that], .."""
    for layer in model.layers:
        yield [layer]
        if isinstance(layer, keras.Model):
            yield from ([layer, *inside] for inside in _chains(layer))


def _output_of(model, chain):
    """The symbolic output, from `model.inputs`, of the layer at the end of a chain."""
    layer, *inside = chain
    if not isinstance(layer, keras.Model):
        return layer.output
    part = keras.Model(layer.inputs, _output_of(layer, inside)) if inside else layer
    return part(_input_of(model, layer))


def _input_of(model, wanted):
    """The symbolic input, from `model.inputs`, that a model inside of another is called with.

    A model's own `input` is where its inside begins, so the calls are made once more.
    """
    entering = []

    def call(layer, *args, **kwargs):
        if layer is wanted:
            entering.append(args[0] if args else kwargs["inputs"])
        return layer(*args, **kwargs)

    if isinstance(model, keras.Sequential):  # which `clone_model` makes no calls for
        functools.reduce(lambda x, layer: call(layer, x), model.layers, model.inputs[0])
    else:
        keras.models.clone_model(
            model, input_tensors=model.input, clone_function=lambda layer: layer, call_function=call
        )
    return entering[0]
