"""TensorBoard event files."""

import io
import os

import tensorflow as tf
from PIL import Image


class TensorBoard:
    """Writes the scalars and animations of a run for `tensorboard --logdir`."""

    def __init__(self, logdir: str | os.PathLike):
        self._writer = tf.summary.create_file_writer(os.fspath(logdir))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each named curve."""
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def animation(self, step: int, name: str, gif: bytes) -> None:
        """Adds an image that moves: TensorBoard shows the bytes of a GIF as they are."""
        width, height = Image.open(io.BytesIO(gif)).size
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
        )
        with self._writer.as_default(step):
            tf.summary.write(
                name, tf.constant([str(width), str(height), gif]), step=step, metadata=metadata
            )

    def close(self) -> None:
        """Writes what is pending."""
        self._writer.close()
