"""Figures of the paper (arXiv 1502.04681v3), to compare with."""

import csv
import dataclasses
from pathlib import Path

# Table 2, 2-layer models: loss of the future, by kind of model and whether its future decoder is
# conditional.
TABLE_2 = {
    # Cross entropy, nats/frame.
    "moving_mnist": {
        ("future_predictor", False): 350.2,
        ("composite", False): 344.9,
        ("future_predictor", True): 343.5,
        ("composite", True): 341.2,
    },
    # Squared loss of 32x32 RGB patches, 16 frames -> 13. The paper does not give the range of the
    # pixels. It cannot be [0, 1]: there even the mean frame as a constant guess has a smaller loss.
    # So these figures rank the paper's models, and do not compare with any other figure.
    "patches": {
        ("future_predictor", False): 225.2,
        ("composite", False): 210.7,
        ("future_predictor", True): 221.3,
        ("composite", True): 208.1,
    },
}


def table_2(data: str, kind: str, layers: int, conditional_future: bool) -> float | None:
    """Returns the paper's figure for a model on "moving_mnist" or "patches"; None without one."""
    if layers != 2:
        return None
    return TABLE_2.get(data, {}).get((kind, conditional_future))


# Table 1: accuracy of videos in %, by classifier, then by data set and percepts. The pretrained
# model is the composite, here and in figure 12.
TABLE_1 = {
    "single frame": {"UCF-101, RGB": 72.2, "UCF-101, 1-frame flow": 72.2, "HMDB-51, RGB": 40.1},
    "LSTM": {"UCF-101, RGB": 74.5, "UCF-101, 1-frame flow": 74.3, "HMDB-51, RGB": 42.8},
    "LSTM, pretrained": {"UCF-101, RGB": 75.8, "UCF-101, 1-frame flow": 74.9, "HMDB-51, RGB": 44.1},
}

# Table 3: accuracy of videos in % after finetuning on RGB percepts, by what was pretrained. The
# small sets have 10 (UCF) and 4 (HMDB) labelled videos of each class.
_COLUMNS_3 = ("UCF-101 small", "UCF-101", "HMDB-51 small", "HMDB-51")
TABLE_3 = {
    name: dict(zip(_COLUMNS_3, accuracies, strict=True))
    for name, accuracies in {
        "none": (63.7, 74.5, 25.3, 42.8),
        "autoencoder": (66.2, 75.1, 28.6, 44.0),
        "future_predictor": (64.9, 74.9, 27.3, 43.1),
        "conditional_autoencoder": (65.8, 74.8, 27.9, 43.1),
        "conditional_future_predictor": (65.1, 74.9, 27.4, 43.4),
        "composite": (67.0, 75.8, 29.1, 44.1),
        "composite_conditional_future": (67.1, 75.8, 29.2, 44.0),
    }.items()
}

# Figure 12: accuracy of videos in %, by labelled videos per class; read off the paths of the
# figure, accurate to about 0.2. The last number of each stands for all videos of a class.
FIGURE_12 = {
    "UCF-101": {
        "videos": (1, 2, 4, 10, 20, 50, 100),
        "single frame": (22.9, 36.9, 48.1, 60.2, 65.9, 71.1, 71.8),
        "LSTM": (29.6, 41.8, 52.6, 63.7, 68.7, 73.0, 74.5),
        "LSTM, pretrained": (34.4, 45.5, 56.6, 66.8, 70.5, 74.0, 75.8),
    },
    "HMDB-51": {
        "videos": (1, 2, 4, 8, 16, 32, 64),
        "single frame": (8.7, 15.6, 20.6, 27.6, 32.2, 35.7, 38.2),
        "LSTM": (14.4, 19.8, 25.3, 31.8, 35.7, 39.6, 42.8),
        "LSTM, pretrained": (19.0, 23.7, 29.0, 34.5, 38.1, 41.2, 44.0),
    },
}


def variant(kind: str, conditional_reconstruction: bool, conditional_future: bool) -> str | None:
    """Returns the row of `TABLE_3` for such a model; None without one.

    The arguments about a decoder that the model lacks are ignored.
    """
    if kind == "composite":
        if conditional_reconstruction:
            return None
        return "composite_conditional_future" if conditional_future else kind
    reads = {"autoencoder": conditional_reconstruction, "future_predictor": conditional_future}
    if kind not in reads:
        return None
    return f"conditional_{kind}" if reads[kind] else kind


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A line of the paper's Table 4: the reported accuracies of a system.

    Attributes:
        inputs: "RGB", "flow" or "RGB + flow". system: its name.
        ucf101, hmdb51: accuracy of videos in %, None where none was reported.
        reference, title, url: of the paper about the system.
        reported_in: the source of the figures.
    """

    inputs: str
    system: str
    ucf101: float | None
    hmdb51: float | None
    reference: str
    title: str
    url: str
    reported_in: str


def table_4() -> list[Accuracy]:
    """Reads the paper's Table 4 from reported_accuracies.csv, in the order of the paper."""
    text = Path(__file__).with_name("reported_accuracies.csv").read_text(encoding="utf-8")
    return [
        Accuracy(
            **line
            | {data: float(line[data]) if line[data] else None for data in ("ucf101", "hmdb51")}
        )
        for line in csv.DictReader(text.splitlines())
    ]
