"""Percepts: the outputs of a CNN, trained on images, for every frame of a video.

A frame is stretched, its centre is cut out, and the outputs of one layer of the CNN are stored. In
the paper, this is VGG-16's fc6 after its ReLU, `fc1` in Keras, for the central 224x224 of 240x320.
"""

import contextlib
import contextvars
import dataclasses
import functools
import socket
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
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
_HDF5 = b"\x89HDF\r\n\x1a\n"  # the first bytes of an HDF5 file
_PAPER_LAYERS = {"VGG16": "fc1", "VGG19": "fc1"}  # for networks that do not end with pooling
_GLOBAL_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
_OPEN_SIZE = (224, 224)  # for a CNN that accepts any size
_TIMEOUT = 20.0  # seconds that a download may take to answer
_MAX_BYTES = 1 << 30  # per video: a record may have 2 GiB


@dataclasses.dataclass(frozen=True)
class Percepts:
    """A job that computes (T, D) for every video. Use `job` to make it and fill in defaults.

    Attributes:
        cnn: the name of a function in keras.applications, or the path of a .keras file.
        weights: "imagenet", or the path of a file, for a CNN by name; "" for a .keras file.
        sha256: of the .keras file, or of the weights; "" for "imagenet".
        layer: the layer whose output is stored, "" for the last global pooling; (H, W, D) is
            averaged over H and W. Layers inside nested models count, and so does a nested model.
        size: (H, W) of the CNN's input. resize: (H, W) of the frame, whose centre is the input.
        mean, std: a pixel from 0 to 255 becomes (pixel - mean) / std, with one value per channel,
            in the order of the CNN's channels, or one for all; () for the CNN's own
            `preprocess_input`. bgr: the order of channels is blue, green, red.
        dtype: one of `storage.STORAGES`.
        fps: frames per second to resample to; None for the video's own rate.
        batch_size: frames per call of the CNN.
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
    scale = 1.0  # with uint8, every record has its own

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        fields = dataclasses.asdict(self)
        names = {key: Path(fields[key]).name for key in ("cnn", "weights") if fields["sha256"]}
        return fields | names | {"keras": keras.__version__}

    @property
    def title(self) -> str:
        """The CNN, its layer, and the part of a frame that it reads, for people."""
        return (
            f"{self.cnn}, layer {self.layer or 'of the last global pooling'}: the central "
            f"{self.size[0]}x{self.size[1]} of {self.resize[0]}x{self.resize[1]}"
        )

    @property
    def dim(self) -> int:
        """The number of values per frame, D."""
        return _loaded(self).get_concrete_function().structured_outputs.shape[1]

    def records(self, video: Video) -> Iterator[records.Record]:
        """Yields the record of a video.

        Raises VideoError: the video cannot be decoded or is too long, or `storage.pack` refuses
        its values.
        """
        values = self.percepts(video)
        try:
            stored, scale = storage.pack(values, self.dtype)
        except ValueError as error:
            raise VideoError(video.path, f"of its percepts {error}", len(values)) from None
        yield jobs.record(video, stored, scale)

    def percepts(self, video: Video) -> np.ndarray:
        """Computes (T, D) float32 from the frames of a video; errors as in `of_frames`."""
        return self.of_frames(
            decoding.frames(video.path, self.fps, start=video.start, seconds=video.seconds), video
        )

    def of_frames(self, frames: Iterable[np.ndarray], video: Video) -> np.ndarray:
        """Computes (T, D) float32 from frames (H, W, 3) uint8 of any size, made of `video`.

        The next batch of frames is made while the CNN works on this one.

        Raises:
            VideoError: the percepts take too much memory, or `frames` raises it.
            JobError: the CNN cannot be loaded.
        """
        with jobs.loading("the CNN"):
            function = _loaded(self)
        batches = self.batches(frames)
        values, size = [], 0
        with ThreadPoolExecutor(1) as pool:
            # Decodes in this thread's context, so that notes reach the caller's `collect_notes`.
            decode = functools.partial(pool.submit, contextvars.copy_context().run, next, batches)
            coming = decode(None)
            while (batch := coming.result()) is not None:
                coming = decode(None)
                padded = np.zeros((self.batch_size, *batch.shape[1:]), np.uint8)
                padded[: len(batch)] = batch
                values.append(function(padded).numpy()[: len(batch)])
                size += values[-1].nbytes
                if size > _MAX_BYTES:
                    raise VideoError(
                        video.path,
                        f"{video.name}: its percepts take more than {_MAX_BYTES >> 20} MiB: cut it "
                        "into shorter files",
                        sum(map(len, values)),
                    )
        return np.concatenate(values)

    def batches(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the CNN's inputs before preprocessing, (up to batch_size, *size, 3) uint8."""
        batch = []
        for frame in frames:
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
    """Makes a job and loads its CNN once, so that errors surface before the first video.

    Args:
        weights: "" for "imagenet", which Keras downloads if necessary, for a CNN by name.
        layer: "" for VGG's fc6, or for the last global pooling of other CNNs.
        size: None for the CNN's own size, or 224x224 if it has none.
        resize: None for the paper's ratio, 240x320 for 224x224.
        mean, std: give both or neither. A .keras file needs them: 0 and 1 if it scales its input.
        others: other fields of `Percepts`.

    Raises:
        ValueError: the CNN or layer does not exist or is not suitable; a bad argument.
        OSError: a file cannot be read, or the ImageNet weights cannot be downloaded.
    """
    is_file = is_keras_file(cnn)
    if is_file:
        cnn = str(Path(cnn).absolute())  # workers may be in another folder
        if not Path(cnn).is_file():
            raise FileNotFoundError(f"{cnn} does not exist")
    elif weights not in ("", IMAGENET):
        weights = str(Path(weights).absolute())
    if is_file and weights:
        raise ValueError(f"{cnn} contains its weights: other weights are for a CNN by name")
    if bool(mean) != bool(std) or (is_file and not mean):
        raise ValueError(
            f"{cnn}: which values it takes is not known. Give mean and std, it gets (pixel - mean) "
            "/ std of pixels of 0 to 255: mean 0 and std 1 if it scales them itself"
        )
    if others.get("bgr") and not mean:
        raise ValueError(f"bgr goes with mean and std: {cnn} has its own order of the channels")
    if any(len(values) not in (0, 1, 3) for values in (mean, std)) or 0 in std:
        raise ValueError(f"mean and std: one number, or three, std not 0; got {mean} and {std}")
    decoding.check_fps(others.get("fps"))
    weights = weights or ("" if is_file else IMAGENET)
    file = cnn if is_file else weights
    sha256 = "" if file == IMAGENET else files.sha256(file)

    model = _model(cnn, weights, sha256)
    layer = layer or _PAPER_LAYERS.get(cnn, "")
    own_size = model.input_shape[1:3]
    size = size or (own_size if None not in own_size else _OPEN_SIZE)
    if min(size) < 1 or any(own not in (None, n) for own, n in zip(own_size, size, strict=True)):
        takes = " x ".join("any" if own is None else str(own) for own in own_size)
        raise ValueError(f"size {size}: {cnn} takes frames of {takes} pixels")
    resize = resize or tuple(
        round(n * whole / 224) for n, whole in zip(size, (240, 320), strict=True)
    )
    if any(n > whole for n, whole in zip(size, resize, strict=True)):
        raise ValueError(f"a frame resized to {resize} has no centre of {size}")
    percepts = Percepts(cnn, weights, sha256, layer, size, resize, mean, std, **others)
    if percepts.dtype not in storage.STORAGES:
        raise ValueError(f"unknown storage {percepts.dtype!r}: {' or '.join(storage.STORAGES)}")
    if percepts.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {percepts.batch_size}")
    noise = np.random.default_rng(0).integers(0, 256, (percepts.batch_size, *size, 3), np.uint8)
    try:
        storage.pack(_loaded(percepts)(noise).numpy(), percepts.dtype)
    except ValueError as error:
        raise ValueError(f"{cnn}, layer {layer or 'of the last pooling'}: {error}") from None
    return percepts


def is_keras_file(cnn: str) -> bool:
    """Returns True if a CNN is given by the path of a .keras file, not by a name."""
    return cnn.lower().endswith(_KERAS)


@functools.lru_cache(1)
def _loaded(percepts: Percepts) -> Callable:
    """Returns a function (batch_size, H, W, 3) uint8 -> (batch_size, D) float32 tensor."""
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
    """Loads the whole CNN. `sha256` is part of the cache key."""
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
    """Loads the model of a .keras file."""
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
    """Yields the file under a name with a lower-case extension, which Keras looks at."""
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
    except Exception as error:  # Keras raises a plain Exception
        raise OSError(
            f"the ImageNet weights of {cnn} are not here and cannot be downloaded ({error}). Fetch "
            "that file elsewhere, and give it as the weights, or put it into ~/.keras/models"
        ) from None


@contextlib.contextmanager
def _timeout(seconds):
    """Sets a timeout for new sockets, because Keras sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _application(name):
    """Returns the module of keras.applications that has a CNN of that name."""
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
    """Returns the symbolic output of a layer, (None, D)."""
    # The default layer is found by position, because Keras numbers names by what was built before.
    chains = list(_chains(model))
    if name:
        chain = min((c for c in chains if c[-1].name == name), key=len, default=None)
    else:
        chain = next((c for c in reversed(chains) if isinstance(c[-1], _GLOBAL_POOLING)), None)
    if chain is None:
        what = f"layer {name!r}" if name else "global pooling: say which layer"
        raise ValueError(f"{cnn} has no {what}. It has {', '.join(c[-1].name for c in chains)}")
    try:
        output = _output_of(model, chain)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{cnn}: layer {name} has no output of its own ({error})") from None
    rank = len(getattr(output, "shape", ()))
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D()(output)
    if rank == 2:
        return output
    raise ValueError(f"{cnn}: layer {name} gives {output}, (None, D) or (None, H, W, D) expected")


def _chains(model):
    """Yields the path to each layer: [layer of the model], or [nested model, its layer], .."""
    for layer in model.layers:
        yield [layer]
        if isinstance(layer, keras.Model):
            yield from ([layer, *inside] for inside in _chains(layer))


def _output_of(model, chain):
    """Returns the symbolic output, from `model.inputs`, of the layer at the end of a chain."""
    layer, *inside = chain
    if not isinstance(layer, keras.Model):
        return layer.output
    part = keras.Model(layer.inputs, _output_of(layer, inside)) if inside else layer
    return part(_input_of(model, layer))


def _input_of(model, wanted):
    """Returns the symbolic input, from `model.inputs`, with which a nested model is called.

    The `input` of the nested model itself is where its inside begins, so the calls are repeated.
    """
    inputs = []

    def call(layer, *args, **kwargs):
        if layer is wanted:
            inputs.append(args[0] if args else kwargs["inputs"])
        return layer(*args, **kwargs)

    if isinstance(model, keras.Sequential):  # `clone_model` makes no calls for it
        functools.reduce(lambda x, layer: call(layer, x), model.layers, model.inputs[0])
    else:
        keras.models.clone_model(
            model, input_tensors=model.input, clone_function=lambda layer: layer, call_function=call
        )
    return inputs[0]
