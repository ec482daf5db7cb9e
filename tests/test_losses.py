import numpy as np
import pytest
import tensorflow as tf

from unsup_video import losses


def entropy(y):
    """Entropy of grey levels read as probabilities, in nats, summed over the last axis."""
    y = np.float64(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(y > 0, -y * np.log(y), 0) + np.where(y < 1, -(1 - y) * np.log(1 - y), 0)
    return terms.sum(-1)


def test_cross_entropy_is_tensorflows_summed_over_pixels():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 10, (3, 4, 50)).astype("float32")
    y = rng.random((3, 4, 50), dtype="float32")
    expected = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=x), -1)
    np.testing.assert_allclose(losses.frame_losses("logistic", y, x), expected, rtol=1e-5)


def test_cross_entropy_stays_finite_for_huge_pre_activations():
    x = np.array([[1e4, -1e4, 1e4, -1e4]], "float32")
    y = np.array([[1.0, 0.0, 0.0, 1.0]], "float32")
    assert losses.frame_losses("logistic", y, x).numpy().tolist() == [2e4]


def test_squared_loss_by_hand():
    targets = np.array([[1.0, 2.0, 3.0]])
    predictions = np.array([[0.0, -2.0, 5.0]])
    assert float(losses.frame_losses("linear", targets, predictions)[0]) == 0.5 * (1 + 16 + 4)
    assert float(losses.frame_losses("relu", targets, predictions)[0]) == 0.5 * (1 + 4 + 4)


@pytest.mark.parametrize("output", ["logistic", "linear", "relu"])
def test_scores_of_finished_frames_equal_losses_of_pre_activations(output):
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, (2, 5, 30)).astype("float32")
    y = rng.random((2, 5, 30), dtype="float32")
    frames = {"logistic": 1 / (1 + np.exp(-np.float64(x))), "linear": x, "relu": np.maximum(x, 0)}
    np.testing.assert_allclose(
        losses.frame_scores(output, y, frames[output]), losses.frame_losses(output, y, x), rtol=1e-5
    )


def test_floors_by_hand():
    rng = np.random.default_rng(2)
    past = rng.random((3, 4, 6))
    past[:, -1] = np.round(past[:, -1])
    targets = rng.random((3, 5, 6))
    mean_frame = rng.uniform(0.1, 0.9, 6)

    def cross_entropy(y, p):
        return (-y * np.log(p) - (1 - y) * np.log(1 - p)).sum(-1).mean()

    floors = losses.floors("logistic", past, targets, mean_frame)
    assert floors["targets"] == pytest.approx(entropy(targets).mean(), rel=1e-5)
    last = np.where(past[:, -1:] > 0.5, 0.99, 0.01)
    assert floors["copy_last"] == pytest.approx(cross_entropy(targets, last))
    assert floors["mean_frame"] == pytest.approx(cross_entropy(targets, mean_frame))

    floors = losses.floors("linear", past, targets, mean_frame)
    assert floors["targets"] == 0
    squared = 0.5 * ((targets - past[:, -1:]) ** 2).sum(-1).mean()
    assert floors["copy_last"] == pytest.approx(squared)


def test_no_prediction_beats_the_entropy():
    rng = np.random.default_rng(3)
    y = rng.random((10, 20))
    for _ in range(20):
        guess = np.clip(y + rng.normal(0, 0.1, y.shape), 0.01, 0.99)
        assert (losses.frame_scores("logistic", y, guess) > entropy(y)).all()
