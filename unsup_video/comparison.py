"""Which figures of the paper, and which expected ones, a run compares with: the one place that
decides."""

import importlib
from collections.abc import Mapping

from ml_collections import ConfigDict

from unsup_video import configs, paper
from unsup_video.configs import moving_mnist_2layer, patches
from unsup_video.training import recipes

# Fields of a config that change no figure, or not what it is about.
_NO_MATTER = (
    "name", "seed", "precision", "expect.", "eval.", "train.log_every", "train.checkpoint_every",
    "train.deterministic", "data.split",
)
_DIGITS = ("data.digits_dir", "data.digits_source")
_GENERATOR = ("num_digits", "frame_size", "speed_min", "speed_max", "bounce")
_MODEL = ("units", "layers", "output", "use_peepholes")  # besides the kind and the decoders
_TABLE_2 = {"moving_mnist": moving_mnist_2layer, "patches": patches}
# Of the paper's classifiers, in tables 1 and 3.
_CLASSIFIER = {"units": 2048, "layers": 2, "use_peepholes": True}
_CLASSES = {101: "UCF-101", 51: "HMDB-51"}


def expected(config: ConfigDict) -> ConfigDict | None:
    """`config.expect`; None where there is nothing in it, or where it is not about such a run.

    A packaged config's figures are about that config: none of its fields that matter may have been
    changed. What is expected in a config of one's own is taken as it is.
    """
    if not config.expect.source:
        return None
    if config.name not in configs.names(None):
        return config.expect
    packaged = importlib.import_module(f"unsup_video.configs.{config.name}")
    recipe = config.recipe.name if config.recipe.name in recipes.RECIPES else ""  # the only one
    reference = _flat(packaged.get_config(recipe).to_dict())
    own = _flat(config.to_dict())
    # The paper has all of MNIST; figures of docs/ are of the digits that the config names.
    ignored = _NO_MATTER + (() if config.expect.source.startswith("docs/") else _DIGITS)
    for field in own.keys() | reference.keys():
        if field.startswith(ignored) or own.get(field) == reference.get(field):
            continue
        if field == "data.records" and own.get(field) and reference.get(field):
            continue  # where the same kind of data lies
        return None
    return config.expect


def _flat(fields, prefix=""):
    found = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found


def table_2(model: Mapping, tested: Mapping) -> float | None:
    """The paper's figure in Table 2 for a model, tested on such data; None where it has none.

    The paper's models have its architecture, kinds of decoders, numbers of frames and data, in
    training and in the test. The recipe may be another one.

    Args:
        model: `Trained.describe()`. tested: `testset.TestSet.description`.
    """
    kind = tested["kind"]
    if kind not in _TABLE_2 or "data" not in model:  # the latter of an earlier version
        return None
    wanted, trained_on = _TABLE_2[kind].get_config(), model["data"]
    fields = ["frames_in", "frames_out", *(() if trained_on.get("records") else _GENERATOR)]
    if kind == "moving_mnist":
        comparable = _is_the_papers_test(tested, wanted.data)
    else:
        comparable = tuple(tested["frame_shape"]) == (32, 32, 3) and bool(trained_on.get("records"))
    if (
        not comparable
        or any(trained_on.get(name) != wanted.data[name] for name in fields)
        or any(model.get(name, wanted.model[name]) != wanted.model[name] for name in _MODEL)
        or (model["kind"] == "composite" and model.get("conditional_reconstruction", False))
    ):
        return None
    return paper.table_2(kind, model["kind"], model["layers"], model["conditional_future"])


def _is_the_papers_test(tested, wanted):
    """Whether Moving MNIST is the published test file, or is generated as the paper does it."""
    source = tested.get("source", {})
    if source.get("published_test_file"):
        return True
    generator = tested.get("generator") or source.get("generator")
    if generator is None:
        return False
    low, high = generator["speed"]
    own = {**generator, "speed_min": low, "speed_max": high}
    return all(own[name] == wanted[name] for name in _GENERATOR)


def table_1(row: str, config: Mapping, classes: int, tested: Mapping) -> dict[str, float]:
    """The paper's figures in Table 1 for a classifier, by data set and percepts; {} without any.

    They are for all classes of UCF-101 or HMDB-51, on the test part of an official split, and for
    the paper's architecture and blocks. What CNN made the percepts is not known.

    Args:
        row: of `paper.TABLE_1`. config: of the run. classes: how many it names.
        tested: the `settings` of its evaluation.
    """
    data = _CLASSES.get(classes)
    if data is None or tested["part"] != "test" or not tested["split"]:
        return {}
    if not of_the_papers_classifier(config):
        return {}
    return {name: value for name, value in paper.TABLE_1.get(row, {}).items()
            if name.startswith(data)}


def of_the_papers_classifier(config: Mapping) -> bool:
    """Whether the config of a classifier, or of a study of them, has the paper's sizes."""
    model, data = config["model"], config["data"]
    sizes = {} if model["kind"] == "single_frame" else _CLASSIFIER
    blocks = (data.get("frames"), data.get("stride")) == (16, 8)
    return blocks and all(model.get(name) == value for name, value in sizes.items())
