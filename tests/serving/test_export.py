"""Exported models: what they compute, what they refuse, and that evaluations take them."""

import dataclasses
import html
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

import commands
from unsup_video.evaluation import (
    features,
    future_prediction,
    long_range,
    out_of_domain,
    results,
    testset,
)
from unsup_video.models import video_models
from unsup_video.report import page, report
from unsup_video.serving import export, model_card, signature_parts, signatures
from unsup_video.training import experiment
from unsup_video.training import trained as trained_module
from unsup_video.utils import files

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 6, 32, 32), np.uint8)  # 6 frames, of a model trained to read 4
FRAMES = np.float32(PIXELS / 255)
STEPS = np.array([2, 5, 1], np.int32)
UNITS = 8


def states(value=0.0, clips=3):
    return {name: np.full((clips, UNITS), value, np.float32) for name in ("h_1", "c_1")}


REQUESTS = {
    "serving_default": {"frames": FRAMES},
    "encode": {"frames": FRAMES},
    "reconstruct": {"frames": FRAMES},
    "predict_future": {"frames": FRAMES, "steps": STEPS},
    "step": {"frame": FRAMES[:, 0], **states(0.25)},
}

# Loads a SavedModel, runs what is asked for, and streams; in a process without the project.
CLIENT = """
import sys
sys.modules.update(dict.fromkeys(["unsup_video", "train", "eval", "data_prep"]))
import numpy as np
import tensorflow as tf
try:
    import unsup_video
except ImportError:
    pass
else:
    raise SystemExit("the project can be imported")
model, requests, answers = sys.argv[1:]
signatures = tf.saved_model.load(model).signatures
given, found = {}, {}
for name, value in np.load(requests).items():
    signature, _, argument = name.partition(" ")
    given.setdefault(signature, {})[argument] = tf.constant(value)
assert given.keys() == signatures.keys(), (given.keys(), signatures.keys())
for signature, arguments in given.items():
    for name, value in signatures[signature](**arguments).items():
        found[f"{signature} {name}"] = value.numpy()
state = {name: tf.zeros_like(given["step"][name]) for name in ("h_1", "c_1")}
for frame in tf.unstack(given["encode"]["frames"], axis=1):
    state = signatures["step"](frame=frame, **state)
    next_frame = state.pop("next_frame")
found |= {f"stream {name}": value.numpy() for name, value in state.items()}
found["stream next_frame"] = next_frame.numpy()
np.savez(answers, **found)
"""


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """(the version's folder, what the command printed)."""
    out = tmp_path_factory.mktemp("saved_models") / "tiny"
    done = commands.run("unsup_video.export", f"--workdir={run}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out / "1", done.stdout


@pytest.fixture(scope="module")
def answers(exported, tmp_path_factory):
    """ "SIGNATURE OUTPUT" -> array, from a process that cannot import the project."""
    folder = tmp_path_factory.mktemp("client")
    asked = {}
    for signature, arguments in REQUESTS.items():
        for name, value in arguments.items():
            pixels = (value * 255).round().astype(np.uint8) if "frame" in name else value
            asked |= {f"{signature} {name}": value, f"{signature}_uint8 {name}": pixels}
    np.savez(folder / "requests.npz", **asked)
    (folder / "empty").mkdir()
    arguments = [str(exported[0].resolve()), "../requests.npz", "../answers.npz"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLIENT, *arguments],
        cwd=folder / "empty",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "answers.npz"))


@pytest.fixture(scope="module")
def reference(model):
    """The Python model, with matrix products in float32 on every machine."""
    config = type(model.config)({**model.config.to_dict(), "precision": "float32"})
    built = experiment.build_model(config, model.frame_shape, model.mean_frame)
    built.training.set_weights(model.model.training.get_weights())
    return built


def assert_close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def pictures(x):
    return np.asarray(x).reshape(*x.shape[:-1], 32, 32)


FLAT = FRAMES.reshape(3, 6, 1024)


def decode(reference, name, steps):
    clock = tf.zeros((3, steps))
    decoder = reference.decoders[name]
    return pictures(decoder({"states": reference.encoder(FLAT), "clock": clock}))


# ---------------------------------------------------------------------- what it computes


@pytest.mark.slow
def test_encode_is_the_representation(answers, reference):
    h, c = reference.encoder(FLAT)
    assert np.abs(h).max() > 0.01
    assert_close(answers["encode h_1"], h)
    assert_close(answers["encode c_1"], c)


@pytest.mark.slow
def test_reconstruct_decodes_what_was_read(answers, reference):
    expected = decode(reference, "reconstruction", 6)
    assert expected.std() > 1e-3
    assert_close(answers["reconstruct reconstruction"], expected)


@pytest.mark.slow
def test_every_row_of_predict_future_is_that_of_a_request_of_its_own(answers, reference):
    future = answers["predict_future future"]
    assert future.shape == (3, 5, 32, 32)
    for i, steps in enumerate(STEPS):
        assert_close(future[i, :steps], decode(reference, "future", int(steps))[i])


@pytest.mark.slow
def test_the_default_is_what_the_model_was_trained_for(answers, reference):
    past = {"past": FLAT, "clock": np.zeros((3, 3), np.float32)}
    for name, expected in reference.inference(past).items():
        assert_close(answers[f"serving_default {name}"], pictures(expected))


@pytest.mark.slow
def test_step_streams_what_encode_reads_at_once(answers, reference):
    for name in ("h_1", "c_1"):
        assert_close(answers[f"stream {name}"], answers[f"encode {name}"])
    assert_close(answers["stream next_frame"], decode(reference, "future", 1)[:, 0])
    # From a state that is not zero: the layer's own step.
    lstm = reference.encoder.get_layer("encoder_lstm_1")
    h, c = lstm.step(FLAT[:, 0], list(states(0.25).values()))
    assert_close(answers["step h_1"], h)
    assert_close(answers["step c_1"], c)


@pytest.mark.slow
def test_pixels_are_scaled_inside(answers):
    compared = [name for name in answers if name.split(" ")[0] in REQUESTS]
    assert len(compared) == 9
    for name in compared:
        signature, output = name.split(" ")
        assert_close(answers[f"{signature}_uint8 {output}"], answers[name])


def test_models_have_the_signatures_of_what_they_decode():
    def built(frame_shape, **options):
        model = video_models.build(frame_dim=int(np.prod(frame_shape)), units=3, **options)
        return signatures.build(model, frame_shape, 2)

    found = built((6,), kind="autoencoder", layers=2, output="linear")
    assert found.keys() == {"serving_default", "encode", "reconstruct"}  # percepts are no pixels
    percepts = tf.constant(RNG.normal(0, 50, (2, 3, 6)), tf.float32)
    assert {name: x.shape for name, x in found["encode"](percepts).items()} == dict.fromkeys(
        ("h_1", "c_1", "h_2", "c_2"), (2, 3)
    )
    assert found["reconstruct"](percepts)["reconstruction"].shape == (2, 3, 6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="frames must be finite"):
        found["encode"](percepts / 0)

    found = built((4, 4, 3), kind="future_predictor")
    assert found.keys() == {
        name + end
        for name in ("serving_default", "encode", "predict_future", "step")
        for end in ("", "_uint8")
    }
    assert found["serving_default"](tf.zeros((1, 1, 4, 4, 3)))["future"].shape == (1, 2, 4, 4, 3)


# ---------------------------------------------------------------------- as a server sees it


@pytest.fixture(scope="module")
def server(exported):
    """A function (signature, inputs) -> outputs, by the session that a server runs.

    It holds no input to the signature's shape, unlike Python's own functions.
    """
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(exported[0]))

    def call(signature, inputs):
        found = loaded.signature_def[signature]
        options = config_pb2.CallableOptions(
            feed=[found.inputs[name].name for name in inputs],
            fetch=[output.name for output in found.outputs.values()],
        )
        run = session._make_callable_from_options(options)
        return dict(zip(found.outputs, run(*inputs.values()), strict=True))

    yield call
    session.close()


@pytest.mark.slow
def test_a_server_gives_the_same(server, answers):
    for signature, inputs in REQUESTS.items():
        for name, value in server(signature, inputs).items():
            assert_close(value, answers[f"{signature} {name}"])


@pytest.mark.parametrize(
    ("signature", "changed", "message"),
    [
        ("encode", {"frames": FRAMES[0]}, r"shape \(clips, frames, 32, 32\).*\[6 32 32\]"),
        ("encode", {"frames": FRAMES[..., None]}, r"\(clips, frames, 32, 32\).*\[3 6 32 32 1\]"),
        # As many numbers as there should be: they must not be taken for other frames.
        ("encode", {"frames": FRAMES.reshape(3, 6, 16, 64)}, r"frames, 32, 32\).*\[3 6 16 64\]"),
        ("encode", {"frames": FRAMES[:0]}, r"at least one of clips and frames.*\[0 6 32 32\]"),
        ("encode", {"frames": FRAMES[:, :0]}, r"at least one of clips and frames.*\[3 0 32 32\]"),
        ("reconstruct", {"frames": FRAMES * 255}, r"0\.\.1; for pixels .* _uint8"),
        ("reconstruct", {"frames": FRAMES - 0.5}, r"frames must lie in 0\.\.1"),
        ("serving_default", {"frames": FRAMES * np.nan}, "frames must be finite"),
        ("predict_future", {"steps": STEPS[:2]}, r"one number for each clip.*\[2\]"),
        ("predict_future", {"steps": np.int32(2)}, r"one number for each clip.*\[\]"),
        ("predict_future", {"steps": STEPS - 1}, r"steps must lie in 1\.\.1000.*\[1 4 0\]"),
        ("predict_future", {"steps": STEPS + 1000}, r"steps must lie in 1\.\.1000"),
        ("step", {"frame": FRAMES}, r"frame must have the shape \(clips, 32, 32\)"),
        ("step", {"c_1": states()["c_1"][:2]}, r"c_1 must .* as many clips as frame.*\[2 8\]"),
        ("step", {"h_1": states()["h_1"][:, :7]}, r"h_1 must have the shape \(clips, 8\).*\[3 7\]"),
        ("step", {"h_1": states(np.inf)["h_1"]}, "h_1 must be finite"),
        ("encode_uint8", {"frames": PIXELS[0]}, r"shape \(clips, frames, 32, 32\).*\[6 32 32\]"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason(server, signature, changed, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        server(signature, {**REQUESTS.get(signature, {}), **changed})


def test_a_server_can_join_requests_and_needs_no_xla(exported):
    card = json.loads((exported[0] / "model_card.json").read_text())
    assert card["signatures"].keys() == {name + end for name in REQUESTS for end in ("", "_uint8")}
    for described in card["signatures"].values():
        for side in described.values():
            assert side and all(tensor["shape"][0] is None for tensor in side.values())
    stored = saved_model_pb2.SavedModel.FromString((exported[0] / "saved_model.pb").read_bytes())
    functions = stored.meta_graphs[0].graph_def.library.function
    assert functions and not any(f.attr["_XlaMustCompile"].b for f in functions)
    nodes = [node for f in functions for node in f.node_def]
    assert nodes and not any(node.attr["_XlaMustCompile"].b for node in nodes)


# ---------------------------------------------------------------------- how it is stored


def listing(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_is_written_is_named_and_sums_hold(exported):
    version, output = exported
    for path in listing(version):
        assert str(path) in output
    assert f"eval.future_prediction --model={version}" in output
    done = subprocess.run(
        ["sha256sum", "-c", "assets.extra/sha256sums.txt"],
        cwd=version,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.count(": OK") == len(listing(version)) - 1
    text = (version / "README.md").read_text()
    assert "composite of 1 x 8 LSTM units" in text and "| `predict_future_uint8` |" in text


def test_an_export_has_the_name_of_its_folder_or_of_its_run():
    assert trained_module.export_name(Path("saved_models/digits/3")) == "digits"
    assert trained_module.export_name(Path("runs/quickstart/export/1")) == "quickstart"


@pytest.mark.parametrize(
    "kind, there, missing",
    [
        ("autoencoder", ["An autoencoder of", "reconstruct them", "reversed order"], "predict"),
        ("future_predictor", ["A future predictor of", "predict 3", "at most"], "reversed order"),
    ],
)
def test_a_card_says_what_its_model_can_do(exported, kind, there, missing):
    card = json.loads((exported[0] / "model_card.json").read_text())
    card["model"] |= {"kind": kind, "conditional_future": False}
    card.pop("conditional_input", None)
    card["signatures"] = {}
    text = model_card.text(card)
    assert all(part in text for part in there) and missing not in text


def test_frames_of_flow_are_no_pixels():
    """(H, W, 2) in pixels per frame: neither limited to 0..1 nor offered as uint8."""
    model = video_models.build(frame_dim=512, units=2, output="linear")
    assert trained_module.value_limits((16, 16, 2), model) == (-np.inf, np.inf)
    probabilities = video_models.build(frame_dim=512, units=2, output="logistic")
    assert trained_module.value_limits((512,), probabilities) == (0, 1)
    assert trained_module.value_limits((16, 32), model) == (0, 1)  # pixels, with any loss
    double = (lambda frames: {"doubled": 2 * frames}), tf.TensorSpec((None, 4, 4, 2), name="frames")
    assert set(signature_parts.build({"double": double}, (4, 4, 2))) == {"double"}


@pytest.mark.slow
def test_versions_count_up_and_nothing_is_overwritten(model, exported, tmp_path, monkeypatch):
    out = tmp_path / "tiny"
    shutil.copytree(exported[0], out / "1")
    (out / "7").mkdir()  # taken by something that is no model
    before = listing(out)
    assert export.write_once(model, out) == out / "1" and listing(out) == before
    assert export.write(model, out) == out / "8"
    assert before.items() <= listing(out).items()

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.model_card, "text", fail)
    whole = listing(out)
    with pytest.raises(OSError, match="9: cannot be written"):
        export.write(model, out)
    assert listing(out) == whole and {p.name for p in out.iterdir()} == {"1", "7", "8", ".lock"}


@pytest.mark.parametrize(
    ("of_config", "exported_in"),
    [("bfloat16", "bfloat16"), ("float32", "float32"), ("auto", "float32")],
)
def test_an_export_is_in_the_dtype_of_the_training(fresh, of_config, exported_in):
    # `trained.load` puts what run.json has into the config; auto stays where nothing was recorded.
    fresh.config.precision = of_config
    model = dataclasses.replace(fresh, model=fresh.rebuilt(fresh.config))
    portable, dtype = export._portable(model)  # what `write` writes, and says in the card
    assert dtype == exported_in and portable.cells[0].gemm_dtype == exported_in


def test_a_folder_of_something_else_is_refused(model, run, exported):
    with pytest.raises(ValueError, match="holds config.json"):
        export.write(model, run)
    with pytest.raises(ValueError, match="holds saved_model.pb"):
        export.write(model, exported[0])


# ---------------------------------------------------------------------- evaluations of it


@pytest.fixture
def saved(exported, tmp_path, monkeypatch):
    """The model as evaluations take it, in a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return trained_module.load(exported[0])


def test_what_is_loaded_is_the_trained_model(model, saved, exported):
    for a, b in zip(model.model.training.weights, saved.model.training.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    # The run did not record the dtype that auto stood for; its export does.
    assert saved.config.to_dict() == {**model.config.to_dict(), "precision": "float32"}
    assert (saved.step, saved.sha256, saved.frame_shape) == (1, model.sha256, (32, 32))
    np.testing.assert_array_equal(saved.mean_frame, model.mean_frame)
    assert saved.name == "tiny-1" and saved.flag == f"--model={exported[0]}"


def test_the_precision_is_that_of_the_export(exported, tmp_path):
    copy = tmp_path / "1"
    shutil.copytree(exported[0], copy)
    card = json.loads((copy / "model_card.json").read_text())
    assert card["gemm_dtype"] == "float32"  # that of the run is the same
    (copy / "model_card.json").write_text(json.dumps({**card, "gemm_dtype": "bfloat16"}))
    sums = copy / "assets.extra" / "sha256sums.txt"
    old, new = (files.sha256(folder / "model_card.json") for folder in (exported[0], copy))
    sums.write_text(sums.read_text().replace(old, new))
    loaded = trained_module.load(copy)
    assert loaded.model.cells[0].gemm_dtype == loaded.config.precision == "bfloat16"
    assert loaded.precision is None  # nothing that a printed command would have to ask for
    assert trained_module.load(copy, "float32").model.cells[0].gemm_dtype == "float32"


def test_the_newest_version_is_taken(exported, tmp_path):
    for version in ("2", "10"):
        shutil.copytree(exported[0], tmp_path / "run" / "export" / version)
    loaded = trained_module.load(tmp_path / "run" / "export")
    assert loaded.path.name == "10" and loaded.name == "run-10"


@pytest.mark.slow
def test_it_is_evaluated_like_the_run_and_writes_elsewhere(model, saved, exported):
    before = listing(exported[0])
    of_run, of_saved = (
        future_prediction.evaluate(
            trained,
            testset.generated(trained.config, 20),
            results.command(trained, future_prediction.KIND, {}),
        )
        for trained in (model, saved)
    )
    assert of_run.rows and len(of_run.rows) == len(of_saved.rows)
    for here, there in zip(of_run.rows, of_saved.rows, strict=True):
        # The machine may add up in another order, which depends on what else it does.
        numbers = [
            [x for x in (row.value, row.low, row.high) if x is not None] for row in (here, there)
        ]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5, abs=1e-7)
        nothing = {"value": 0.0, "low": None, "high": None}
        assert dataclasses.replace(here, **nothing) == dataclasses.replace(there, **nothing)
    found = [
        of_saved,
        out_of_domain.evaluate(saved, (1,), 4),
        long_range.evaluate(saved, steps=12, clips=2),
        features.evaluate(saved, count=4),
    ]
    for evaluation in found:
        assert f"--model={exported[0]}" in evaluation.command
        assert "--workdir" not in evaluation.command
        assert evaluation.folder.parent == Path("runs/eval-tiny-1")
    assert listing(exported[0]) == before

    evaluations = {evaluation.kind: evaluation for evaluation in found}
    runs = report.collect([saved], [evaluations])
    text = page.render(runs, "python -m eval.report", "2026-01-31T12:00:00+00:00")
    assert "tiny-1" in text
    assert html.unescape(text).count("metrics.jsonl stays in the run's folder") == 2


def test_foreign_files_do_no_harm_where_nothing_reads_them(exported, tmp_path):
    copy = tmp_path / "run-1"
    shutil.copytree(exported[0], copy)
    for name in (".DS_Store", "variables/.nfs0001", "job.log", "notes/a.txt"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("mine")
    assert trained_module.load(copy).step == 1
    (copy / "variables" / "variables.data-00000-of-00002").write_text("a shard too many")
    with pytest.raises(ValueError, match="does not list variables/variables.data-00000-of-00002"):
        trained_module.load(copy)


def test_damage_and_what_is_no_model(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a run.*nor is it a SavedModel"):
        trained_module.load(tmp_path)
    for name in ("variables/variables.data-00000-of-00001", "model_card.json", "saved_model.pb"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(exported[0], copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"damaged .the sha256 of {name}"):
            trained_module.load(copy)
    copy = tmp_path / "cut"
    shutil.copytree(exported[0], copy)
    (copy / "assets.extra" / "sha256sums.txt").write_text("")
    with pytest.raises(ValueError, match="damaged .*does not list README.md"):
        trained_module.load(copy)
    for name in ("/dev/zero", "../elsewhere", "variables", "no_such_file", "link/zero"):
        copy = tmp_path / f"lists {name.replace('/', '-')}"
        shutil.copytree(exported[0], copy)
        (copy.parent / "elsewhere").touch()
        (copy / "link").symlink_to("/dev")
        with open(copy / "assets.extra" / "sha256sums.txt", "a") as sums:
            sums.write(f"{'0' * 64}  {name}\n")
        with pytest.raises(ValueError, match=f"damaged .*lists '{name}', which is no file of this"):
            trained_module.load(copy)
    foreign = tmp_path / "foreign"
    tf.saved_model.save(tf.Module(), foreign)
    with pytest.raises(ValueError, match="without model_card.json"):
        trained_module.load(foreign)
