"""Classifiers: dropout, baselines, the softmax against numpy, and what training may change."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import labelled
from unsup_video.models import classifiers, video_models
from unsup_video.training import loop
from unsup_video.training.tasks import finetuning

RNG = np.random.default_rng(0)
X = RNG.normal(0, 1, (3, 6, 5)).astype(np.float32)
NAMES = ("a", "b", "c", "d")
LABELS = np.array([1, 3, 0])


def built(kind="lstm", seed=0, **options):
    keras.utils.set_random_seed(seed)
    return classifiers.build(NAMES, 5, kind, **{"units": 16, "frame_scaling": False, **options})


def trained_steps(classifier, config, count=3):
    """Trains for some steps on X."""
    trainer = loop.Trainer(config, finetuning.Finetuning(config, classifier, None))
    for _ in range(count):
        trainer.train_step({"frames": tf.constant(X), "label": tf.constant(LABELS)})


def arrays(classifier):
    return {v.path: v.numpy() for v in classifier.network.weights}


def test_dropout_has_a_mask_for_each_layer_and_step_and_none_through_time():
    classifier = built(dropout=0.5)
    network = classifier.network
    inside = keras.Model(
        network.inputs,
        [
            classifier.cells[0].output[0],
            network.get_layer("dropout_1").output,
            classifier.cells[1].output[0],
            network.get_layer("dropout_2").output,
        ],
    )
    h1, dropped1, h2, dropped2 = (np.asarray(a) for a in inside(X, training=True))
    reference = np.asarray(inside(X, training=False)[0])
    np.testing.assert_array_equal(h1, reference)  # nothing is dropped inside of the layer
    masks = []
    for h, dropped in ((h1, dropped1), (h2, dropped2)):
        mask = dropped != 0
        np.testing.assert_allclose(dropped[mask], 2 * h[mask], rtol=1e-6)
        assert 0.4 < mask.mean() < 0.6
        for t in range(1, X.shape[1]):
            assert (mask[:, 0] != mask[:, t]).any()  # each step has its own
        masks.append(mask)
    assert (masks[0] != masks[1]).any()  # and each layer
    again = np.asarray(inside(X, training=True)[1])
    assert ((again != 0) != masks[0]).any()


def test_inference_drops_nothing():
    classifier, plain = built(dropout=0.5, input_dropout=0.5), built(dropout=0.0)
    plain.network.set_weights(classifier.network.get_weights())
    first = np.asarray(classifier.network(X, training=False))
    np.testing.assert_array_equal(first, np.asarray(classifier.network(X, training=False)))
    np.testing.assert_allclose(first, np.asarray(plain.network(X)), rtol=0, atol=1e-6)
    assert np.abs(np.asarray(classifier.network(X, training=True)) - first).max() > 0.01


def test_a_single_frame_does_not_see_the_others():
    network = built("single_frame", dropout=0).network
    other = X.copy()
    other[:, [0, 1, 3, 4, 5]] += 1
    np.testing.assert_array_equal(network(X)[:, 2], network(other)[:, 2])
    assert np.abs(network(X)[:, 3] - network(other)[:, 3]).max() > 0.01


def test_mean_frame_is_regression_on_the_mean():
    classifier = built("mean_frame", dropout=0)
    found = np.asarray(classifier.network(X))
    expected = X.mean(1) @ classifier.head.kernel.numpy() + classifier.head.bias.numpy()
    assert found.shape == (3, 6, 4)
    for t in range(6):
        np.testing.assert_allclose(found[:, t], expected, rtol=0, atol=1e-5)


def test_state_is_regression_on_what_the_encoder_remembers():
    classifier = built("state", layers=2, dropout=0.5)
    x, states = X, []
    for lstm in classifier.cells:
        x, h, c = lstm(x)
        states += [np.asarray(h), np.asarray(c)]
    kernel, bias = classifier.head.kernel.numpy(), classifier.head.bias.numpy()
    expected = np.concatenate(states, axis=1) @ kernel + bias
    for training in (False, True):  # nothing is dropped
        found = np.asarray(classifier.network(X, training=training))
        assert found.shape == (3, 6, 4)
        for t in range(6):
            np.testing.assert_allclose(found[:, t], expected, rtol=0, atol=1e-5)
    before = arrays(classifier)
    trained_steps(classifier, labelled.a_config("nowhere"))
    changed = {name for name, a in arrays(classifier).items() if (a != before[name]).any()}
    assert changed == {"softmax/kernel", "softmax/bias"}
    assert len(before) == 2 + 2 * 4


def test_loss_and_gradient_of_softmax_regression_are_those_of_numpy():
    classifier = built("single_frame", dropout=0)
    kernel, bias = classifier.head.kernel, classifier.head.bias
    bias.assign(RNG.normal(0, 1, 4))
    with tf.GradientTape() as tape:
        loss = classifiers.step_cross_entropy(tf.constant(LABELS), classifier.network(X))
    gradients = tape.gradient(loss, [kernel.value, bias.value])

    x = np.float64(X).reshape(18, 5)
    logits = x @ kernel.numpy() + bias.numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    truth = np.eye(4)[np.repeat(LABELS, 6)]
    np.testing.assert_allclose(loss, -np.log((p * truth).sum(1)).mean(), rtol=1e-5)
    np.testing.assert_allclose(gradients[0], x.T @ (p - truth) / 18, rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradients[1], (p - truth).mean(0), rtol=0, atol=1e-6)


def pretrained(seed=7, **options):
    keras.utils.set_random_seed(seed)
    return video_models.build(
        **{
            "kind": "autoencoder",
            "frame_dim": 5,
            "units": 16,
            "layers": 2,
            "output": "linear",
            "frame_scaling": True,
            **options,
        }
    )


def test_the_encoder_is_copied_with_its_scale():
    model, classifier = pretrained(), built(frame_scaling=True)
    model.frame_scale.scale.assign(3.0)
    assert len(classifiers.copy_encoder(model, classifier)) == 9
    h = np.asarray(model.encoder(X)[2])
    top = keras.Model(classifier.network.inputs, classifier.cells[1].output[1])
    np.testing.assert_array_equal(np.asarray(top(X)), h)
    other = built(frame_scaling=True, units=8)
    with pytest.raises(ValueError, match=r"_lstm_1/kernel: \(5, 64\) in the encoder, \(5, 32"):
        classifiers.copy_encoder(model, other)
    with pytest.raises(ValueError, match=r"frame_scale/scale: \(\) in the encoder, missing here"):
        classifiers.copy_encoder(model, built())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["freeze", "encoder_factor"])
def test_a_frozen_encoder_stays_as_it_is(how):
    classifier = built(freeze=how == "freeze")
    config = labelled.a_config("nowhere")
    config.recipe.encoder_factor = 0.0 if how == "encoder_factor" else 1.0
    before = arrays(classifier)
    trained_steps(classifier, config)
    changed = {name for name, a in arrays(classifier).items() if (a != before[name]).any()}
    assert changed == {"softmax/kernel", "softmax/bias"}

    free = built()
    before = arrays(free)
    trained_steps(free, labelled.a_config("nowhere"))
    assert all((a != before[name]).any() for name, a in arrays(free).items())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "cnn"}, "unknown kind of classifier 'cnn'"),
        ({"units": 0}, "model.units must be at least 1"),
        ({"dropout": 1.0}, r"model.dropout must be in \[0, 1\)"),
        ({"kind": "single_frame", "freeze": True}, "has nothing but its softmax"),
        ({"kind": "state", "freeze": True}, "a state classifier has nothing but its softmax"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        built(**options)
    with pytest.raises(ValueError, match="at least 2 classes, got a"):
        classifiers.build(("a",), 5)
