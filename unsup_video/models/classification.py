"""The classification of whole videos from their windows (the paper's section 3.3)."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from unsup_video.models.classifiers import Classifier


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Probabilities of N videos, from M blocks of them, over K classes.

    Attributes:
        probabilities: (N, K) float64, those of each video: the mean over its blocks.
        blocks: (M, K) float64, those of each block: the mean over its steps. videos: (M,) int64,
            the video of each block. firsts: (M,) int64, the index of its first frame.
        steps: (M, T, K) float32, those of every step; nan after the end of a shorter block.
    """

    probabilities: np.ndarray
    blocks: np.ndarray
    videos: np.ndarray
    firsts: np.ndarray
    steps: np.ndarray

    def figures(self, labels: np.ndarray) -> dict[str, float]:
        """Scores the probabilities against the labels of the videos, (N,).

        Returns:
            "video_cross_entropy", in nats; "video_accuracy" and "window_accuracy", the shares of
            videos and of blocks whose most probable class is the label, in %.
        """
        right = self.probabilities[np.arange(len(labels)), labels]
        return {
            "video_cross_entropy": float(-np.log(np.maximum(right, 1e-12)).mean()),
            "video_accuracy": 100 * float((self.probabilities.argmax(1) == labels).mean()),
            "window_accuracy": 100 * float((self.blocks.argmax(1) == labels[self.videos]).mean()),
        }


def error(figures: dict[str, float]) -> float:
    """Returns the error of whole videos, in %; the cross entropy decides between equal ones.

    Args:
        figures: of `Predictions.figures`.
    """
    return 100 - figures["video_accuracy"] + figures["video_cross_entropy"] / 1000


def video_means(blocks: np.ndarray, videos: np.ndarray, count: int) -> np.ndarray:
    """Returns the mean of each video's blocks, (count, K) float64.

    Args:
        blocks: (M, K). videos: (M,) int, the video of each block. count: the number of videos.
    """
    sums = np.zeros((count, blocks.shape[1]))
    np.add.at(sums, videos, blocks)
    return sums / np.bincount(videos, minlength=count)[:, None]


def classify(
    classifier: Classifier, blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], count: int
) -> Predictions:
    """Classifies `count` videos from their blocks, which `LabelledVideos.blocks` yields."""
    return predictions(list(steps(classifier, blocks)), count)


def steps(
    classifier: Classifier, blocks: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """Yields {"steps": (B, T, K) float32, "videos": (B,), "firsts": (B,)} of batches of blocks."""
    run = _softmax(classifier)
    for frames, videos, firsts in blocks:
        yield {"steps": run(frames), "videos": videos, "firsts": firsts}


def predictions(batches: Sequence[dict[str, np.ndarray]], count: int) -> Predictions:
    """Puts the results of `steps` for all blocks of `count` videos together."""
    steps, videos, firsts = ([batch[k] for batch in batches] for k in ("steps", "videos", "firsts"))
    longest = max(batch.shape[1] for batch in steps)
    means = np.concatenate([batch.mean(axis=1, dtype=np.float64) for batch in steps])
    padded = [
        batch
        if batch.shape[1] == longest
        else np.pad(batch, ((0, 0), (0, longest - batch.shape[1]), (0, 0)), constant_values=np.nan)
        for batch in steps
    ]
    videos_of_windows = np.concatenate(videos)
    return Predictions(
        video_means(means, videos_of_windows, count),
        means,
        videos_of_windows,
        np.concatenate(firsts),
        np.concatenate(padded),
    )


@functools.lru_cache(maxsize=2)
def _softmax(classifier):
    import tensorflow as tf  # the rest of this module runs without it

    @tf.function(reduce_retracing=True, autograph=False)
    def run(frames):
        return tf.nn.softmax(classifier.network(frames, training=False))

    return lambda frames: run(tf.constant(frames)).numpy()
