"""The paper's models (sections 2.2 to 2.5), as Keras functional models over shared layers."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops
from scipy import ndimage

from unsup_video.models import cells, outputs
from unsup_video.models.cells import RecurrentLayer
from unsup_video.models.layers import Decoder, FrameScale

# The decoders of each kind of model.
KINDS = {
    "autoencoder": ("reconstruction",),
    "future_predictor": ("future",),
    "composite": ("reconstruction", "future"),
}
# The previous frame that conditional decoders read in training, and how tables name it.
CONDITIONAL_INPUTS = {"truth": "trained on the true frames", "own": "trained on its own frames"}


@dataclasses.dataclass(frozen=True)
class Initialization:
    """The distributions of the initial weights of a model.

    Attributes:
        kernel: half-width of the uniform distribution of all kernels; 0 means the paper's
            1/sqrt(fan_in).
        peepholes: half-width of the distribution of the peepholes; 0 starts them at zero.
        forget_bias: initial bias of the gate that keeps the state, in every cell. All other biases
            start at zero.
    """

    kernel: float = 0.0
    peepholes: float = 0.0
    forget_bias: float = 0.0

    # Every call makes a new object, since a Keras initializer repeats its values when it is reused.
    def kernel_initializer(self):
        if not self.kernel:
            return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        return keras.initializers.RandomUniform(-self.kernel, self.kernel)

    def peephole_initializer(self):
        if not self.peepholes:
            return keras.initializers.Zeros()
        return keras.initializers.RandomUniform(-self.peepholes, self.peepholes)


@dataclasses.dataclass(frozen=True, eq=False)  # compared, and hashed, by identity
class VideoModel:
    """One model in its functional forms; all share the same layers and weights.

    D is the size of a flattened frame, T the number of frames read, and S the number of frames
    predicted, which can be any. Reconstructions are in REVERSED order: v_T, .., v_1.

    Attributes:
        kind: a key of `KINDS`. outputs: the names of its decoders, `KINDS[kind]`.
        encoder: frames (B, T, D) -> the representation, the states of every layer in turn,
            (B, units) each: [h, c] for an LSTM.
        decoders: name -> functional model {"states": .., "clock": (B, S)} -> frames (B, S, D),
            free-running. Only the length S of the clock is used.
        training: {"past": (B, T, D), "future": (B, S, D)} -> {"reconstruction": (B, T, D),
            "future": (B, S, D)}, for the decoders that the model has, before the non-linearity;
            conditional decoders read the frames that `conditional_input` selects.
        teacher_forced: like `training`, but conditional decoders always read the true frames.
        free_running: {"past": (B, T, D), "clock": (B, S)} -> the same keys, still before the
            non-linearity; conditional decoders read their own frames.
        inference: `free_running` after the non-linearity: frames.
        decoder_layers: name -> `Decoder`.
        conditional_input: "truth" or "own", see `build`.
        frame_scale: the layer that divides frames when the model reads them and multiplies its
            predictions; None in a model that does not scale frames.
    """

    kind: str
    encoder: keras.Model
    decoders: dict[str, keras.Model]
    training: keras.Model
    teacher_forced: keras.Model
    free_running: keras.Model
    inference: keras.Model
    decoder_layers: dict[str, Decoder]
    conditional_input: str
    frame_scale: FrameScale | None = None

    @property
    def network(self) -> keras.Model:
        """The network that is trained and has all weights: `training`."""
        return self.training

    @property
    def cells(self) -> list[RecurrentLayer]:
        """The encoder's recurrent layers, bottom first."""
        return [layer for layer in self.encoder.layers if isinstance(layer, RecurrentLayer)]

    def encode(self, frames) -> list:
        """Returns the states of `encoder` as a list, also a single one, which Keras unpacks."""
        states = self.encoder(frames)
        return list(states) if isinstance(states, list | tuple) else [states]

    def read(self, frames):
        """Returns frames divided by the scale, as encoder and decoders read them."""
        return self.frame_scale(frames) if self.frame_scale else frames

    @property
    def decoder_outputs(self) -> dict[str, outputs.Output]:
        """Name of each decoder -> its output, with its activation and its loss."""
        layers = self.decoder_layers
        return {name: outputs.get(layer.output_name) for name, layer in layers.items()}

    @property
    def limits(self) -> tuple[float, float]:
        """(low, high), the range of values that frames may have for the losses of all decoders."""
        lows, highs = zip(*(output.limits for output in self.decoder_outputs.values()), strict=True)
        return max(lows), min(highs)

    def frame_losses(self, targets: Mapping, x: Mapping) -> dict:
        """Returns the loss per frame of each decoder.

        Args:
            targets: name -> frames (.., D). x: name -> pre-activations (.., D), for some or all
                decoders.

        Returns:
            name -> losses (..), sums over D, for every name in `x`.
        """
        return {name: self.decoder_outputs[name].frame_losses(targets[name], x[name]) for name in x}

    def start_at(self, mean_frame: np.ndarray, scale: float = 1.0) -> None:
        """Sets the output bias of every decoder so that training starts from this frame.

        Args:
            mean_frame: (D,). scale: the value of the frame scale.
        """
        for name, decoder in self.decoder_layers.items():
            decoder.bias.assign(self.decoder_outputs[name].bias(mean_frame / scale))

    def blur_pixel_kernels(self, frame_shape: tuple[int, ...], sigma: float) -> None:
        """Blurs, over the grid of pixels, every kernel that reads or writes frames.

        White noise puts most of a kernel's norm into spatial frequencies that no video has; a
        blurred kernel starts with features of the size of strokes. Each feature, the weights
        between one unit or gate and all pixels, keeps its norm. A feature that the blur turns into
        zeros does not change.

        Args:
            frame_shape: (H, W) or (H, W, C); channels are blurred separately.
            sigma: standard deviation of the Gaussian, in pixels; 0 means no blur.
        """
        if not sigma:
            return
        stddev = (0, sigma, sigma) + (0,) * (len(frame_shape) - 2)

        def blurred(features):  # (N, D)
            grids = features.reshape(-1, *frame_shape)
            smooth = ndimage.gaussian_filter(grids, stddev).reshape(features.shape)
            norm, smooth_norm = (
                np.linalg.norm(x, axis=1, keepdims=True) for x in (features, smooth)
            )
            kept = smooth_norm > 0
            return np.where(kept, smooth * (norm / np.where(kept, smooth_norm, 1)), features)

        for kernel in (self.cells[0].kernel, *self._conditional_kernels):
            kernel.assign(blurred(kernel.numpy().T).T)
        for decoder in self.decoder_layers.values():
            decoder.kernel.assign(blurred(decoder.kernel.numpy()))

    def zero_conditional_kernels(self) -> None:
        """Sets to 0 the kernels with which conditional decoders read their previous frame.

        Such a decoder predicts what an unconditional one with its other weights would.
        """
        for kernel in self._conditional_kernels:
            kernel.assign(np.zeros(kernel.shape, kernel.dtype))

    @property
    def _conditional_kernels(self):
        return [self.decoder_layers[name].cells[0].kernel for name in self.conditional]

    @property
    def outputs(self) -> tuple[str, ...]:
        return KINDS[self.kind]

    @property
    def conditional(self) -> tuple[str, ...]:
        """Names of the decoders that read their previous frame."""
        return tuple(name for name in self.outputs if self.decoder_layers[name].conditional)


def recurrent_stack(
    name: str,
    layers: int,
    units: int,
    initialization: Initialization,
    cell: str = "lstm",
    use_peepholes: bool = True,
    gemm_dtype: str | None = None,
) -> list[RecurrentLayer]:
    """Builds layers of one of `cells.CELLS`, named NAME_CELL_1, .., bottom first.

    A cell without peepholes ignores `use_peepholes`.
    """
    kind = cells.get(cell)

    def layer(number):
        options = dict(
            forget_bias=initialization.forget_bias,
            kernel_initializer=initialization.kernel_initializer(),
            recurrent_initializer=initialization.kernel_initializer(),
        )
        if kind.has_peepholes:
            options |= dict(
                use_peepholes=use_peepholes,
                peephole_initializer=initialization.peephole_initializer(),
            )
        return kind(units, gemm_dtype=gemm_dtype, name=f"{name}_{cell}_{number}", **options)

    return [layer(k + 1) for k in range(layers)]


def decoders_of(kind: str) -> tuple[str, ...]:
    """Returns the names of the decoders of a kind. Raises ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of model {kind!r}: one of {', '.join(KINDS)}")
    return KINDS[kind]


def output_names(model: Mapping) -> dict[str, str]:
    """Returns decoder -> name of its output: its own if it has one, else that of all decoders.

    Args:
        model: the fields "kind", "output" and, where present, "output_reconstruction" and
            "output_future" of a config's `model`.
    """
    decoders = decoders_of(model["kind"])
    return {name: model.get(f"output_{name}") or model["output"] for name in decoders}


def decoder_outputs(model: Mapping) -> dict[str, outputs.Output]:
    """Returns decoder -> its output, for a `model` as in `output_names`.

    Raises ValueError for an unknown output.
    """
    return {name: outputs.get(output) for name, output in output_names(model).items()}


def build(
    kind: str = "composite",
    frame_dim: int = 4096,
    units: int = 2048,
    layers: int = 1,
    conditional_reconstruction: bool = False,
    conditional_future: bool = False,
    conditional_input: str = "truth",
    output: str = "logistic",
    output_reconstruction: str = "",
    output_future: str = "",
    cell: str = "lstm",
    use_peepholes: bool = True,
    frame_scaling: bool = False,
    initialization: Initialization = Initialization(),
    gemm_dtype: str | None = None,
) -> VideoModel:
    """Builds a model of the paper.

    Args:
        kind: "autoencoder", "future_predictor" or "composite".
        frame_dim: D. units: size of every recurrent layer. layers: number of recurrent layers in
            the encoder and in each decoder.
        conditional_reconstruction, conditional_future: whether that decoder reads its previous
            frame.
        conditional_input: the previous frame that conditional decoders read in training. "truth":
            the true one (teacher forcing, the paper's text). "own": the one that the decoder wrote,
            as in use; the gradient passes through these frames. Unconditional decoders ignore it.
        output: the output of the decoders, a name in `outputs.OUTPUTS`: "logistic" (cross entropy),
            "linear" or "relu" (squared loss).
        output_reconstruction, output_future: the output of that decoder; "" means `output`.
        cell: the cell of all recurrent layers, a name in `cells.CELLS`: "lstm" or "gru".
        use_peepholes: False builds ordinary LSTMs; a GRU has no peepholes.
        frame_scaling: adds a `FrameScale`, which starts at 1, to the model. Frames and losses keep
            the units of the data.
        initialization: distributions of the initial weights; `keras.utils.set_random_seed` sets
            their seed.
        gemm_dtype: "bfloat16" runs the matrix products in bfloat16 and all else in float32.

    Raises:
        ValueError: the kind, an output or the cell is unknown; a size is below 1; an argument is
            for a decoder that the kind does not have; `frame_scaling` is set for an output with a
            largest value.
    """
    decoders_of(kind)
    if conditional_input not in CONDITIONAL_INPUTS:
        raise ValueError(
            f"unknown conditional_input {conditional_input!r}: one of "
            f"{', '.join(CONDITIONAL_INPUTS)}"
        )
    for name, size in {"frame_dim": frame_dim, "units": units, "layers": layers}.items():
        if size < 1:
            raise ValueError(f"model.{name} must be at least 1, got {size}")
    conditional = {"reconstruction": conditional_reconstruction, "future": conditional_future}
    own_output = {"reconstruction": output_reconstruction, "future": output_future}
    for name in conditional.keys() - KINDS[kind]:
        for field, by_decoder in (("conditional", conditional), ("output", own_output)):
            if by_decoder[name]:
                raise ValueError(f"{field}_{name} is set, but a {kind} has no such decoder")
    names = {decoder: own_output[decoder] or output for decoder in KINDS[kind]}
    for name in names.values():
        if frame_scaling and not outputs.get(name).is_homogeneous:
            raise ValueError(
                "frame_scaling needs outputs that scale with their input, such as linear and relu, "
                f"and {name} does not"
            )

    def stack(name):
        return recurrent_stack(name, layers, units, initialization, cell, use_peepholes, gemm_dtype)

    scale = FrameScale(name="frame_scale") if frame_scaling else None

    def read(frames):
        return scale(frames) if scale else frames

    def written(x):
        return scale(x, inverse=True) if scale else x

    frames = keras.Input((None, frame_dim), name="frames")
    x, states = read(frames), []
    for layer in (encoder_layers := stack("encoder")):
        x, *state = layer(x)
        states += state
    encoder = keras.Model(frames, states, name="encoder")

    decoder_layers, decoders = {}, {}
    for name in KINDS[kind]:
        decoder = decoder_layers[name] = Decoder(
            stack(name),
            frame_dim,
            conditional[name],
            names[name],
            initialization.kernel_initializer(),
            name=f"{name}_decoder",
        )
        inputs = {
            "states": [
                keras.Input((size,), name=state)
                for state, size in cells.state_sizes(encoder_layers).items()
            ],
            "clock": keras.Input((None,), name="clock"),
        }
        decoders[name] = keras.Model(
            inputs,
            decoder.activate(written(decoder(inputs["states"], clock=inputs["clock"]))),
            name=name,
        )

    past = keras.Input((None, frame_dim), name="past")
    future = keras.Input((None, frame_dim), name="future")
    clock = keras.Input((None,), name="clock")
    states = encoder(past)
    targets = {"reconstruction": ops.flip(past, axis=1), "future": future}
    clocks = {"reconstruction": past[:, :, 0], "future": clock}
    pre_activations = {
        name: written(decoder(states, clock=clocks[name]))
        for name, decoder in decoder_layers.items()
    }

    def training_form(name, conditional_input):
        def decode(part, decoder):
            teacher = None
            if decoder.conditional and conditional_input == "truth":
                teacher = read(targets[part])
            return written(decoder(states, clock=targets[part], teacher=teacher))

        return keras.Model(
            {"past": past, "future": future},
            {part: decode(part, decoder) for part, decoder in decoder_layers.items()},
            name=name,
        )

    teacher_forced = training_form("teacher_forced", "truth")
    training = training_form("training", conditional_input)
    free_running = keras.Model({"past": past, "clock": clock}, pre_activations, name="free_running")
    inference = keras.Model(
        {"past": past, "clock": clock},
        {name: decoder_layers[name].activate(x) for name, x in pre_activations.items()},
        name="inference",
    )
    return VideoModel(
        kind,
        encoder,
        decoders,
        training,
        teacher_forced,
        free_running,
        inference,
        decoder_layers,
        conditional_input,
        scale,
    )
