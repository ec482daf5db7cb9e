"""The temporal-stream CNN, which predicts the class of a video from a stack of optical flow.

Simonyan & Zisserman 2014, "Two-stream convolutional networks for action recognition in videos"
(arXiv 1406.2199), figure 1 and section 5: CNN-M-2048 of Chatfield et al. 2014 (arXiv 1405.3531)
with 2 L input channels for L flows, and without the second normalisation. That paper does not give
the padding, which is taken from the published configuration of CNN-M: sizes after pooling are
rounded up.
"""

import keras
from keras import ops

from unsup_video.models.layers import Dropout

PERCEPT = "fc6"  # the name of the layer, with its ReLU

_POOL, _POOL_STRIDE = 3, 2


@keras.saving.register_keras_serializable("unsup_video")
class LocalResponseNormalization(keras.layers.Layer):
    """Channel i of x becomes x_i / (2 + 1e-4 * s_i)^0.75 with s_i = x_(i-2)^2 + .. + x_(i+2)^2.

    This is section 3.3 of Krizhevsky et al. 2012, with their constants, over the channels, the last
    axis. Channels beyond the first and the last count as 0.
    """

    def call(self, x):
        channels = x.shape[-1]
        squares = ops.pad(ops.square(x), [(0, 0)] * (len(x.shape) - 1) + [(2, 2)])
        nearby = sum(squares[..., i : i + channels] for i in range(5))
        return x / ops.power(2.0 + 1e-4 * nearby, 0.75)


def build(
    *,
    channels: int,
    classes: int,
    size: int = 224,
    filters: tuple[int, ...] = (96, 256, 512, 512, 512),
    kernels: tuple[int, ...] = (7, 5, 3, 3, 3),
    strides: tuple[int, ...] = (2, 2, 1, 1, 1),
    paddings: tuple[int, ...] = (0, 1, 1, 1, 1),
    norm_after: tuple[int, ...] = (1,),
    pool_after: tuple[int, ...] = (1, 2, 5),
    full: tuple[int, ...] = (4096, 2048),
    dropout: float = 0.9,
    gemm_dtype: str = "float32",
) -> keras.Model:
    """Builds the CNN, a functional model from flows to logits.

    It takes (B, size, size, channels) float32, in pixels per frame, and returns (B, classes)
    float32.

    Args:
        filters, kernels, strides, paddings: one value for each convolution, conv1, conv2, ..; a
            padding of 1 adds one row of zeros on every side. A ReLU follows each convolution.
        norm_after, pool_after: numbers of the convolutions, from 1, after which local response
            normalisation, and then 3x3 max-pooling with a stride of 2, is applied.
        full: units of the fully connected layers, fc6, fc7, ..; a ReLU and dropout follow each.
        dropout: the fraction of the values that is dropped.
        gemm_dtype: "float32" or "bfloat16", the dtype of the convolutions and of all full layers
            except the last. Weights and logits are float32.

    Raises:
        ValueError: the numbers of filters, kernels, strides and paddings differ; `norm_after` or
            `pool_after` names a layer that does not exist; there is no full layer; the input is too
            small for the layers.
    """
    if not len(filters) == len(kernels) == len(strides) == len(paddings):
        raise ValueError(
            "filters, kernels, strides and paddings of the flow CNN have a value each for every "
            f"convolution, got {len(filters)}, {len(kernels)}, {len(strides)}, {len(paddings)}"
        )
    for number in (*norm_after, *pool_after):
        if not 1 <= number <= len(filters):
            raise ValueError(f"norm_after, pool_after: no convolution {number} of {len(filters)}")
    if not full:
        raise ValueError("full is empty: the first full layer gives the percepts")

    def check(pixels, window, name):
        if pixels < window:
            raise ValueError(
                f"an input of {size}x{size} is too small for the flow CNN: {name} looks at "
                f"{window} pixels each way, and {max(pixels, 0)} are left there"
            )

    policy = "float32" if gemm_dtype == "float32" else f"mixed_{gemm_dtype}"
    x = image = keras.Input((size, size, channels), name="flow")
    for i, (units, kernel, stride, padding) in enumerate(
        zip(filters, kernels, strides, paddings, strict=True), start=1
    ):
        if padding:
            x = keras.layers.ZeroPadding2D(padding, name=f"pad{i}")(x)
        check(x.shape[1], kernel, f"conv{i}")
        x = keras.layers.Conv2D(
            units,
            kernel,
            stride,
            activation="relu",
            kernel_initializer="he_normal",
            dtype=policy,
            name=f"conv{i}",
        )(x)
        if i in norm_after:
            x = LocalResponseNormalization(name=f"norm{i}")(x)
        if i in pool_after:
            check(x.shape[1], _POOL, f"pool{i}")
            # Pad with zeros to round up: after a ReLU they do not change a maximum.
            extra = (x.shape[1] - _POOL) % _POOL_STRIDE
            if extra:
                x = keras.layers.ZeroPadding2D(((0, extra), (0, extra)), name=f"ceil{i}")(x)
            x = keras.layers.MaxPooling2D(_POOL, _POOL_STRIDE, name=f"pool{i}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for i, units in enumerate(full, start=6):
        x = keras.layers.Dense(
            units, activation="relu", kernel_initializer="he_normal", dtype=policy, name=f"fc{i}"
        )(x)
        x = Dropout(dropout, name=f"dropout{i}")(x)
    return keras.Model(image, keras.layers.Dense(classes, name="logits")(x), name="flow_cnn")


def percepts(network: keras.Model) -> keras.Model:
    """Returns the part of a network of `build` up to the percepts, (B, full[0]) float32, >= 0."""
    return keras.Model(network.input, network.get_layer(PERCEPT).output)
