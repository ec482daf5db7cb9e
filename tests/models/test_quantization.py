"""Exports whose kernels are in float16 or int8: what they store, compute and say."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

import command_flags
import labelled
from serving.stand_in import c_api
from unsup_video.models import quantization
from unsup_video.serving import classifier_signatures, export, signatures
from unsup_video.training import trained as trained_module
from unsup_video.utils import files

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 6, 32, 32), np.uint8)
FRAMES = np.float32(PIXELS / 255)
STATES = {name: np.full((3, 8), 0.25, np.float32) for name in ("h_1", "c_1")}
VARIABLES = "variables/variables.data-00000-of-00001"


# ---------------------------------------------------------------------- kernels


@pytest.mark.parametrize("columns", [5, 32, 70])  # less than a block, one, some and a rest
def test_neighbours_share_a_scale_and_the_error_is_at_most_half_of_it(columns):
    kernel = RNG.normal(0, 1, (7, columns)).astype(np.float32)
    kernel[:, -1] *= 1000  # spoils the block that it is in, and no other
    values, scales = quantization.quantize(kernel)
    assert values.dtype == np.int8 and values.shape == kernel.shape and abs(values).max() == 127
    assert scales.dtype == np.float32
    blocks = np.split(kernel, range(32, columns, 32), axis=1)
    most = np.stack([np.abs(block).max(axis=1) for block in blocks], axis=1)
    np.testing.assert_allclose(scales, most / 127, rtol=1e-6)

    scale = np.repeat(scales, 32, axis=1)[:, :columns]
    found = quantization.dequantize(values, scales).numpy()
    np.testing.assert_array_equal(found, values.astype(np.float32) * scale)
    error = np.abs(found.astype(np.float64) - kernel)
    assert 0 < error.max() and (error <= scale * (0.5 + 1e-4)).all()


def test_a_kernel_of_zeros_stays_one():
    parts = quantization.quantize(np.zeros((4, 3), np.float32))
    np.testing.assert_array_equal(quantization.dequantize(*parts), np.zeros((4, 3)))


def test_what_cannot_be_stored_is_an_error(model, fresh, tmp_path):
    with pytest.raises(ValueError, match="kernel_dtype 'int4': one of float32, float16, int8"):
        export.write(model, tmp_path / "saved", "int4")
    with pytest.raises(flags.IllegalFlagValueError, match=r"<float32\|float16\|int8>"):
        command("--kernel_dtype=int4")
    own = trained_module.load(fresh.path)
    kernel = own.model.encoder.get_layer("encoder_lstm_1").kernel
    kernel.assign(kernel + 1e5)
    with pytest.raises(ValueError, match="encoder_lstm_1/kernel: float16 holds no more than 65504"):
        export.write(own, tmp_path / "saved", "float16")
    assert not (tmp_path / "saved" / "1").exists()


# ---------------------------------------------------------------------- a video model


def command(*arguments):
    """Runs the command in this process, with errors as exceptions."""
    with command_flags.command("unsup_video.export") as module:
        return module.main(flags.FLAGS(["export", *map(str, arguments)]))


@pytest.fixture(scope="module")
def folder(model, run, tmp_path_factory):
    """Of versions 1 float32, 2 float16, 3 int8, of a composite with a conditional decoder."""
    out = tmp_path_factory.mktemp("saved_models") / "tiny"
    export.write(model, out)
    export.write(model, out, "float16")
    assert command(f"--workdir={run}", f"--out={out}", "--kernel_dtype=int8") == 0
    return out


@pytest.fixture(scope="module", params=["float16", "int8"])
def saved(request, folder):
    """What is loaded of an export in that dtype."""
    version = folder / str(1 + quantization.DTYPES.index(request.param))
    return trained_module.load(version, "float32")  # on every machine, as what is served


@pytest.fixture(scope="module")
def int8(folder):
    return trained_module.load(folder / "3", "float32")


def arrays(trained):
    return {v.path: v.numpy() for v in trained.model.network.weights}


def split(weights):
    """(kernels, all other weights)."""
    kernels = {path: array for path, array in weights.items() if path.endswith("kernel")}
    return kernels, {path: array for path, array in weights.items() if path not in kernels}


def test_files_are_a_half_and_little_more_than_a_quarter(model, folder):
    kernels, _ = split(arrays(model))
    count = sum(kernel.size for kernel in kernels.values())
    assert count > 80_000
    sizes = [(folder / str(version) / VARIABLES).stat().st_size for version in (1, 2, 3)]
    assert sizes[0] > 4 * count
    assert sizes[0] - sizes[1] == pytest.approx(2 * count, rel=0.01)
    # In int8 every 32 weights, or fewer at the end of a row, have 4 bytes besides their own.
    assert all(kernel.shape[1] % 32 == 0 for kernel in kernels.values())
    assert sizes[0] - sizes[2] == pytest.approx((3 - 4 / 32) * count, rel=0.01)
    programs = [(folder / str(version) / "saved_model.pb").stat().st_size for version in (1, 2, 3)]
    assert max(programs) < programs[0] + 100_000  # no kernel is in them


def test_the_loaded_weights_are_those_that_are_stored(model, saved):
    kernels, others = split(arrays(model))
    found_kernels, found_others = split(arrays(saved))
    assert len(kernels) == 7 and kernels.keys() == found_kernels.keys()
    for path, array in others.items():
        np.testing.assert_array_equal(found_others[path], array)
    for path, kernel in kernels.items():
        found = found_kernels[path]
        assert found.dtype == np.float32 and (found != kernel).any()
        if saved.kernel_dtype == "float16":
            np.testing.assert_array_equal(found, kernel.astype(np.float16).astype(np.float32))
            continue
        most = np.abs(kernel.reshape(-1, 32)).max(axis=1, keepdims=True)
        assert (np.abs(found - kernel).reshape(-1, 32) <= most / 254 * (1 + 1e-4)).all()


def expected(saved):
    """The signatures of the model in Python, with the weights that were loaded."""
    if saved.classes:
        return classifier_signatures.build(saved.model, saved.frame_shape)
    return signatures.build(saved.model, saved.frame_shape, saved.config.data.frames_out)


def requests(names):
    inputs = {
        "step": {"frame": FRAMES[:, 0], **STATES},
        "predict_future": {"frames": FRAMES, "steps": np.array([2, 5, 1], np.int32)},
    }
    found = {name: inputs.get(name, {"frames": FRAMES}) for name in names if "_uint8" not in name}
    return found | {
        f"{name}_uint8": {
            key: (value * 255).round().astype(np.uint8) if "frame" in key else value
            for key, value in given.items()
        }
        for name, given in found.items()
    }


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)


def call(function, inputs):
    return function(**{name: tf.constant(value) for name, value in inputs.items()})


@pytest.fixture(scope="module")
def wanted(int8):
    """Signature -> outputs, for `requests`, with the weights that were loaded."""
    functions = expected(int8)
    return {name: call(functions[name], inputs) for name, inputs in requests(functions).items()}


def default(trained):
    """What `serving_default` should give for `FRAMES`, by the model in Python."""
    past = {"past": FRAMES.reshape(3, 6, 1024), "clock": np.zeros((3, 3), np.float32)}
    return {
        name: x.numpy().reshape(3, -1, 32, 32) for name, x in trained.model.inference(past).items()
    }


def test_what_is_served_computes_with_the_stored_weights(run, saved):
    found = tf.saved_model.load(saved.path).signatures["serving_default"](tf.constant(FRAMES))
    assert_close(found, default(saved))
    own = default(trained_module.load(run, "float32"))
    assert np.abs(found["future"] - own["future"]).max() > 1e-5


def test_every_signature_does(int8, wanted):
    served = tf.saved_model.load(int8.path).signatures
    assert served.keys() == wanted.keys() and len(wanted) == 10
    for name, inputs in requests(served).items():
        assert_close(call(served[name], inputs), wanted[name])


def test_the_c_api_runs_it_as_it_is(int8, wanted):
    session = c_api.Session(int8.path)
    try:
        for name, inputs in requests(wanted).items():
            protos = {key: tf.make_tensor_proto(value) for key, value in inputs.items()}
            assert_close(session.run(name, protos), wanted[name])
    finally:
        session.close()


def test_kernels_are_made_once_a_call_and_not_once_a_step(folder):
    program = (folder / "3" / "saved_model.pb").read_bytes()
    graph = saved_model_pb2.SavedModel.FromString(program).meta_graphs[0].graph_def
    makes = {
        function.signature.name: sum(
            node.op == "Cast" and node.attr["SrcT"].type == types_pb2.DT_INT8
            for node in function.node_def
        )
        for function in graph.library.function
    }
    loops = [count for name, count in makes.items() if "while" in name]
    assert loops and not any(loops) and any(makes.values())


def test_the_card_says_what_the_storage_changes(model, saved):
    card = json.loads((saved.path / "model_card.json").read_text())
    assert card["kernel_dtype"] == saved.kernel_dtype and card["sha256"] == model.sha256
    before, after = arrays(model), arrays(saved)
    error = max(np.abs(before[path] - after[path]).max() for path in before)
    assert card["kernel_error"] == pytest.approx(error)
    output = card["output_error"]
    assert output["clips"] == "10 clips of the validation data"
    assert 0 < output["mean"] < output["largest"] < 0.1
    text = (saved.path / "README.md").read_text()
    assert f"**Storage**: kernels in {saved.kernel_dtype}, all other weights in float32." in text
    assert f"changes a weight by at most {error:.2g}," in text


def test_its_weights_are_told_from_those_of_the_run(model, saved):
    assert saved.sha256 == files.sha256(saved.path / VARIABLES) != model.sha256
    assert saved.describe()["kernel_dtype"] == saved.kernel_dtype
    with pytest.raises(ValueError, match=f"kernels in {saved.kernel_dtype}: export the run"):
        export.write(saved, saved.path.parent)


def test_training_exports_the_weights_of_its_run(model, folder, tmp_path):
    shutil.copytree(folder / "3", tmp_path / "export" / "3")
    version = export.write_once(model, tmp_path / "export")
    assert version.name == "4" and trained_module.load(version).kernel_dtype == "float32"
    assert export.write_once(model, tmp_path / "export") == version


def test_float32_is_stored_as_it_always_was(model, folder, tmp_path):
    reader = tf.train.load_checkpoint(str(folder / "1" / "variables" / "variables"))
    stored = {key.partition("/")[0]: None for key in reader.get_variable_to_shape_map()}
    assert stored.keys() == {"weights", "_CHECKPOINTABLE_OBJECT_GRAPH"}
    # An export from before kernels had a dtype.
    old = tmp_path / "1"
    shutil.copytree(folder / "1", old)
    card = json.loads((old / "model_card.json").read_text())
    assert card.pop("kernel_dtype") == "float32" and "kernel_error" not in card
    (old / "model_card.json").write_text(json.dumps(card))
    sums = old / "assets.extra" / "sha256sums.txt"
    recorded = files.sha256(folder / "1" / "model_card.json")
    sums.write_text(sums.read_text().replace(recorded, files.sha256(old / "model_card.json")))
    loaded = trained_module.load(old)
    assert loaded.kernel_dtype == "float32" and loaded.sha256 == model.sha256
    for path, array in arrays(model).items():
        np.testing.assert_array_equal(arrays(loaded)[path], array)


# ---------------------------------------------------------------------- a classifier


def test_a_classifier(tmp_path):
    data = labelled.write(tmp_path / "percepts", labelled.videos())
    run = labelled.untrained(labelled.a_config(data, layers=2), tmp_path / "run")
    saved = trained_module.load(export.write(run, tmp_path / "saved", "int8"), "float32")
    assert saved.classes == run.classes
    before, after = split(arrays(run))[0], split(arrays(saved))[0]
    assert len(before) == 5 and all((before[path] != after[path]).any() for path in before)

    clips = RNG.random((2, 4, labelled.DIM)).astype(np.float32)
    states = {f"{state}_{k}": np.full((2, 5), 0.25, np.float32) for k in (1, 2) for state in "hc"}
    functions, served = expected(saved), tf.saved_model.load(saved.path).signatures
    assert functions.keys() == served.keys() == {"serving_default", "classify", "encode", "step"}
    for name in served:
        inputs = {"frame": clips[:, 0], **states} if name == "step" else {"frames": clips}
        found, wanted = call(served[name], inputs), call(functions[name], inputs)
        for text in ("classes", "label"):
            if text in wanted:
                np.testing.assert_array_equal(found.pop(text), wanted.pop(text))
        assert_close(found, wanted)

    card = json.loads((saved.path / "model_card.json").read_text())
    assert card["output_error"]["clips"] == "6 clips of the validation data"  # all that it has
    shutil.rmtree(data)
    without = export.write(run, tmp_path / "saved", "int8")
    card = json.loads((without / "model_card.json").read_text())
    assert card["output_error"]["clips"].startswith("10 clips of noise, since the validation data")
    assert 0 < card["output_error"]["largest"] < 0.1
