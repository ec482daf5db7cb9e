"""TensorBoard event files."""

import functools
import io
import os
import re

import tensorflow as tf
from PIL import Image


def naming_the_folder(method):
    """Decorates a method of an object with a `logdir` to raise an OSError that names the folder.

    TensorFlow raises errors of its own where writing fails, for example on a full disk.
    """

    @functools.wraps(method)
    def checked(self, *arguments):
        try:
            return method(self, *arguments)
        except tf.errors.OpError as error:
            reason = re.sub(
                r"^\{\{.*?\}\} ?", "", error.message.splitlines()[0]
            )  # without the node
            raise OSError(f"{self.logdir}: cannot be written ({reason})") from None

    return checked


class TensorBoard:
    """Writes the scalars and animations of a run for `tensorboard --logdir`."""

    def __init__(self, logdir: str | os.PathLike):
        self.logdir = os.fspath(logdir)
        self._writer = tf.summary.create_file_writer(self.logdir)

    @naming_the_folder
    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a point to each named curve."""
        with self._writer.as_default(step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    @naming_the_folder
    def animation(self, step: int, name: str, gif: bytes) -> None:
        """Adds an animation: TensorBoard shows the bytes of a GIF unchanged."""
        width, height = Image.open(io.BytesIO(gif)).size
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
        )
        with self._writer.as_default(step):
            tf.summary.write(
                name, tf.constant([str(width), str(height), gif]), step=step, metadata=metadata
            )

    @naming_the_folder
    def close(self) -> None:
        """Writes everything that is still in memory."""
        self._writer.close()
