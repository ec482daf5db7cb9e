"""The paper's figures against themselves: several stand in more than one table."""

import pytest

from unsup_video.evaluation import paper
from unsup_video.models import video_models


def test_table_1_is_in_table_3_and_4():
    lstm, pretrained = paper.TABLE_1["LSTM"], paper.TABLE_1["LSTM, pretrained"]
    for data in ("UCF-101", "HMDB-51"):
        assert paper.TABLE_3["none"][data] == lstm[f"{data}, RGB"]
        assert paper.TABLE_3["composite"][data] == pretrained[f"{data}, RGB"]
    own = {line.inputs: line.ucf101 for line in paper.table_4() if line.system == "composite LSTM"}
    assert own == {"RGB": pretrained["UCF-101, RGB"], "flow": 77.7, "RGB + flow": 84.3}


@pytest.mark.parametrize(
    "data, small, first",
    [
        ("UCF-101", 10, {"LSTM": 29.6, "LSTM, pretrained": 34.3}),  # of the paper's text
        ("HMDB-51", 4, {"LSTM": 14.4, "LSTM, pretrained": 19.1}),
    ],
)
def test_figure_12_starts_and_ends_where_text_and_tables_say(data, small, first):
    curves = paper.FIGURE_12[data]
    place = curves["videos"].index(small)
    for name, row in (("LSTM", "none"), ("LSTM, pretrained", "composite")):
        figures = curves[name]
        assert len(figures) == len(curves["videos"]) == 7 and list(figures) == sorted(figures)
        assert figures[0] == pytest.approx(first[name], abs=0.11)
        assert figures[-1] == pytest.approx(paper.TABLE_3[row][data], abs=0.21)
        assert figures[place] == pytest.approx(paper.TABLE_3[row][f"{data} small"], abs=0.21)


def test_every_pretrained_variant_gains_and_the_composites_gain_most():
    for column in paper.TABLE_3["none"]:
        accuracies = {name: row[column] for name, row in paper.TABLE_3.items()}
        none = accuracies.pop("none")
        assert len(accuracies) == 6 and all(value > none for value in accuracies.values())
        assert max(accuracies, key=accuracies.get).startswith("composite")


def test_variants_of_models_are_rows_of_table_3():
    found = {
        (kind, *conditional): paper.variant(kind, *conditional)
        for kind in video_models.KINDS
        for conditional in ((False, False), (True, False), (False, True), (True, True))
    }
    assert found["composite", False, True] == "composite_conditional_future"
    assert found["composite", True, False] is found["composite", True, True] is None
    # A decoder that is not there is neither conditional nor not.
    assert found["autoencoder", False, True] == "autoencoder"
    assert found["autoencoder", True, False] == "conditional_autoencoder"
    assert found["future_predictor", True, True] == "conditional_future_predictor"
    assert set(found.values()) - {None} == set(paper.TABLE_3) - {"none"}
    assert paper.variant("lstm", False, False) is None


def test_table_4_has_its_sources():
    lines = paper.table_4()
    assert [(line.system, line.ucf101, line.hmdb51) for line in lines if line.inputs == "RGB"] == [
        ("spatial convolutional net", 73.0, 40.5),
        ("C3D", 72.3, None),
        ("C3D + fc6", 76.4, None),
        ("LRCN", 71.1, None),
        ("composite LSTM", 75.8, 44.0),
    ]
    assert [(line.ucf101, line.hmdb51) for line in lines if line.inputs != "RGB"] == [
        (83.7, 54.6),
        (77.0, None),
        (77.7, None),
        (82.9, None),
        (88.0, 59.4),
        (89.1, 65.1),
        (84.3, None),
    ]
    for line in lines:
        assert line.title and line.reference[-4:].isdecimal() and "table 4" in line.reported_in
        assert line.url.startswith("https://arxiv.org/abs/")
